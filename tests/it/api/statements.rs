//! Lists cost a constant number of statements, however many rows they have: every list of the
//! schema is queried with every field of its nodes, in a small world and in a larger one.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sortie::kernel::db::dialect::Dialect;

use crate::harness::{Kind, World};

/// Analyses of a single object, priced as such and not meant for lists: each reads and renders, or
/// counts, for that object alone.
const ANALYSES: [(&str, &str); 7] = [
    ("Campaign", "availableActions"),
    ("Campaign", "changedSinceApproval"),
    ("Campaign", "resolvedDefinition"),
    ("RunTemplate", "resolvedDefinition"),
    ("Step", "suggestions"),
    ("Run", "drift"),
    ("Import", "problems"),
];

/// The types of the schema, by name.
struct Schema(BTreeMap<String, Value>);

impl Schema {
    async fn of(world: &World) -> Self {
        let of = "name kind ofType { name kind ofType { name kind ofType { name kind } } }";
        let query = format!(
            "{{ __schema {{ types {{ name kind fields {{ name args {{ name type {{ kind }} defaultValue }} type {{ {of} }} }} }} }} }}"
        );
        let types = world.ask(&query, json!({})).await["__schema"]["types"].clone();
        let named = |of: &Value| (of["name"].as_str().unwrap().to_owned(), of.clone());
        Self(types.as_array().unwrap().iter().map(named).collect())
    }

    /// The fields of a type that need no argument, each with its type's name and kind.
    fn fields(&self, of: &str) -> Vec<(String, String, String)> {
        let mut all = Vec::new();
        for field in self.0[of]["fields"].as_array().into_iter().flatten() {
            if field["args"].as_array().unwrap().iter().any(|arg| arg["type"]["kind"] == "NON_NULL") {
                continue;
            }
            let mut of = &field["type"];
            while of["name"].is_null() {
                of = &of["ofType"];
            }
            let text = |of: &Value| of.as_str().unwrap().to_owned();
            all.push((text(&field["name"]), text(&of["name"]), text(&of["kind"])));
        }
        all
    }

    /// Selection set of a field: its scalars and enums; for a list, those of its nodes.
    fn selection(&self, of: &str, kind: &str) -> String {
        if kind != "OBJECT" {
            return String::new();
        }
        if let Some(node) = of.strip_suffix("Connection") {
            // Fields of the connection itself, beside its nodes.
            let of_itself = |(name, of, kind): (String, String, String)| match name.as_str() {
                "edges" | "nodes" | "pageInfo" => None,
                _ => Some(format!("{name}{} ", self.selection(&of, &kind))),
            };
            let total: String = self.fields(of).into_iter().filter_map(of_itself).collect();
            return format!(" {{ {total}nodes{} }}", self.selection(node, "OBJECT"));
        }
        let plain: Vec<String> = self
            .fields(of)
            .into_iter()
            .filter(|(_, _, kind)| kind == "SCALAR" || kind == "ENUM")
            .map(|(name, ..)| name)
            .collect();
        if plain.is_empty() { " { __typename }".into() } else { format!(" {{ {} }}", plain.join(" ")) }
    }
}

/// Creates a world with `count` objects of every kind.
pub(super) async fn filled(kind: Kind, count: usize) -> World {
    let world = World::without_server(kind, None).await;
    let leads = world.leads(count).await;
    for (from, to) in leads.iter().zip(leads.iter().cycle().skip(1)) {
        let link = "mutation($from: ID!, $to: ID!) { linkRecords(input: { fromId: $from, toId: $to, role: \"friend\" }) { recordLink { id } } }";
        world.ask(link, json!({ "from": from, "to": to })).await;
    }
    for i in 0..count {
        let name = |what: &str| format!("{what} {i}");
        let template = json!({ "name": name("Hello"), "subject": "Hi", "body": "Dear {{ first_name }}" });
        let mut input = json!({ "name": name("Outreach"), "channel": "EMAIL" });
        input["goalId"] = json!(world.create("goal", json!({ "name": name("Book") })).await);
        input["writerId"] = json!(world.create("writer", json!({ "name": name("House") })).await);
        input["reviewerId"] = json!(world.create("reviewer", json!({ "name": name("Duty") })).await);
        input["messageTemplateId"] = json!(world.create("messageTemplate", template).await);
        input["segmentId"] = json!(
            world.create("segment", json!({ "name": name("All"), "filter": { "kind": { "eq": "lead" } } })).await
        );
        let campaign = world.create("campaign", input).await;
        for verb in ["submitCampaign", "approveCampaign"] {
            world.act(verb, "campaign", json!({ "id": campaign })).await;
        }
        for _ in 0..2 {
            let launch =
                "mutation($id: ID!) { runCampaign(input: { campaignId: $id, evenIfOpen: true }) { run { id } } }";
            let run = world.ask(launch, json!({ "id": campaign })).await["runCampaign"]["run"]["id"].clone();
            let note = "mutation($id: ID!) { c: addRunNote(input: { runId: $id, belongsTo: CAMPAIGN, text: \"c\" }) { runNote { id } }
                g: addRunNote(input: { runId: $id, belongsTo: GOAL, text: \"g\" }) { runNote { id } } }";
            world.ask(note, json!({ "id": run })).await;
        }
        world.create("agent", json!({ "name": format!("agent-{i}") })).await;
        let yaml = "phases: [{ key: p, tasks: [{ key: t, steps: [{ key: s, type: look, assignedTo: HUMAN }] }] }]";
        world.create("runTemplate", json!({ "name": name("Look"), "yaml": yaml })).await;
        let schedule = "mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, cron: \"0 9 * * *\", timezone: \"UTC\" }) { schedule { id } } }";
        world.ask(schedule, json!({ "id": campaign })).await;
        let suppress = "mutation($a: String!) { suppressAddress(input: { channel: EMAIL, address: $a, reason: \"asked\" }) { suppression { id } } }";
        world.ask(suppress, json!({ "a": format!("gone{i}@example.com") })).await;
        world
            .ask(
                "mutation($n: String!) { createApiKey(input: { name: $n, role: ADMIN }) { apiKey { id } } }",
                json!({ "n": name("key") }),
            )
            .await;
        world.ask("mutation($e: String!) { createMember(input: { name: \"M\", email: $e, role: VIEWER }) { member { id } } }", json!({ "e": format!("m{i}@example.com") })).await;
        let save = "mutation($n: String!) { saveView(input: { page: \"runs\", name: $n, filter: {}, shared: true }) { savedView { id } } }";
        world.ask(save, json!({ "n": name("View") })).await;
        let entry = sortie::kernel::audit::Entry::new(&world.viewer, "::1".into(), "a", "createGoal", &json!({}));
        let entry = std::sync::Arc::new(entry);
        sortie::kernel::audit::record(&world.db, &entry, entity::AuditOutcome::Nothing, None).await.unwrap();
        // Guided work, with one of each action.
        let steps = json!([{ "definition": { "key": "s", "name": "S", "type": "review", "assignedTo": "HUMAN", "config": { "records": { "filter": { "kind": { "eq": "lead" } } } } } }]);
        let start = "mutation($steps: [GuidedStepInput!]) { startGuidedRun(input: { name: \"G\", steps: $steps }) { run { steps { nodes { id } } } } }";
        let step =
            world.ask(start, json!({ "steps": steps })).await["startGuidedRun"]["run"]["steps"]["nodes"][0]["id"]
                .clone();
        world.act("startStep", "step", json!({ "id": step })).await;
        let lead = world
            .ask("{ records(filter: { kind: { eq: \"lead\" } }, first: 1) { nodes { id } } }", json!({}))
            .await["records"]["nodes"][0]["id"]
            .clone();
        let work = "mutation($step: ID!, $lead: ID!) {
            addStepNote(input: { stepId: $step, text: \"n\", recordIds: [$lead] }) { step { id } }
            createStepFollowUp(input: { stepId: $step, title: \"t\", recordId: $lead }) { followUp { id } }
            updateStepStage(input: { stepId: $step, changes: [{ recordId: $lead, stage: \"a\" }] }) { step { id } }
            sendStepEmail(input: { stepId: $step, recordIds: [$lead], subject: \"s\", body: \"b\" }) { step { id } }
            scheduleStepMeeting(input: { stepId: $step, title: \"m\", startsAt: \"2026-12-01T09:00:00Z\", attendees: [{ recordId: $lead }] }) { meeting { id } }
        }";
        world.ask(work, json!({ "step": step, "lead": lead })).await;
        let csv = format!("external_id,name,email\nX-{i},Imported,x{i}@example.com\n,,\n");
        let file = std::io::Cursor::new(csv);
        sortie::domain::import::import(&world.db.write(), &world.viewer, "order", "x.csv", file, |_, _| {})
            .await
            .unwrap();
    }
    world.tick(true).await;
    // Every other run is executed, and a recipient replies.
    let reviews =
        world.ask("{ steps(filter: { statuses: [AWAITING_APPROVAL] }, first: 100) { nodes { id } } }", json!({})).await;
    for review in reviews["steps"]["nodes"].as_array().unwrap().iter().step_by(2) {
        world.act("approveStep", "step", json!({ "id": review["id"] })).await;
    }
    world.tick(true).await;
    // Some end with recipients who were not reached.
    let waiting =
        world.ask("{ runs(filter: { statuses: [IN_PROGRESS] }, first: 100) { nodes { id type } } }", json!({})).await;
    for run in waiting["runs"]["nodes"].as_array().unwrap().iter().filter(|run| run["type"] == "RUN").step_by(2) {
        world.act("cancelRun", "run", json!({ "id": run["id"] })).await;
    }
    world.tick(true).await;
    let sent =
        world.ask("{ communications(filter: { statuses: [SENT] }, first: 100) { nodes { id } } }", json!({})).await;
    for message in sent["communications"]["nodes"].as_array().unwrap() {
        let reply =
            "mutation($id: ID!) { recordReply(input: { communicationId: $id, body: \"yes\" }) { reply { id } } }";
        world.ask(reply, json!({ "id": message["id"] })).await;
    }
    for run in waiting["runs"]["nodes"].as_array().unwrap() {
        let start =
            "mutation($id: ID!) { startBulkAction(input: { verb: RESUME_RUNS, ids: [$id] }) { bulkAction { id } } }";
        world.ask(start, json!({ "id": run["id"] })).await;
    }
    world.tick(true).await;
    world.ask_all_events().await;
    world
}

/// Returns the length of a list and the number of statements that it takes. On Postgres it is the
/// minimum of a few tries, because the sequencer's statements are counted as well.
async fn cost(world: &World, query: &str, list: &str) -> (usize, u64) {
    let (mut long, mut least) = (0, u64::MAX);
    for _ in 0..if world.db.dialect() == Dialect::Postgres { 5 } else { 1 } {
        let before = world.db.statements();
        let data = world.ask(query, json!({})).await;
        long = data[list]["nodes"].as_array().unwrap().len();
        least = least.min(world.db.statements() - before);
    }
    (long, least)
}

both! {
    async fn every_list_costs_the_same_however_long(kind) {
        let (small, large) = (filled(kind, 2).await, filled(kind, 6).await);
        let schema = Schema::of(&small).await;
        let (mut asked, mut dearer, mut empty) = (0, Vec::new(), Vec::new());
        for (list, of, _) in schema.fields("Query") {
            let Some(node) = of.strip_suffix("Connection") else { continue };
            for (field, of, kind) in schema.fields(node) {
                if ANALYSES.contains(&(node, &field)) {
                    continue;
                }
                let query = format!("{{ {list}(first: 100) {{ nodes {{ {field}{} }} }} }}", schema.selection(&of, &kind));
                let (few, least) = cost(&small, &query, &list).await;
                let (many, most) = cost(&large, &query, &list).await;
                if few >= many && many < 100 {
                    empty.push(list.clone());
                }
                if most > least + 1 {
                    dearer.push(format!("{query}: {least} statements for {few}, {most} for {many}"));
                }
                asked += 1;
            }
        }
        assert!(dearer.is_empty(), "{dearer:#?}");
        assert!(empty.is_empty(), "not longer in the larger world: {empty:?}");
        assert!(asked > 150, "{asked}");
        small.drop_unchecked().await;
        large.drop_unchecked().await;
    }
}

both! {
    async fn an_answer_comes_though_the_runtime_wants_its_turn(kind) {
        let world = World::without_server(kind, None).await;
        world.leads(3).await;
        for _ in 0..20 {
            // Earlier work of this task has used up tokio's cooperative budget: the next await
            // yields once although it is ready.
            std::future::poll_fn(|cx| {
                while tokio::task::coop::has_budget_remaining() {
                    let one = std::pin::pin!(tokio::task::coop::consume_budget());
                    let _ = one.poll(cx);
                }
                std::task::Poll::Ready(())
            })
            .await;
            let data = world.ask("{ records { totalCount nodes { name communications { totalCount } } } }", json!({})).await;
            assert_eq!(data["records"]["totalCount"], 3);
        }
        world.end().await;
    }
}

//! Tenant isolation, derived from the schema itself: two orgs of the same shape, and every argument
//! or input field that takes an id, tried with the ids of the other org. The response is that for
//! an id that does not exist, and nothing of the other org appears.

pub mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use entity::member::Role;
use serde_json::{Value, json};
use sortie::kernel::viewer::Viewer;
use tokio::time::{Instant, timeout};

use self::schema::{INTROSPECTION, Schema, bare};
use crate::harness::socket::{Came, Socket};
use crate::harness::{World, key};

/// The noun of the ids that an argument of a field takes.
fn noun(field: &str, arg: &str) -> String {
    let snake = |text: &str| {
        text.chars().fold(String::new(), |mut all, c| {
            if c.is_uppercase() && !all.is_empty() {
                all.push('_');
            }
            all.push(c.to_ascii_lowercase());
            all
        })
    };
    let named = snake(arg.trim_end_matches("Ids").trim_end_matches("Id"));
    // The ends of a link.
    if ["from", "to"].contains(&named.as_str()) && arg != named {
        return "record".to_owned();
    }
    if arg != "id" && arg != "ids" {
        return named;
    }
    let nouns = [
        "bulkAction",
        "savedView",
        "runNote",
        "recordLink",
        "messageTemplate",
        "runTemplate",
        "followUp",
        "meeting",
        "agent",
        "communication",
        "suppression",
        "apiKey",
        "campaign",
        "reviewer",
        "schedule",
        "segment",
        "member",
        "record",
        "writer",
        "import",
        "phase",
        "reply",
        "step",
        "goal",
        "run",
        "task",
    ];
    let found = nouns.iter().find(|noun| field.to_lowercase().contains(&noun.to_lowercase()));
    snake(found.copied().unwrap_or(match field {
        "saveView" | "deleteView" => "savedView",
        _ if field.contains("Address") => "suppression",
        _ => "run",
    }))
}

/// The ids in an answer.
fn ids(value: &Value, all: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            let is_id = text
                .rsplit_once('_')
                .is_some_and(|(noun, id)| id.len() == 26 && noun.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            if is_id {
                all.insert(text.clone());
            }
        }
        Value::Array(items) => items.iter().for_each(|item| ids(item, all)),
        Value::Object(parts) => parts.values().for_each(|part| ids(part, all)),
        _ => {}
    }
}

/// Fills an org with an object of every noun; returns all its ids by noun.
async fn fill(world: &World) -> BTreeMap<String, Vec<String>> {
    let plan = world.plan("EMAIL", 3).await;
    world.activate(&plan).await;
    let run = world.launch(&plan).await;
    let review = world.until_review(&run).await;
    world.act("approveStep", "step", json!({ "id": review })).await;
    world.until_run(&run, "COMPLETED").await;
    let sent =
        world.ask("query($id: ID!) { run(id: $id) { communications { nodes { id } } } }", json!({ "id": run })).await;
    let reply = "mutation($id: ID!) { recordReply(input: { communicationId: $id, body: \"Yes\" }) { reply { id } } }";
    world.ask(reply, json!({ "id": sent["run"]["communications"]["nodes"][0]["id"] })).await;
    let schedule = "mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, cron: \"0 9 * * *\", timezone: \"Europe/Berlin\" }) { schedule { id } } }";
    world.ask(schedule, json!({ "id": plan.campaign })).await;
    world.ask("mutation { suppressAddress(input: { channel: EMAIL, address: \"never@example.com\", reason: \"asked\" }) { suppression { id } } }", json!({})).await;
    world.ask("mutation { createAgent(input: { name: \"drafter\" }) { agent { id } } }", json!({})).await;
    let steps = json!([{ "definition": { "key": "s", "name": "S", "type": "review", "assignedTo": "HUMAN" } }]);
    let start = "mutation($steps: [GuidedStepInput!]) { startGuidedRun(input: { name: \"G\", steps: $steps }) { run { steps { nodes { id } } } } }";
    let step =
        world.ask(start, json!({ "steps": steps })).await["startGuidedRun"]["run"]["steps"]["nodes"][0]["id"].clone();
    world.act("startStep", "step", json!({ "id": step })).await;
    let work = "mutation($step: ID!) {
        addStepNote(input: { stepId: $step, text: \"t\" }) { step { id } }
        createStepFollowUp(input: { stepId: $step, title: \"t\" }) { followUp { id } }
        scheduleStepMeeting(input: { stepId: $step, title: \"t\", startsAt: \"2026-12-01T09:00:00Z\", attendees: [{ email: \"a@example.com\" }] }) { meeting { id } }
    }";
    world.ask(work, json!({ "step": step })).await;
    let pause = "mutation($id: ID!) { startBulkAction(input: { verb: PAUSE_RUNS, ids: [$id] }) { bulkAction { id } } }";
    world.ask(pause, json!({ "id": run })).await;
    let note = "mutation($id: ID!) { addRunNote(input: { runId: $id, belongsTo: GOAL, text: \"A lesson\" }) { runNote { id } } }";
    world.ask(note, json!({ "id": run })).await;
    let link = "mutation($from: ID!, $to: ID!) { linkRecords(input: { fromId: $from, toId: $to, role: \"friend\" }) { recordLink { id } } }";
    world.ask(link, json!({ "from": plan.records[0], "to": plan.records[1] })).await;
    let save = "mutation { saveView(input: { page: \"runs\", name: \"View\", filter: {}, shared: true }) { savedView { id } } }";
    world.ask(save, json!({})).await;
    let shown = world.shown.lock().unwrap().clone().unwrap();
    let import = crate::harness::client()
        .post(format!("http://{}/import/records?kind=ticket", world.address))
        .bearer_auth(shown);
    assert_eq!(
        import.header("content-type", "text/csv").body("external_id,name\nT-1,Ticket\n").send().await.unwrap().status(),
        200
    );
    let all = "{ goals { nodes { id } } writers { nodes { id versions { nodes { id } } } } reviewers { nodes { id } } messageTemplates { nodes { id versions { nodes { id } } } } \
        segments { nodes { id } } records { nodes { id links { nodes { id } } } } campaigns { nodes { id versions { nodes { id } } } } runs { nodes { id notes { nodes { id } } phases { id tasks { id } } } } \
        communications { nodes { id } } replies { nodes { id } } schedules { nodes { id } } suppressions { nodes { id } } members { nodes { id } } apiKeys { nodes { id } } \
        imports { nodes { id } } runTemplates { nodes { id builtIn } } agents { nodes { id } } activities { nodes { id } } followUps { nodes { id } } meetings { nodes { id } } bulkActions { nodes { id } } savedViews { nodes { id } } audit { nodes { id } } viewer { orgId } }";
    let mut found = BTreeSet::new();
    ids(&world.ask(all, json!({})).await, &mut found);
    ids(&world.ask("{ steps { nodes { id } } }", json!({})).await, &mut found);
    let mut by_noun: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for id in found {
        by_noun.entry(id.rsplit_once('_').unwrap().0.to_owned()).or_default().push(id);
    }
    by_noun
}

/// Replaces the id in a response, so that responses for different ids can be compared.
fn plain(answer: &Value, id: &str) -> String {
    answer.to_string().replace(id, "ID")
}

/// First message of a subscription, or "silent" once it is established: it follows the log only
/// when nothing can be rejected any more. A live list is never silent.
async fn first(world: &World, shown: &str, document: &str, variables: Value) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    // Waits until the previous subscription has ended.
    world.followed_by(0).await;
    let mut socket = Socket::open_as(world.address, shown).await;
    assert_eq!(socket.message().await["type"], "connection_ack");
    socket.subscribe("s", document, variables).await;
    loop {
        assert!(Instant::now() < deadline, "neither refused nor standing: {document}");
        match timeout(Duration::from_millis(5), socket.came()).await {
            Ok(Came::Message(message)) if message["id"] == "s" => return message,
            Ok(Came::Message(_)) => {}
            Ok(Came::Closed(code)) => panic!("closed with {code}"),
            Err(_) if world.db.followers() > 0 && !document.contains("List(") => return json!("silent"),
            Err(_) => {}
        }
    }
}

both! {
    async fn every_place_that_takes_an_id(kind) {
        let world = World::with_auth(kind).await;
        let mut theirs = fill(&world).await;
        // The built-in org's run templates are readable by everybody; those of a third org by
        // nobody else.
        let (third, _) = sortie::domain::people::org::create(&world.db.write(), "Third", "Tom", "tom@example.com").await.unwrap();
        let third = Viewer::admin_of(&world.db, third.id, "Third").await.unwrap();
        let definition = sortie::domain::plan::run_template::standard_outreach(entity::Channel::Email);
        let fields = sortie::domain::plan::run_template::Fields {
            name: Some("Marked".into()),
            definition: Some(definition),
            ..Default::default()
        };
        let template = sortie::domain::plan::run_template::create(&world.db.write(), &third, &fields).await.unwrap();
        theirs.insert("run_template".into(), vec![template.id.to_string()]);
        let all_theirs: BTreeSet<&String> = theirs.values().flatten().collect();
        let (org, _) = sortie::domain::people::org::create(&world.db.write(), "Ours", "Olga", "olga@example.com").await.unwrap();
        let viewer = Viewer::admin_of(&world.db, org.id, "Ours").await.unwrap();
        let ours_key = key(&world.db, &viewer, Role::Admin, None).await;
        let theirs_key = world.shown.lock().unwrap().replace(ours_key.clone()).unwrap();
        let ours = fill(&world).await;
        assert_eq!(theirs.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>(), "two orgs of the same shape");
        // All texts of the other org contain a marker.
        for table in ["goal", "writer", "reviewer", "message_template", "segment", "record", "campaign", "run", "phase", "task", "step", "member", "api_key", "agent", "saved_view"] {
            world.force(&format!("UPDATE {table} SET name = 'Marked' || name WHERE org_id IN (SELECT org_id FROM suppression) AND org_id <> (SELECT id FROM org WHERE name = 'Ours')")).await;
        }
        for (table, column) in [("follow_up", "title"), ("meeting", "title"), ("activity", "summary"), ("run_note", "text")] {
            world.force(&format!("UPDATE {table} SET {column} = 'Marked' || {column} WHERE org_id <> (SELECT id FROM org WHERE name = 'Ours')")).await;
        }
        let data = world.ask(INTROSPECTION, json!({})).await;
        let types = data["__schema"]["types"].as_array().unwrap().iter().map(|of| (of["name"].as_str().unwrap().to_owned(), of.clone()));
        let schema = Schema(types.collect());
        let (mut places, mut asked) = (0, 0);
        for (root, word) in [("Query", "query"), ("Mutation", "mutation"), ("Subscription", "subscription")] {
            for field in schema.of(root)["fields"].as_array().unwrap() {
                let name = field["name"].as_str().unwrap();
                let mut found = Vec::new();
                for arg in field["args"].as_array().unwrap() {
                    schema.places(&arg["type"], &[arg["name"].as_str().unwrap().to_owned()], &mut Vec::new(), &mut found);
                }
                for place in found {
                    places += 1;
                    let own = |arg: &str| {
                        let noun = noun(name, arg);
                        json!(ours.get(&noun).unwrap_or_else(|| panic!("{name}.{arg}: which noun is {noun}?"))[0])
                    };
                    let mut reached = false;
                    for (noun, foreign) in &theirs {
                        let foreign = foreign.last().unwrap();
                        let nobody = format!("{noun}_01h455vb4pex5vsknk084sn02q");
                        let mut told = Vec::new();
                        for id in [foreign, &nobody] {
                            let (document, variables) = schema.document(word, field, &place, id, &own);
                            asked += 1;
                            let answer = match word {
                                "subscription" => first(&world, &ours_key, &document, variables).await,
                                _ => world.post(&document, variables).await,
                            };
                            let text = answer.to_string();
                            assert!(!text.contains("Marked"), "{name} {place:?} with {id} tells of the other org: {text}");
                            let mut shown = BTreeSet::new();
                            ids(&answer, &mut shown);
                            shown.remove(id);
                            let leaked: Vec<_> = shown.iter().filter(|id| all_theirs.contains(id)).collect();
                            assert!(leaked.is_empty(), "{name} {place:?} with {id} shows {leaked:?}");
                            let wrong = text.contains("is not the id of") || text.contains("is not a valid id");
                            reached |= !wrong;
                            assert!(!text.contains("INTERNAL"), "{name} {place:?} with {id}: {text}");
                            assert!(!text.contains("Unknown") && !text.contains("Invalid value"), "{document}: {text}");
                            told.push(plain(&answer, id));
                        }
                        // A created object has a new id and time: there it is enough that nothing
                        // of the other org appears.
                        if !told[1].contains("\"data\":{") || word == "query" {
                            assert_eq!(told[0], told[1], "{name} {place:?} with {noun}");
                        }
                    }
                    assert!(reached, "{name} {place:?}: no noun's id is one that it takes");
                }
            }
        }
        println!("{kind:?}: {places} places that take an id, {asked} questions");
        assert!(places > 90, "{places}");

        // The other org's cursors, in every list; and its idempotency keys.
        for field in schema.of("Query")["fields"].as_array().unwrap() {
            let name = field["name"].as_str().unwrap();
            if !bare(&field["type"]).ends_with("Connection") {
                continue;
            }
            let document = format!("query($after: String) {{ {name}(first: 1, after: $after) {{ pageInfo {{ endCursor }} nodes {{ __typename }} edges {{ cursor node{} }} }} }}", schema.selection(bare(&field["type"]).trim_end_matches("Connection"), 1));
            let (_, page) = world.post_as(&theirs_key, &document, json!({})).await;
            let cursor = page["data"][name]["pageInfo"]["endCursor"].clone();
            assert!(cursor.is_string(), "{document}: {page:#}");
            let answer = world.post(&document, json!({ "after": cursor })).await;
            let mut shown = BTreeSet::new();
            ids(&answer, &mut shown);
            assert!(!answer.to_string().contains("Marked") && !shown.iter().any(|id| all_theirs.contains(id)), "{name}: {answer:#}");
        }
        let create = "mutation { createGoal(input: { name: \"Shared\", idempotencyKey: \"shared\" }) { goal { id name } } }";
        let (_, first) = world.post_as(&theirs_key, create, json!({})).await;
        let second = world.post(create, json!({})).await;
        assert!(second["errors"].is_null() && first["data"]["createGoal"]["goal"]["id"] != second["data"]["createGoal"]["goal"]["id"]);

        // The other org's events are not delivered here, from any cursor.
        let mut socket = Socket::open_as(world.address, &ours_key).await;
        assert_eq!(socket.message().await["type"], "connection_ack");
        for (id, query) in [
            ("all", "subscription($after: String) { events(after: $after) { cursor campaignId runId recordId payload actor { name } } }"),
            ("runs", "subscription($after: String) { runStatusChanged(after: $after) { runId name run { name } } }"),
            ("steps", "subscription($after: String) { stepStatusChanged(after: $after) { stepId step { name } } }"),
        ] {
            socket.subscribe(id, query, json!({ "after": crate::harness::cursor::at(0) })).await;
        }
        world.post_as(&theirs_key, "mutation { createRecord(input: { kind: \"lead\", name: \"Marked\" }) { record { id } } }", json!({})).await;
        let last = world.create("record", json!({ "kind": "lead", "name": "The last" })).await;
        loop {
            let message = socket.message().await;
            let mut shown = BTreeSet::new();
            ids(&message, &mut shown);
            assert!(!message.to_string().contains("Marked") && !shown.iter().any(|id| all_theirs.contains(id)), "{message:#}");
            if message["id"] == "all" && shown.contains(&last) {
                break;
            }
        }
        world.drop_unchecked().await;
    }
}

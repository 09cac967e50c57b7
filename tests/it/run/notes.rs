//! Notes about runs: what they may belong to, who changes them, their lists on runs, campaigns and
//! goals, and their events.

use std::collections::BTreeSet;

use entity::id::OrgId;
use entity::member::Role;
use entity::run_note::RunNoteSubject;
use serde_json::{Value, json};
use sortie::domain::run::note::{self, NotesOf};
use sortie::kernel::page::Args;
use sortie::kernel::viewer::Viewer;

use crate::harness::World;

const ADD: &str = "mutation($input: AddRunNoteInput!) { addRunNote(input: $input) { runNote {
    id run { id } campaign { id } goal { id } belongsTo text createdBy { name kind } createdAt updatedAt revision } } }";
const UPDATE: &str =
    "mutation($input: UpdateRunNoteInput!) { updateRunNote(input: $input) { runNote { id belongsTo text revision } } }";
const DELETE: &str = "mutation($input: DeleteInput!) { deleteRunNote(input: $input) { deletedId } }";
const ONE: &str = "query($id: ID!) { runNote(id: $id) { text } node(id: $id) { __typename id } }";
const OF_RUN: &str =
    "query($id: ID!, $first: Int, $after: String) { run(id: $id) { notes(first: $first, after: $after) {
    totalCount nodes { id text } pageInfo { hasNextPage endCursor } } } }";

async fn add(world: &World, run: &str, belongs_to: &str, text: &str) -> Value {
    let input = json!({ "runId": run, "belongsTo": belongs_to, "text": text });
    world.ask(ADD, json!({ "input": input })).await["addRunNote"]["runNote"].clone()
}

/// Extensions of the first error.
async fn refused(world: &World, query: &str, input: Value) -> Value {
    let answer = world.post(query, json!({ "input": input })).await;
    assert!(answer["errors"][0].is_object(), "{input} was not refused: {answer:#}");
    answer["errors"][0]["extensions"].clone()
}

fn texts(list: &Value) -> Vec<&str> {
    list["nodes"]
        .as_array()
        .unwrap_or_else(|| panic!("{list:#}"))
        .iter()
        .map(|note| note["text"].as_str().unwrap())
        .collect()
}

/// Launches a campaign, which has a goal; returns the run, the campaign and the goal.
async fn launched(world: &World) -> (String, String, String) {
    let plan = world.plan("EMAIL", 1).await;
    world.activate(&plan).await;
    let run = world.launch(&plan).await;
    let of = world.ask("query($id: ID!) { campaign(id: $id) { goal { id } } }", json!({ "id": plan.campaign })).await;
    (run, plan.campaign, of["campaign"]["goal"]["id"].as_str().unwrap().to_owned())
}

async fn guided(world: &World) -> String {
    let steps = json!([{ "definition": { "key": "s", "name": "S", "type": "review", "assignedTo": "HUMAN" } }]);
    let start =
        "mutation($steps: [GuidedStepInput!]) { startGuidedRun(input: { name: \"G\", steps: $steps }) { run { id } } }";
    world.ask(start, json!({ "steps": steps })).await["startGuidedRun"]["run"]["id"].as_str().unwrap().to_owned()
}

both! {
    async fn a_note_is_added_changed_and_deleted(kind) {
        let world = World::without_server(kind, None).await;
        let (run, campaign, goal) = launched(&world).await;
        let text = "  \u{1f6e9}\u{fe0f} Zu spät\u{301} gestartet:\r\n\tמחר יותר מוקדם.\n\nEnd  ";
        let note = add(&world, &run, "GOAL", text).await;
        assert_eq!((&note["text"], &note["belongsTo"], &note["revision"]), (&json!(text), &json!("GOAL"), &json!(1)));
        assert_eq!((&note["run"]["id"], &note["campaign"]["id"], &note["goal"]["id"]), (&json!(run), &json!(campaign), &json!(goal)));
        assert_eq!(note["createdBy"]["kind"], "MEMBER");
        let id = note["id"].clone();
        assert!(id.as_str().unwrap().starts_with("run_note_"));
        let one = world.ask(ONE, json!({ "id": id })).await;
        assert_eq!(one, json!({ "runNote": { "text": text }, "node": { "__typename": "RunNote", "id": id } }));
        let update = async |input: Value| world.ask(UPDATE, json!({ "input": input })).await["updateRunNote"]["runNote"].clone();
        // Omitted and null both leave a field as it is.
        for input in [json!({ "id": id }), json!({ "id": id, "text": null, "belongsTo": null }), json!({ "id": id, "text": text, "belongsTo": "GOAL" })] {
            assert_eq!(update(input.clone()).await["revision"], 1, "{input}");
        }
        let now = update(json!({ "id": id, "belongsTo": "CAMPAIGN", "expectedRevision": 1 })).await;
        assert_eq!(now, json!({ "id": id, "belongsTo": "CAMPAIGN", "text": text, "revision": 2 }));
        assert_eq!(update(json!({ "id": id, "text": "Short" })).await["belongsTo"], "CAMPAIGN");
        assert_eq!(refused(&world, UPDATE, json!({ "id": id, "text": "X", "expectedRevision": 2 })).await["code"], "CONFLICT");
        assert_eq!(refused(&world, DELETE, json!({ "id": id, "expectedRevision": 2 })).await["code"], "CONFLICT");
        let deleted = world.ask(DELETE, json!({ "input": { "id": id, "expectedRevision": 3 } })).await;
        assert_eq!(deleted["deleteRunNote"]["deletedId"], id);
        assert_eq!(world.ask(ONE, json!({ "id": id })).await, json!({ "runNote": null, "node": null }));
        for query in [UPDATE, DELETE] {
            assert_eq!(refused(&world, query, json!({ "id": id })).await["code"], "NOT_FOUND");
        }
        // The log tells it all, also as part of the run's and the campaign's events.
        let query = "query($run: ID!, $campaign: ID!) { events(filter: { kinds: [\"run_note.*\"] }) { nodes { kind runId campaignId payload } }
            run(id: $run) { events(first: 500) { nodes { kind } } } campaign(id: $campaign) { events(first: 500) { nodes { kind } } } }";
        let told = world.ask(query, json!({ "run": run, "campaign": campaign })).await;
        let all = told["events"]["nodes"].as_array().unwrap();
        let kinds: Vec<&str> = all.iter().map(|event| event["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["run_note.created", "run_note.updated", "run_note.updated", "run_note.deleted"]);
        for event in all {
            assert_eq!((&event["runId"], &event["campaignId"], &event["payload"]["runNoteId"]), (&json!(run), &json!(campaign), &id));
        }
        assert_eq!((&all[1]["payload"]["formerlyBelongedTo"], &all[1]["payload"]["belongsTo"]), (&json!("GOAL"), &json!("CAMPAIGN")));
        assert_eq!(all[0]["payload"]["summary"], "\u{1f6e9}\u{fe0f} Zu spät\u{301} gestartet:");
        for of in ["run", "campaign"] {
            let of = told[of]["events"]["nodes"].as_array().unwrap();
            assert_eq!(of.iter().filter(|event| event["kind"].as_str().unwrap().starts_with("run_note.")).count(), 4);
        }
        world.end().await;
    }
}

both! {
    async fn a_wrong_field_is_named(kind) {
        let world = World::without_server(kind, None).await;
        let (run, ..) = launched(&world).await;
        let (guided, note) = (guided(&world).await, add(&world, &run, "EXECUTION", "x").await["id"].clone());
        for (query, input, field) in [
            (ADD, json!({ "runId": run, "belongsTo": "EXECUTION", "text": "" }), "text"),
            (ADD, json!({ "runId": run, "belongsTo": "EXECUTION", "text": " \n\u{200b}" }), "text"),
            (ADD, json!({ "runId": run, "belongsTo": "EXECUTION", "text": "a\u{0}b" }), "text"),
            (ADD, json!({ "runId": run, "belongsTo": "EXECUTION", "text": "ü".repeat(10_001) }), "text"),
            (ADD, json!({ "runId": "goal_01h455vb4pex5vsknk084sn02q", "belongsTo": "EXECUTION", "text": "x" }), "runId"),
            (ADD, json!({ "runId": guided, "belongsTo": "CAMPAIGN", "text": "x" }), "belongsTo"),
            (ADD, json!({ "runId": guided, "belongsTo": "GOAL", "text": "x" }), "belongsTo"),
            (UPDATE, json!({ "id": note, "text": "\n" }), "text"),
            (UPDATE, json!({ "id": run }), "id"),
        ] {
            let told = refused(&world, query, input.clone()).await;
            assert_eq!((&told["code"], &told["field"]), (&json!("BAD_USER_INPUT"), &json!(field)), "{input}");
        }
        let nobody = json!({ "runId": "run_01h455vb4pex5vsknk084sn02q", "belongsTo": "EXECUTION", "text": "x" });
        assert_eq!(refused(&world, ADD, nobody).await["code"], "NOT_FOUND");
        // Guided work has notes of its own.
        let own = add(&world, &guided, "EXECUTION", &"ü".repeat(10_000)).await;
        assert_eq!((&own["campaign"], &own["goal"]), (&json!(null), &json!(null)));
        assert_eq!(refused(&world, UPDATE, json!({ "id": own["id"], "belongsTo": "GOAL" })).await["field"], "belongsTo");
        world.end().await;
    }
}

both! {
    async fn campaigns_and_goals_list_what_belongs_to_them(kind) {
        let world = World::without_server(kind, None).await;
        let (run, campaign, goal) = launched(&world).await;
        let again = "mutation($id: ID!) { runCampaign(input: { campaignId: $id, evenIfOpen: true }) { run { id } } }";
        let second = world.ask(again, json!({ "id": campaign })).await["runCampaign"]["run"]["id"].as_str().unwrap().to_owned();
        for (nth, of) in [&run, &second, &run].into_iter().enumerate() {
            for belongs_to in ["CAMPAIGN", "GOAL", "EXECUTION"] {
                add(&world, of, belongs_to, &format!("{belongs_to} {nth}")).await;
            }
        }
        let query = "query($run: ID!, $campaign: ID!, $goal: ID!) {
            run(id: $run) { notes { totalCount nodes { text } } }
            campaign(id: $campaign) { notes { totalCount nodes { text run { id } } } }
            goal(id: $goal) { notes { totalCount nodes { text run { id } } } } }";
        let found = world.ask(query, json!({ "run": run, "campaign": campaign, "goal": goal })).await;
        assert_eq!(texts(&found["run"]["notes"]), ["EXECUTION 2", "GOAL 2", "CAMPAIGN 2", "EXECUTION 0", "GOAL 0", "CAMPAIGN 0"]);
        assert_eq!(texts(&found["campaign"]["notes"]), ["CAMPAIGN 2", "CAMPAIGN 1", "CAMPAIGN 0"]);
        assert_eq!(texts(&found["goal"]["notes"]), ["GOAL 2", "GOAL 1", "GOAL 0"]);
        assert_eq!((&found["run"]["notes"]["totalCount"], &found["goal"]["notes"]["totalCount"]), (&json!(6), &json!(3)));
        // In lists, each has its own, and a page is a page of each.
        let other = world.create("goal", json!({ "name": "Other" })).await;
        let lists = world.ask("{ goals { nodes { id notes(first: 1) { totalCount nodes { text } } } } runs { nodes { id notes(first: 2) { nodes { text } pageInfo { hasNextPage } } } } }", json!({})).await;
        let of = |list: &str, id: &str| lists[list]["nodes"].as_array().unwrap().iter().find(|one| one["id"] == id).unwrap()["notes"].clone();
        assert_eq!((texts(&of("goals", &goal)), texts(&of("goals", &other))), (vec!["GOAL 2"], vec![]));
        assert_eq!(texts(&of("runs", &second)), ["EXECUTION 1", "GOAL 1"]);
        assert_eq!(of("runs", &second)["pageInfo"]["hasNextPage"], true);
        // Another goal of the campaign does not take them along.
        let update = "mutation($input: UpdateCampaignInput!) { updateCampaign(input: $input) { campaign { id } } }";
        world.ask(update, json!({ "input": { "id": campaign, "goalId": other } })).await;
        let found = world.ask(query, json!({ "run": run, "campaign": campaign, "goal": other })).await;
        assert_eq!(texts(&found["goal"]["notes"]), Vec::<&str>::new());
        assert_eq!(texts(&found["campaign"]["notes"]).len(), 3);
        // What has notes about its runs is not deleted with them.
        let delete = "mutation($id: ID!) { deleteCampaign(input: { id: $id }) { deletedId } }";
        assert_eq!(world.refused(delete, json!({ "id": campaign })).await.0, "CONFLICT");
        // A goal that no campaign has now can be deleted; the notes stay with their runs.
        world.ask("mutation($id: ID!) { deleteGoal(input: { id: $id }) { deletedId } }", json!({ "id": goal })).await;
        let left = world.ask("query($run: ID!) { run(id: $run) { notes(first: 2) { nodes { text belongsTo goal { id } } } } }", json!({ "run": run })).await;
        assert_eq!(left["run"]["notes"]["nodes"][1], json!({ "text": "GOAL 2", "belongsTo": "GOAL", "goal": null }));
        world.end().await;
    }
}

both! {
    async fn a_scheduled_runs_notes_get_its_goal(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let schedule = "mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, at: \"2026-11-03T12:00:00Z\" }) { run { id } } }";
        let run = world.ask(schedule, json!({ "id": plan.campaign })).await["scheduleCampaign"]["run"]["id"].as_str().unwrap().to_owned();
        let before = add(&world, &run, "GOAL", "For the goal").await["goal"]["id"].clone();
        let other = world.create("goal", json!({ "name": "Other" })).await;
        let update = "mutation($input: UpdateCampaignInput!) { updateCampaign(input: $input) { campaign { status } } }";
        world.ask(update, json!({ "input": { "id": plan.campaign, "goalId": other } })).await;
        world.post("mutation($id: ID!) { submitCampaign(input: { id: $id }) { campaign { id } } }", json!({ "id": plan.campaign })).await;
        world.post("mutation($id: ID!) { approveCampaign(input: { id: $id }) { campaign { id } } }", json!({ "id": plan.campaign })).await;
        world.clock.set("2026-11-03T12:00:01Z".parse().unwrap());
        world.tick(false).await;
        let found = world.ask("query($id: ID!) { run(id: $id) { instructions { goal { id } } notes { nodes { goal { id } } } } }", json!({ "id": run })).await;
        assert_ne!(before, json!(other));
        assert_eq!(found["run"]["instructions"]["goal"]["id"], json!(other), "{found:#}");
        assert_eq!(found["run"]["notes"]["nodes"][0]["goal"]["id"], json!(other));
        world.end().await;
    }
}

both! {
    async fn roles_and_authors(kind) {
        let world = World::with_auth(kind).await;
        let (run, ..) = launched(&world).await;
        let (viewer, one, two) = (world.key(Role::Viewer).await, world.key(Role::Operator).await, world.key(Role::Operator).await);
        let manager = world.key(Role::Manager).await;
        let ask = async |key: &str, query: &str, input: Value| world.post_as(key, query, json!({ "input": input })).await.1;
        let input = json!({ "runId": run, "belongsTo": "EXECUTION", "text": "x" });
        assert_eq!(ask(&viewer, ADD, input.clone()).await["errors"][0]["extensions"]["code"], "FORBIDDEN");
        let id = ask(&one, ADD, input).await["data"]["addRunNote"]["runNote"]["id"].clone();
        assert_eq!(world.post_as(&viewer, ONE, json!({ "id": id })).await.1["data"]["runNote"]["text"], "x");
        for query in [UPDATE, DELETE] {
            let refused = ask(&two, query, json!({ "id": id })).await["errors"][0]["extensions"].clone();
            assert_eq!((&refused["code"], &refused["needed"]), (&json!("FORBIDDEN"), &json!("MANAGER")));
        }
        for (key, text) in [(&one, "y"), (&manager, "z")] {
            let changed = ask(key, UPDATE, json!({ "id": id, "text": text })).await;
            assert_eq!(changed["data"]["updateRunNote"]["runNote"]["text"], text, "{changed:#}");
        }
        assert_eq!(ask(&one, DELETE, json!({ "id": id })).await["data"]["deleteRunNote"]["deletedId"], id);
        world.end().await;
    }
}

both! {
    async fn another_org_sees_none(kind) {
        let world = World::without_server(kind, None).await;
        let (run, ..) = launched(&world).await;
        let made = add(&world, &run, "CAMPAIGN", "Ours").await["id"].as_str().unwrap().parse().unwrap();
        let other = Viewer::admin_of(&world.db, OrgId::new(), "Other").await.unwrap();
        assert!(note::find(world.db.read(), &other, made).await.unwrap().is_none());
        let run = run.parse().unwrap();
        let page = note::window(&other, NotesOf::Run(run), Args::default()).unwrap().read(world.db.read()).await.unwrap();
        assert!(page.rows.is_empty());
        let db = world.db.write();
        assert!(note::add(&db, &other, run, RunNoteSubject::Execution, "x").await.is_err());
        assert!(note::update(&db, &other, made, None, &note::Changes::default()).await.is_err());
        assert!(note::delete(&db, &other, made, None).await.is_err());
        assert_eq!(world.number("SELECT COUNT(*) FROM run_note").await, 1);
        world.end().await;
    }
}

both! {
    async fn pages_of_any_length(kind) {
        let world = World::without_server(kind, None).await;
        let (run, ..) = launched(&world).await;
        let (id, mut made) = (run.parse().unwrap(), 0);
        for count in [0, 1, 499, 501, 2_000] {
            for i in made..count {
                note::add(&world.db.write(), &world.viewer, id, RunNoteSubject::Execution, &format!("{i:04}")).await.unwrap();
            }
            made = count;
            let first = world.ask(OF_RUN, json!({ "id": run, "first": 500 })).await["run"]["notes"].clone();
            let all: Vec<String> = texts(&first).into_iter().map(str::to_owned).collect();
            assert_eq!((all.len(), &first["totalCount"]), (count.min(500), &json!(count)));
            assert!(all.iter().rev().is_sorted(), "newest first");
            assert_eq!(first["pageInfo"]["hasNextPage"], count > 500);
            let (mut seen, mut page) = (BTreeSet::from_iter(all), first);
            while page["pageInfo"]["hasNextPage"] == true {
                let next = json!({ "id": run, "first": 500, "after": page["pageInfo"]["endCursor"] });
                page = world.ask(OF_RUN, next).await["run"]["notes"].clone();
                seen.extend(texts(&page).into_iter().map(str::to_owned));
            }
            assert_eq!(seen.len(), count);
        }
        let told = refused(&world, ADD, json!({ "runId": run, "belongsTo": "EXECUTION", "text": "x" })).await;
        assert_eq!((&told["code"], &told["field"]), (&json!("LIMIT_EXCEEDED"), &json!("runId")));
        world.end().await;
    }
}

both! {
    async fn twins_at_once_have_one_effect(kind) {
        let world = std::sync::Arc::new(World::new(kind).await);
        let (run, ..) = launched(&world).await;
        let mut twins = tokio::task::JoinSet::new();
        for i in 0..12 {
            let world = world.clone();
            let input = json!({ "runId": run, "belongsTo": "GOAL", "text": format!("{}", i % 2), "idempotencyKey": format!("twin {}", i % 2) });
            twins.spawn(async move { world.ask(ADD, json!({ "input": input })).await["addRunNote"]["runNote"].clone() });
        }
        let mut made = BTreeSet::new();
        while let Some(note) = twins.join_next().await {
            let note = note.unwrap();
            made.insert((note["text"].to_string(), note["id"].to_string()));
        }
        assert_eq!(made.len(), 2, "{made:?}");
        assert_eq!(world.number("SELECT COUNT(*) FROM event WHERE kind = 'run_note.created'").await, 2);
        let Ok(world) = std::sync::Arc::try_unwrap(world) else { panic!("still shared") };
        world.end().await;
    }
}

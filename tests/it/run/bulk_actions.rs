//! Bulk actions: any number of targets, each with the result of the single mutation; stopped, taken
//! over from a killed process, and invisible to other orgs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use async_graphql::parser::types::OperationType;
use entity::BulkVerb;
use entity::id::{BulkActionId, OrgId, StepId};
use serde_json::{Value, json};
use sortie::domain::bulk_action::apply::{self, BulkLease};
use sortie::domain::bulk_action::needed_role;
use sortie::engine::bulk_actions;
use sortie::graphql::{role, with_viewer};
use sortie::kernel::error::Error;
use sortie::kernel::viewer::Viewer;

use crate::harness::life::Home;
use crate::harness::sink::{Sink, Stage};
use crate::harness::socket::Socket;
use crate::harness::{World, noon};

const START: &str = "mutation($input: StartBulkActionInput!) { startBulkAction(input: $input) {
    bulkAction { id verb status matched notDone createdBy { name } results { totalCount } }
    dryRun { matched checked wouldDo refused sample { targetId code message } } } }";
const STOP: &str = "mutation($id: ID!) { stopBulkAction(input: { id: $id }) { bulkAction { status endedAt } } }";
const SHOW: &str = "query($id: ID!, $after: String) { bulkAction(id: $id) {
    verb status matched done refused failed notDone reason filter startedAt endedAt revision
    assignee { id } availableActions { action allowed }
    results(first: 500, after: $after) { totalCount pageInfo { hasNextPage endCursor }
        nodes { sequence targetId status code message run { id } step { id } } } } }";

/// Starts a bulk action; returns its id.
async fn start(world: &World, input: Value) -> String {
    let started = world.ask(START, json!({ "input": input })).await["startBulkAction"].clone();
    assert_eq!(
        (&started["bulkAction"]["status"], &started["dryRun"]),
        (&json!("PENDING"), &Value::Null),
        "{started:#}"
    );
    assert_eq!(started["bulkAction"]["matched"], started["bulkAction"]["results"]["totalCount"]);
    started["bulkAction"]["id"].as_str().unwrap().to_owned()
}

async fn dry(world: &World, mut input: Value) -> Value {
    input["dryRun"] = json!(true);
    let events = world.ask_all_events().await.len();
    let found = world.ask(START, json!({ "input": input })).await["startBulkAction"].clone();
    assert_eq!(found["bulkAction"], Value::Null);
    assert_eq!(world.ask_all_events().await.len(), events, "a dry run changes nothing");
    found["dryRun"].clone()
}

/// A bulk action, and all its results.
async fn show(world: &World, id: &str) -> (Value, Vec<Value>) {
    let (mut results, mut after) = (Vec::new(), Value::Null);
    loop {
        let mut found = world.ask(SHOW, json!({ "id": id, "after": after })).await["bulkAction"].clone();
        let page = found["results"].take();
        results.extend(page["nodes"].as_array().unwrap().iter().cloned());
        if page["pageInfo"]["hasNextPage"] != true {
            assert_eq!(page["totalCount"], results.len());
            return (found, results);
        }
        after = page["pageInfo"]["endCursor"].clone();
    }
}

/// Performs a bulk action to its end: its results are what a dry run says.
async fn finish(world: &World, input: Value) -> (Value, Vec<Value>) {
    let expected = dry(world, input.clone()).await;
    let id = start(world, input).await;
    world.tick(false).await;
    let (found, results) = show(world, &id).await;
    assert_eq!((&found["status"], &found["notDone"]), (&json!("COMPLETED"), &json!(0)), "{found:#}");
    let counts = [&found["matched"], &found["done"], &found["refused"], &found["failed"]];
    assert_eq!(counts, [&expected["matched"], &expected["wouldDo"], &expected["refused"], &json!(0)], "{results:#?}");
    let refused: Vec<_> = results.iter().filter(|one| one["status"] == "REFUSED").take(20).collect();
    let sample: Vec<_> = expected["sample"].as_array().unwrap().iter().collect();
    let plain = |all: &[&Value]| -> Vec<(Value, Value)> {
        all.iter().map(|one| (one["targetId"].clone(), one["code"].clone())).collect()
    };
    assert_eq!(plain(&refused), plain(&sample));
    (found, results)
}

/// Starts guided runs of one step; returns the ids of the runs and of the steps, in order.
async fn sessions(world: &World, count: usize) -> (Vec<String>, Vec<String>) {
    let mut all = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (run, steps) = world.own_run(&[("a", "custom", json!({}))], json!({})).await;
        all.0.push(run);
        all.1.extend(steps);
    }
    all
}

async fn runs_in(world: &World, status: &str) -> i64 {
    world.number(&format!("SELECT COUNT(*) FROM run WHERE status = '{status}'")).await
}

both! {
    async fn any_number_of_targets(kind) {
        let world = World::without_server(kind, None).await;
        let (mut runs, mut steps) = (Vec::<String>::new(), Vec::<String>::new());
        for size in [0, 1, 499, 501] {
            let more = sessions(&world, size - runs.len()).await;
            runs.extend(more.0);
            steps.extend(more.1);
            let before = world.ask_all_events().await.len();
            let (paused, results) = finish(&world, json!({ "verb": "PAUSE_RUNS", "runFilter": { "types": ["GUIDED"], "not": { "ids": [] } }, "reason": "a holiday" })).await;
            assert_eq!((&paused["done"], &paused["filter"]), (&json!(size), &json!({ "types": ["GUIDED"], "not": { "ids": [] } })));
            assert_eq!(runs_in(&world, "PAUSED").await, size as i64);
            let targets: Vec<&str> = results.iter().map(|one| one["targetId"].as_str().unwrap()).collect();
            assert_eq!(targets, runs, "in the order of their ids");
            for (i, one) in results.iter().enumerate() {
                assert_eq!((&one["sequence"], &one["status"], &one["run"]["id"], &one["step"]), (&json!(i + 1), &json!("DONE"), &one["targetId"], &Value::Null));
            }
            // One event per turn, with the counts at that time; each run has the reason.
            let events = world.ask_all_events().await.split_off(before);
            let of = |kind: &str| -> Vec<&Value> { events.iter().filter(|event| event["kind"] == kind).map(|event| &event["payload"]).collect() };
            let progressed: Vec<i64> = of("bulk_action.progressed").iter().map(|payload| payload["done"].as_i64().unwrap()).collect();
            let expected: Vec<i64> = (1..).map(|turn| turn * 100).take_while(|done| *done < size as i64).collect();
            assert_eq!(progressed, expected);
            assert_eq!((of("bulk_action.started").len(), of("bulk_action.completed").len(), of("run.paused").len()), (1, 1, size));
            assert!(of("run.paused").iter().all(|payload| payload["reason"] == "a holiday"));
            // By ids, some of them given twice.
            let twice: Vec<&String> = runs.iter().chain(runs.iter().take(2)).collect();
            let (resumed, _) = finish(&world, json!({ "verb": "RESUME_RUNS", "ids": twice })).await;
            assert_eq!((&resumed["done"], &resumed["filter"]), (&json!(size), &Value::Null));
            assert_eq!(runs_in(&world, "IN_PROGRESS").await, size as i64);
        }
        let (assigned, _) = finish(&world, json!({ "verb": "ASSIGN_STEPS", "stepFilter": { "statuses": ["PENDING"] }, "assigneeId": world.viewer.member_id().unwrap().to_string() })).await;
        assert_eq!((&assigned["done"], &assigned["assignee"]["id"]), (&json!(501), &json!(world.viewer.member_id().unwrap().to_string())));
        let (nobody, _) = finish(&world, json!({ "verb": "ASSIGN_STEPS", "stepFilter": { "mine": true }, "assigneeId": null })).await;
        assert_eq!((&nobody["done"], &nobody["assignee"]), (&json!(501), &Value::Null));
        assert_eq!(world.number("SELECT COUNT(*) FROM step WHERE assignee_id IS NOT NULL").await, 0);
        // The first half by ids; then the filter matches the rest and those that were skipped.
        finish(&world, json!({ "verb": "SKIP_STEPS", "ids": steps[..250] })).await;
        let all = json!({ "verb": "SKIP_STEPS", "stepFilter": { "types": ["custom"] }, "reason": "over" });
        let (skipped, results) = finish(&world, all).await;
        assert_eq!((&skipped["done"], &skipped["refused"]), (&json!(251), &json!(250)));
        assert!(results.iter().all(|one| one["step"]["id"] == one["targetId"] && (one["status"] == "DONE") == one["code"].is_null()));
        // Cancelling what is cancelled succeeds, as by the single mutation.
        for _ in 0..2 {
            assert_eq!(finish(&world, json!({ "verb": "CANCEL_RUNS", "runFilter": { "all": true } })).await.0["done"], 501);
        }
        let listed = world.ask("{ bulkActions(first: 3) { totalCount nodes { verb } pageInfo { endCursor } } open: bulkActions(statuses: [PENDING, RUNNING]) { totalCount } }", json!({})).await;
        assert_eq!((&listed["bulkActions"]["totalCount"], &listed["open"]["totalCount"]), (&json!(14), &json!(0)));
        assert_eq!(listed["bulkActions"]["nodes"], json!([{ "verb": "CANCEL_RUNS" }, { "verb": "CANCEL_RUNS" }, { "verb": "SKIP_STEPS" }]));
        let next = world.ask("query($after: String) { bulkActions(first: 1, after: $after) { nodes { verb } } }", json!({ "after": listed["bulkActions"]["pageInfo"]["endCursor"] })).await;
        assert_eq!(next["bulkActions"]["nodes"], json!([{ "verb": "SKIP_STEPS" }]));
        world.end().await;
    }
}

both! {
    async fn approvals_rejections_and_retries(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        let mut runs = Vec::new();
        for _ in 0..4 {
            runs.push(world.launch(&plan).await);
            world.tick(true).await;
        }
        let reviews = json!({ "types": ["review_messages"], "runIds": runs[..2] });
        let rejected = json!({ "verb": "REJECT_STEPS", "ids": [world.until_review(&runs[2]).await], "reason": "too long" });
        assert_eq!(finish(&world, rejected.clone()).await.0["done"], 1);
        let (approved, _) = finish(&world, json!({ "verb": "APPROVE_STEPS", "stepFilter": reviews })).await;
        assert_eq!(approved["done"], 2);
        world.tick(true).await;
        assert_eq!(runs_in(&world, "COMPLETED").await, 2);
        // What was approved can't be approved again, nor can a run be retried that has reached everybody.
        let (again, results) = finish(&world, json!({ "verb": "APPROVE_STEPS", "stepFilter": reviews })).await;
        assert_eq!((&again["refused"], &results[0]["code"]), (&json!(2), &json!("INVALID_TRANSITION")));
        let nobody = "run_01h455vb4pex5vsknk084sn02q";
        let (retried, results) = finish(&world, json!({ "verb": "RETRY_RUNS", "ids": [runs[0], runs[3], nobody] })).await;
        let codes: Vec<&Value> = results.iter().map(|one| &one["code"]).collect();
        assert_eq!((&retried["refused"], codes), (&json!(3), vec![&json!("NOT_FOUND"), &json!("CONFLICT"), &json!("INVALID_TRANSITION")]));
        assert_eq!((&results[0]["targetId"], &results[0]["run"]), (&json!(nobody), &Value::Null));
        // A step of an engine's is no person's to assign.
        let (assigned, results) = finish(&world, json!({ "verb": "ASSIGN_STEPS", "stepFilter": { "runIds": [runs[3]], "types": ["draft_message"] }, "assigneeId": null })).await;
        assert_eq!((&assigned["refused"], &results[0]["code"]), (&json!(2), &json!("CONFLICT")));
        world.end().await;
    }
}

both! {
    async fn a_wrong_request_names_its_field(kind) {
        let world = World::without_server(kind, None).await;
        let (runs, _) = sessions(&world, 1).await;
        let member = "member_01h455vb4pex5vsknk084sn02q";
        for (input, code, field) in [
            (json!({ "verb": "CANCEL_RUNS" }), "BAD_USER_INPUT", "ids: give exactly one"),
            (json!({ "verb": "CANCEL_RUNS", "ids": runs, "runFilter": { "all": true } }), "BAD_USER_INPUT", "ids: give exactly one"),
            (json!({ "verb": "CANCEL_RUNS", "runFilter": {} }), "BAD_USER_INPUT", "runFilter: has no condition"),
            (json!({ "verb": "CANCEL_RUNS", "runFilter": { "or": [{}] } }), "BAD_USER_INPUT", "runFilter: has no condition"),
            (json!({ "verb": "CANCEL_RUNS", "runFilter": { "search": "a", "not": {} } }), "BAD_USER_INPUT", "runFilter.not: has no condition"),
            (json!({ "verb": "CANCEL_RUNS", "runFilter": { "campaignIds": ["x"] } }), "BAD_USER_INPUT", "runFilter.campaignIds: "),
            (json!({ "verb": "SKIP_STEPS", "stepFilter": {} }), "BAD_USER_INPUT", "stepFilter: has no condition"),
            (json!({ "verb": "SKIP_STEPS", "stepFilter": { "mine": false } }), "BAD_USER_INPUT", "stepFilter: has no condition"),
            (json!({ "verb": "SKIP_STEPS", "stepFilter": { "search": " ", "ready": null } }), "BAD_USER_INPUT", "stepFilter: has no condition"),
            (json!({ "verb": "SKIP_STEPS", "stepFilter": { "ready": true, "dueAt": {} } }), "BAD_USER_INPUT", "stepFilter.dueAt: has no value"),
            (json!({ "verb": "SKIP_STEPS", "stepFilter": { "campaignIds": ["x"] } }), "BAD_USER_INPUT", "stepFilter.campaignIds: "),
            (json!({ "verb": "SKIP_STEPS", "stepFilter": { "assigneeIds": ["x"] } }), "BAD_USER_INPUT", "stepFilter.assigneeIds: "),
            (json!({ "verb": "CANCEL_RUNS", "stepFilter": { "overdue": true } }), "BAD_USER_INPUT", "stepFilter: CANCEL_RUNS acts on runs"),
            (json!({ "verb": "SKIP_STEPS", "runFilter": { "all": true } }), "BAD_USER_INPUT", "runFilter: SKIP_STEPS acts on steps"),
            (json!({ "verb": "SKIP_STEPS", "ids": runs }), "BAD_USER_INPUT", "ids: "),
            (json!({ "verb": "REJECT_STEPS", "stepFilter": { "overdue": true }, "reason": " " }), "BAD_USER_INPUT", "reason: is required"),
            (json!({ "verb": "ASSIGN_STEPS", "stepFilter": { "overdue": true } }), "BAD_USER_INPUT", "assigneeId: is required"),
            (json!({ "verb": "ASSIGN_STEPS", "stepFilter": { "overdue": true }, "assigneeId": member }), "NOT_FOUND", "there is no member"),
            (json!({ "verb": "SKIP_STEPS", "stepFilter": { "overdue": true }, "assigneeId": world.viewer.member_id().unwrap().to_string() }), "BAD_USER_INPUT", "assigneeId: SKIP_STEPS takes no assignee"),
            (json!({ "verb": "RESOLVE_COMMUNICATIONS", "communicationFilter": { "statuses": ["UNKNOWN"] } }), "BAD_USER_INPUT", "resolution: is required"),
            (json!({ "verb": "RESOLVE_COMMUNICATIONS", "resolution": "SENT", "communicationFilter": {} }), "BAD_USER_INPUT", "communicationFilter: has no condition"),
            (json!({ "verb": "RESOLVE_COMMUNICATIONS", "resolution": "SENT", "communicationFilter": { "runIds": ["x"] } }), "BAD_USER_INPUT", "communicationFilter.runIds: "),
            (json!({ "verb": "RESOLVE_COMMUNICATIONS", "resolution": "SENT", "runFilter": { "all": true } }), "BAD_USER_INPUT", "runFilter: RESOLVE_COMMUNICATIONS acts on communications: give `communicationFilter`"),
            (json!({ "verb": "CANCEL_RUNS", "resolution": "SENT", "runFilter": { "all": true } }), "BAD_USER_INPUT", "resolution: CANCEL_RUNS takes no resolution"),
            (json!({ "verb": "ARCHIVE_CAMPAIGNS", "campaignFilter": {} }), "BAD_USER_INPUT", "campaignFilter: has no condition"),
            (json!({ "verb": "ARCHIVE_CAMPAIGNS", "campaignFilter": { "or": [{ "archived": false }, {}] } }), "BAD_USER_INPUT", "campaignFilter.or[1]: has no condition"),
            (json!({ "verb": "ARCHIVE_CAMPAIGNS", "campaignFilter": { "statuses": ["DRAFT"], "createdAt": {} } }), "BAD_USER_INPUT", "campaignFilter.createdAt: "),
            (json!({ "verb": "ARCHIVE_CAMPAIGNS", "campaignFilter": { "tags": ["a"] }, "ids": [] }), "BAD_USER_INPUT", "ids: give exactly one"),
            (json!({ "verb": "CANCEL_RUNS", "ids": vec![&runs[0]; 10_001] }), "BAD_USER_INPUT", "ids: at most 10000"),
        ] {
            for dry_run in [false, true] {
                let mut input = input.clone();
                input["dryRun"] = json!(dry_run);
                let (found, message) = world.refused(START, json!({ "input": input })).await;
                assert!(found == code && message.starts_with(field), "{input}: {found} {message}");
            }
        }
        // At most a hundred are open at a time.
        for _ in 0..100 {
            start(&world, json!({ "verb": "PAUSE_RUNS", "ids": runs })).await;
        }
        let (code, message) = world.refused(START, json!({ "input": { "verb": "PAUSE_RUNS", "ids": runs } })).await;
        assert!(code == "LIMIT_EXCEEDED" && message.contains("100 bulk actions are open"), "{message}");
        world.tick(false).await;
        assert_eq!(world.number("SELECT COUNT(*) FROM bulk_action WHERE status = 'COMPLETED' AND done + refused = 1").await, 100);
        assert_eq!(world.number("SELECT COUNT(*) FROM bulk_action WHERE done = 1").await, 1);
        world.end().await;
    }
}

both! {
    async fn campaigns_are_archived(kind) {
        let world = World::without_server(kind, None).await;
        let mut ids = Vec::new();
        for i in 0..25 {
            let tags = if i % 2 == 0 { json!(["old"]) } else { json!([]) };
            let id = world.create("campaign", json!({ "name": format!("Campaign {i}"), "channel": "EMAIL" })).await;
            world.ask("mutation($id: ID!, $tags: [String!]!) { setCampaignTags(input: { id: $id, tags: $tags }) { campaign { id } } }", json!({ "id": id, "tags": tags })).await;
            ids.push(id);
        }
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        // No campaign, one of two, and an unknown one.
        let (none, _) = finish(&world, json!({ "verb": "ARCHIVE_CAMPAIGNS", "campaignFilter": { "tags": [] } })).await;
        assert_eq!(none["matched"], 0);
        let unknown = "campaign_01h455vb4pex5vsknk084sn02q";
        let (found, results) = finish(&world, json!({ "verb": "ARCHIVE_CAMPAIGNS", "ids": [ids[0], plan.campaign, unknown], "reason": "over" })).await;
        assert_eq!((&found["done"], &found["refused"], &found["reason"]), (&json!(1), &json!(2), &json!("over")));
        let codes: BTreeSet<_> = results.iter().filter_map(|one| one["code"].as_str()).collect();
        assert_eq!(codes, BTreeSet::from(["CONFLICT", "NOT_FOUND"]));
        let (found, _) = finish(&world, json!({ "verb": "ARCHIVE_CAMPAIGNS", "campaignFilter": { "tags": ["old"] } })).await;
        assert_eq!((&found["done"], &found["refused"]), (&json!(12), &json!(1)), "one was archived already");
        let targets = "query($id: ID!) { bulkAction(id: $id) { filter results(statuses: [DONE]) { nodes { targetId campaign { id archivedAt } run { id } step { id } communication { id } } } } }";
        let id = start(&world, json!({ "verb": "ARCHIVE_CAMPAIGNS", "campaignFilter": { "archived": false, "statuses": ["DRAFT"] } })).await;
        world.tick(false).await;
        let shown = world.ask(targets, json!({ "id": id })).await["bulkAction"].clone();
        assert_eq!(shown["filter"], json!({ "archived": false, "statuses": ["DRAFT"] }));
        let nodes = shown["results"]["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 12);
        for node in nodes {
            assert!(node["campaign"]["id"] == node["targetId"] && node["campaign"]["archivedAt"].is_string(), "{node}");
            assert_eq!((&node["run"], &node["step"], &node["communication"]), (&Value::Null, &Value::Null, &Value::Null));
        }
        assert_eq!(world.number("SELECT COUNT(*) FROM campaign WHERE archived_at IS NULL").await, 1);
        // After ninety days they are forgotten, a running one is not.
        let open = start(&world, json!({ "verb": "ARCHIVE_CAMPAIGNS", "ids": [ids[0]] })).await;
        world.clock.set(noon() + chrono::Duration::days(90) + chrono::Duration::minutes(1));
        sortie::engine::housekeeping::tick(world.engine_context(), None).await;
        assert_eq!(world.ask("{ bulkActions { nodes { id } } }", json!({})).await["bulkActions"]["nodes"], json!([{ "id": open }]));
        assert_eq!(world.number("SELECT COUNT(*) FROM bulk_result").await, 1);
        world.end().await;
    }
}

both! {
    /// Messages whose outcome the mail server left open.
    async fn messages_are_resolved(kind) {
        let sink = Sink::start().await;
        let world = World::with(kind, Some(sink.url())).await;
        let plan = world.plan("EMAIL", 3).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        let review = world.until_review(&run).await;
        let trapped = sink.trap(Stage::Dot, 1);
        world.act("approveStep", "step", json!({ "id": review })).await;
        trapped.await.unwrap();
        let query = "query($id: ID!) { run(id: $id) { status communications { nodes { id status } } } }";
        let has = |status: &'static str, count: usize| move |data: &Value| {
            let nodes = data["run"]["communications"]["nodes"].as_array().unwrap();
            nodes.iter().filter(|one| one["status"] == status).count() == count
        };
        world.until("two are sent", query, json!({ "id": run }), has("SENT", 2)).await;
        sink.let_go(false);
        world.until("one is unknown", query, json!({ "id": run }), has("UNKNOWN", 1)).await;
        let input = json!({ "verb": "RESOLVE_COMMUNICATIONS", "communicationFilter": { "runIds": [run] }, "resolution": "NOT_SENT" });
        let expected = dry(&world, input.clone()).await;
        assert_eq!((&expected["matched"], &expected["wouldDo"], &expected["refused"]), (&json!(3), &json!(1), &json!(2)), "{expected:#}");
        let id = start(&world, input).await;
        let shown = "query($id: ID!) { bulkAction(id: $id) { status done refused resolution results { nodes { status code communication { status } } } } }";
        let done = world.until("resolved", shown, json!({ "id": id }), |data: &Value| data["bulkAction"]["status"] == "COMPLETED").await["bulkAction"].clone();
        assert_eq!((&done["done"], &done["refused"], &done["resolution"]), (&json!(1), &json!(2), &json!("NOT_SENT")));
        for one in done["results"]["nodes"].as_array().unwrap() {
            let wanted = if one["status"] == "DONE" { (Value::Null, json!("FAILED")) } else { (json!("INVALID_TRANSITION"), json!("SENT")) };
            assert_eq!((one["code"].clone(), one["communication"]["status"].clone()), wanted);
        }
        assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "2 of 3 sent, 1 failed, 0 skipped");
        // Its run has ended: nothing can be sent again.
        let input = json!({ "verb": "RESOLVE_COMMUNICATIONS", "communicationFilter": { "runIds": [run] }, "resolution": "SEND_AGAIN" });
        assert_eq!(dry(&world, input).await["wouldDo"], 0);
        world.end().await;
    }
}

both! {
    async fn stopped_in_the_middle(kind) {
        let world = World::without_server(kind, None).await;
        let (runs, _) = sessions(&world, 250).await;
        let id = start(&world, json!({ "verb": "PAUSE_RUNS", "runFilter": { "all": true } })).await;
        assert_eq!(bulk_actions::tick(world.engine_context()).await.unwrap(), 1);
        let (found, results) = show(&world, &id).await;
        assert_eq!((&found["status"], &found["done"], &found["notDone"]), (&json!("RUNNING"), &json!(100), &json!(150)));
        assert_eq!(found["availableActions"], json!([{ "action": "STOP", "allowed": true }]));
        assert!(results.iter().enumerate().all(|(i, one)| one["status"] == if i < 100 { "DONE" } else { "PENDING" }));
        crate::harness::check::check(&world).await;
        let stopped = world.ask(STOP, json!({ "id": id })).await["stopBulkAction"]["bulkAction"].clone();
        assert_eq!((&stopped["status"], stopped["endedAt"].is_string()), (&json!("STOPPED"), true));
        assert_eq!(world.refused(STOP, json!({ "id": id })).await.0, "INVALID_TRANSITION");
        world.tick(false).await;
        let (found, _) = show(&world, &id).await;
        assert_eq!((&found["status"], &found["done"], &found["notDone"], &found["revision"]), (&json!("STOPPED"), &json!(100), &json!(150), &json!(3)));
        assert_eq!(found["availableActions"], json!([{ "action": "STOP", "allowed": false }]));
        assert_eq!(runs_in(&world, "PAUSED").await, 100);
        let left = world.ask("query($id: ID!) { bulkAction(id: $id) { results(statuses: [PENDING], first: 1) { totalCount nodes { targetId } } } }", json!({ "id": id })).await;
        assert_eq!(left["bulkAction"]["results"], json!({ "totalCount": 150, "nodes": [{ "targetId": runs[100] }] }));
        // Before it has begun.
        let id = start(&world, json!({ "verb": "PAUSE_RUNS", "runFilter": { "all": true } })).await;
        world.ask(STOP, json!({ "id": id })).await;
        world.tick(false).await;
        let (found, _) = show(&world, &id).await;
        assert_eq!((&found["status"], &found["startedAt"], &found["notDone"]), (&json!("STOPPED"), &Value::Null, &json!(250)));
        let nobody = json!({ "id": "bulk_action_01h455vb4pex5vsknk084sn02q" });
        assert_eq!(world.refused(STOP, nobody).await.0, "NOT_FOUND");
        world.end().await;
    }
}

both! {
    async fn one_process_at_a_time(kind) {
        let world = World::without_server(kind, None).await;
        sessions(&world, 3).await;
        let shown = start(&world, json!({ "verb": "PAUSE_RUNS", "runFilter": { "all": true } })).await;
        let (id, org): (BulkActionId, OrgId) = (shown.parse().unwrap(), world.viewer.org_id);
        let (db, other) = (&world.engine_context().db, BulkLease { owner: "other", duration: chrono::Duration::seconds(60) });
        let taken = apply::take(db, org, id, other).await.unwrap().unwrap();
        apply::apply(db, &taken.action, &taken.targets[0], other).await.unwrap();
        // A target has one result, however often it is dealt with.
        let again = apply::apply(db, &taken.action, &taken.targets[0], other).await;
        assert!(matches!(again, Err(Error::Refused(_))));
        assert!(!apply::settle(db, &taken.action, &taken.targets[0], other, again).await.unwrap());
        // Nobody else takes it while the lease holds; then the rest is done, and the late one does nothing.
        world.tick(false).await;
        assert_eq!(show(&world, &shown).await.0["done"], 1);
        world.clock.set(noon() + chrono::Duration::seconds(59));
        world.tick(false).await;
        assert_eq!(show(&world, &shown).await.0["done"], 1);
        world.clock.set(noon() + chrono::Duration::seconds(61));
        assert_eq!(bulk_actions::tick(world.engine_context()).await.unwrap(), 1);
        let late = apply::apply(db, &taken.action, &taken.targets[1], other).await;
        assert!(!apply::settle(db, &taken.action, &taken.targets[1], other, late).await.unwrap());
        apply::give_back(db, &taken.action, other, 1).await.unwrap();
        let (found, _) = show(&world, &shown).await;
        assert_eq!((&found["status"], &found["done"], &found["refused"]), (&json!("COMPLETED"), &json!(3), &json!(0)));
        let paused = world.ask_all_events().await.iter().filter(|event| event["kind"] == "run.paused").count();
        assert_eq!(paused, 3);
        world.end().await;
    }
}

both! {
    /// The small one does not wait for the end of the large one, nor does another org.
    async fn in_turns(kind) {
        let world = World::without_server(kind, None).await;
        let (runs, _) = sessions(&world, 250).await;
        let large = start(&world, json!({ "verb": "PAUSE_RUNS", "runFilter": { "all": true } })).await;
        world.clock.set(noon() + chrono::Duration::seconds(1));
        bulk_actions::tick(world.engine_context()).await.unwrap();
        let small = start(&world, json!({ "verb": "CANCEL_RUNS", "ids": [runs[249]] })).await;
        world.clock.set(noon() + chrono::Duration::seconds(2));
        for _ in 0..2 {
            bulk_actions::tick(world.engine_context()).await.unwrap();
        }
        assert_eq!(show(&world, &small).await.0["status"], "COMPLETED");
        assert_eq!(show(&world, &large).await.0["status"], "RUNNING");
        world.tick(false).await;
        let (found, results) = show(&world, &large).await;
        assert_eq!((&found["done"], &found["refused"], &results[249]["code"]), (&json!(249), &json!(1), &json!("INVALID_TRANSITION")));
        world.end().await;
    }
}

/// The role of each verb is that of the single mutation.
#[test]
fn the_roles_of_the_single_mutations() {
    for (verb, mutation) in [
        (BulkVerb::CancelRuns, "cancelRun"),
        (BulkVerb::RetryRuns, "retryRun"),
        (BulkVerb::PauseRuns, "pauseRun"),
        (BulkVerb::ResumeRuns, "resumeRun"),
        (BulkVerb::ApproveSteps, "approveStep"),
        (BulkVerb::RejectSteps, "rejectStep"),
        (BulkVerb::AssignSteps, "assignStep"),
        (BulkVerb::SkipSteps, "skipStep"),
        (BulkVerb::ResolveCommunications, "resolveCommunication"),
        (BulkVerb::ArchiveCampaigns, "archiveCampaign"),
    ] {
        assert_eq!(role::required_role(OperationType::Mutation, mutation), Some(needed_role(verb)), "{mutation}");
    }
}

both! {
    async fn with_the_permissions_of_its_starter(kind) {
        let mut world = World::without_server(kind, None).await;
        let admin = world.viewer.clone();
        let (_, steps) = sessions(&world, 3).await;
        let create = "mutation { createMember(input: { name: \"Olga\", email: \"olga@example.com\", role: OPERATOR }) { member { id } } }";
        let member = world.ask(create, json!({})).await["createMember"]["member"]["id"].as_str().unwrap().to_owned();
        let row = sortie::domain::people::member::must_find(world.db.read(), &admin, member.parse().unwrap()).await.unwrap();
        let olga = Viewer::of_member(row);
        world.viewer = olga.clone();
        let (code, message) = world.refused(START, json!({ "input": { "verb": "APPROVE_STEPS", "ids": steps } })).await;
        assert_eq!((code.as_str(), message.as_str()), ("FORBIDDEN", "APPROVE_STEPS requires the role REVIEWER; the role of Olga is OPERATOR"));
        let done = start(&world, json!({ "verb": "ASSIGN_STEPS", "ids": steps, "assigneeId": member })).await;
        world.tick(false).await;
        assert_eq!(show(&world, &done).await.0["done"], 3);
        let assigned = world.ask_all_events().await.into_iter().filter(|event| event["kind"] == "step.assigned");
        assert!(assigned.into_iter().all(|event| event["actor"]["name"] == "Olga"));
        // Her role is lowered before the server has begun: nothing is done any more.
        let lowered = start(&world, json!({ "verb": "SKIP_STEPS", "ids": steps })).await;
        let gone = start(&world, json!({ "verb": "ASSIGN_STEPS", "ids": steps, "assigneeId": null })).await;
        world.viewer = admin;
        let update = "mutation($id: ID!) { updateMember(input: { id: $id, role: VIEWER }) { member { role } } }";
        world.ask(update, json!({ "id": member })).await;
        bulk_actions::tick(world.engine_context()).await.unwrap();
        let (found, results) = show(&world, &lowered).await;
        assert_eq!((&found["status"], &found["refused"]), (&json!("COMPLETED"), &json!(3)));
        assert!(results.iter().all(|one| one["code"] == "FORBIDDEN" && one["message"] == "SKIP_STEPS requires the role OPERATOR; the role of Olga is VIEWER"), "{results:#?}");
        // Nor is anything done for one who is no member any more.
        for step in &steps {
            let assign = "mutation($id: ID!) { assignStep(input: { id: $id, memberId: null }) { step { id } } }";
            world.ask(assign, json!({ "id": step })).await;
        }
        world.ask("mutation($id: ID!) { deleteMember(input: { id: $id }) { deletedId } }", json!({ "id": member })).await;
        world.tick(false).await;
        let (found, results) = show(&world, &gone).await;
        assert_eq!((&found["refused"], &results[0]["message"]), (&json!(3), &json!("Olga, who started this, is no longer a member")));
        world.end().await;
    }
}

both! {
    async fn another_org_sees_nothing(kind) {
        let world = World::without_server(kind, None).await;
        let (runs, _) = sessions(&world, 2).await;
        let id = start(&world, json!({ "verb": "PAUSE_RUNS", "ids": runs })).await;
        let other = Viewer::admin_of(&world.db, OrgId::new(), "Other").await.unwrap();
        let schema = sortie::graphql::schema(Some(world.db.clone()));
        let ask = async |query: &str, variables: Value| {
            let request = async_graphql::Request::new(query).variables(async_graphql::Variables::from_json(variables));
            serde_json::to_value(schema.execute(with_viewer(request, &world.db, &other)).await).unwrap()
        };
        let found = ask("query($id: ID!) { bulkAction(id: $id) { id } node(id: $id) { id } bulkActions { totalCount } events { nodes { kind } } }", json!({ "id": id })).await;
        assert_eq!(found["data"], json!({ "bulkAction": null, "node": null, "bulkActions": { "totalCount": 0 }, "events": { "nodes": [] } }));
        assert_eq!(ask(STOP, json!({ "id": id })).await["errors"][0]["extensions"]["code"], "NOT_FOUND");
        // Runs of another org are refused like those that do not exist.
        let dry_run = ask(START, json!({ "input": { "verb": "CANCEL_RUNS", "ids": runs, "dryRun": true } })).await;
        assert_eq!(dry_run["data"]["startBulkAction"]["dryRun"]["sample"][0]["code"], "NOT_FOUND");
        let theirs = ask(START, json!({ "input": { "verb": "CANCEL_RUNS", "ids": runs } })).await["data"]["startBulkAction"]["bulkAction"].clone();
        let all = ask(START, json!({ "input": { "verb": "CANCEL_RUNS", "runFilter": { "all": true } } })).await["data"]["startBulkAction"]["bulkAction"].clone();
        assert_eq!((&theirs["matched"], &all["matched"]), (&json!(2), &json!(0)));
        world.tick(false).await;
        let found = ask(SHOW, json!({ "id": theirs["id"] })).await["data"]["bulkAction"].clone();
        assert_eq!((&found["status"], &found["refused"], &found["results"]["nodes"][0]["code"], &found["results"]["nodes"][0]["run"]), (&json!("COMPLETED"), &json!(2), &json!("NOT_FOUND"), &Value::Null));
        assert_eq!(runs_in(&world, "PAUSED").await, 2);
        world.end().await;
    }
}

both! {
    async fn twins_and_their_progress(kind) {
        let world = std::sync::Arc::new(World::new(kind).await);
        let (runs, _) = sessions(&world, 120).await;
        let input = json!({ "verb": "PAUSE_RUNS", "runFilter": { "types": ["GUIDED"] }, "idempotencyKey": "twin" });
        let mut twins = tokio::task::JoinSet::new();
        for _ in 0..12 {
            let (world, input) = (world.clone(), input.clone());
            twins.spawn(async move { world.post(START, json!({ "input": input })).await });
        }
        let mut made = BTreeSet::new();
        while let Some(answer) = twins.join_next().await {
            let answer = answer.unwrap();
            made.insert(answer["data"]["startBulkAction"]["bulkAction"]["id"].as_str().unwrap_or_else(|| panic!("{answer:#}")).to_owned());
        }
        assert_eq!(made.len(), 1);
        let id = made.pop_first().unwrap();
        let mut other = input.clone();
        other["dryRun"] = json!(true);
        assert_eq!(world.refused(START, json!({ "input": other })).await.0, "BAD_USER_INPUT", "the same key with another input");
        let mut socket = Socket::open(world.address).await;
        let progress = "subscription($id: ID!, $after: String) { bulkActionProgress(id: $id, after: $after) { cursor bulkAction { status matched done notDone } } }";
        socket.subscribe("p", progress, json!({ "id": id })).await;
        let (mut done, mut last) = (0, Value::Null);
        loop {
            let message = socket.message().await;
            if message["type"] == "complete" {
                break;
            }
            last = message["payload"]["data"]["bulkActionProgress"].clone();
            let now = last["bulkAction"]["done"].as_i64().unwrap_or_else(|| panic!("{message:#}"));
            assert!(now >= done, "{last:#}");
            done = now;
        }
        assert_eq!(last["bulkAction"], json!({ "status": "COMPLETED", "matched": 120, "done": 120, "notDone": 0 }));
        assert_eq!(runs_in(&world, "PAUSED").await, runs.len() as i64);
        // Resumed after its last state: the end. From the start: the state once more, and the end.
        socket.subscribe("known", progress, json!({ "id": id, "after": last["cursor"] })).await;
        assert_eq!(socket.message().await["type"], "complete");
        socket.subscribe("again", progress, json!({ "id": id })).await;
        assert_eq!(socket.next().await["bulkActionProgress"]["bulkAction"]["status"], "COMPLETED");
        assert_eq!(socket.message().await["type"], "complete");
        // Resumed after an earlier position, though it has ended: its last state, and the end.
        let first = world.ask("{ events(filter: { kinds: [\"bulk_action.created\"] }) { nodes { cursor } } }", json!({})).await["events"]["nodes"][0]["cursor"].clone();
        socket.subscribe("missed", progress, json!({ "id": id, "after": first })).await;
        assert_eq!(socket.next().await["bulkActionProgress"], last);
        assert_eq!(socket.message().await["type"], "complete");
        socket.subscribe("none", progress, json!({ "id": "bulk_action_01h455vb4pex5vsknk084sn02q" })).await;
        assert_eq!(socket.message().await["payload"][0]["extensions"]["code"], "NOT_FOUND");
        let kinds = world.ask("{ events(filter: { kinds: [\"bulk_action.*\"] }) { nodes { kind payload } } }", json!({})).await;
        let kinds: Vec<&str> = kinds["events"]["nodes"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["bulk_action.created", "bulk_action.started", "bulk_action.progressed", "bulk_action.completed"]);
        let Ok(world) = std::sync::Arc::try_unwrap(world) else { panic!("still shared") };
        world.end().await;
    }
}

both! {
    async fn killed_in_the_middle(kind) {
        const RUNS: usize = 130;
        let home = Home::new(kind).await;
        let life = home.begin();
        let begin = "mutation { startGuidedRun(input: { name: \"K\", steps: [{ definition: { key: \"a\", name: \"a\", type: \"custom\", assignedTo: HUMAN } }] }) { run { id } } }";
        for _ in 0..RUNS {
            life.ask(begin, json!({})).await.unwrap();
        }
        life.kill();
        home.gone().await;
        let input = json!({ "verb": "PAUSE_RUNS", "runFilter": { "types": ["GUIDED"] }, "idempotencyKey": "k" });
        let mut id = Value::Null;
        for place in ["bulk_settled:1", "bulk_settled:7", "bulk_settled:60"] {
            let (mut life, deadline) = (home.begin_at(Some(place)).unwrap(), Instant::now() + Duration::from_secs(60));
            while !life.is_over() {
                if let Some(found) = life.ask(START, json!({ "input": input })).await {
                    id = found["startBulkAction"]["bulkAction"]["id"].clone();
                }
                assert!(Instant::now() < deadline, "{place} was not reached");
                tokio::task::yield_now().await;
            }
            home.gone().await;
        }
        let (life, deadline) = (home.begin(), Instant::now() + Duration::from_secs(60));
        loop {
            let found = life.ask("query($id: ID!) { bulkAction(id: $id) { status matched done refused failed } }", json!({ "id": id })).await.unwrap()["bulkAction"].clone();
            if found["status"] == "COMPLETED" {
                // A run that was paused twice would be refused the second time.
                assert_eq!(found, json!({ "status": "COMPLETED", "matched": RUNS, "done": RUNS, "refused": 0, "failed": 0 }));
                break;
            }
            assert!(Instant::now() < deadline, "it did not go on: {found}");
            tokio::task::yield_now().await;
        }
        life.kill();
        home.gone().await;
        assert_eq!(home.count("SELECT COUNT(*) FROM event WHERE kind = 'run.paused'").await, RUNS as i64);
        home.check();
        home.remove();
    }
}

both! {
    /// The operations of docs/bulk-actions.md.
    async fn the_operations_of_the_page_work(kind) {
        let world = World::without_server(kind, None).await;
        let (_, steps) = sessions(&world, 3).await;
        assert!(steps[0].parse::<StepId>().is_ok());
        let page = std::fs::read_to_string("docs/bulk-actions.md").unwrap();
        let mut operations = page.split("```graphql\n").skip(1).map(|rest| rest.split("```").next().unwrap());
        let mut next = async |id: &str| world.ask(&operations.next().unwrap().replace("BULK_ACTION_ID", id), json!({})).await;
        let dry_run = next("").await["startBulkAction"]["dryRun"].clone();
        assert_eq!((&dry_run["matched"], &dry_run["wouldDo"]), (&json!(3), &json!(3)));
        let id = next("").await["startBulkAction"]["bulkAction"]["id"].as_str().unwrap().to_owned();
        world.tick(false).await;
        let shown = next(&id).await["bulkAction"].clone();
        assert_eq!((&shown["status"], &shown["done"], &shown["results"]["totalCount"]), (&json!("COMPLETED"), &json!(3), &json!(0)));
        assert!(operations.next().unwrap().starts_with("subscription"));
        world.end().await;
    }
}

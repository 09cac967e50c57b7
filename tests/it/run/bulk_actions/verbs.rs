//! Each verb: the targets have the results of the single mutation, however many they are.

use entity::id::StepId;

use super::*;
use crate::harness::sink::{Sink, Stage};

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

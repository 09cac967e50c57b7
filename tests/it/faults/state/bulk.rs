//! 7.13: a dry run of a bulk action counts what the action does; its progress agrees with its
//! counts.

use chrono::Duration;
use serde_json::{Value, json};

use crate::harness::{World, noon};

async fn both_ways(world: &World, verb: &str, filter: Value) -> Value {
    let query = format!(
        "mutation($filter: RunFilter!, $dry: Boolean) {{ {verb}(input: {{ filter: $filter, dryRun: $dry }}) {{ matched count done refused {{ id code message }} refusedCounts {{ code count }} }} }}"
    );
    let mut dry = world.ask(&query, json!({ "filter": filter, "dry": true })).await[verb].clone();
    let events = world.ask_all_events().await.len();
    let mut done = world.ask(&query, json!({ "filter": filter })).await[verb].clone();
    assert_eq!(dry["done"], json!([]));
    assert_eq!(done["done"].as_array().unwrap().len() as u64, done["count"].as_u64().unwrap());
    assert!(done["count"] == 0 || world.ask_all_events().await.len() > events);
    done["done"].take();
    dry["done"].take();
    assert_eq!(dry, done, "{verb} of {filter}");
    done
}

both! {
    async fn a_dry_run_counts_what_is_done(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        assert_eq!(both_ways(&world, "cancelRuns", json!({ "all": true })).await, json!({ "matched": 0, "count": 0, "done": null, "refused": [], "refusedCounts": [] }));
        let mut runs = Vec::new();
        for _ in 0..4 {
            runs.push(world.launch(&plan).await);
            world.tick(true).await;
        }
        // One is completed, one cancelled, one paused, one in progress; and one scheduled.
        let review = world.until_review(&runs[0]).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        world.tick(true).await;
        world.act("cancelRun", "run", json!({ "id": runs[1] })).await;
        world.act("pauseRun", "run", json!({ "id": runs[2] })).await;
        world.ask("mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, at: \"2027-01-01T00:00:00Z\" }) { run { id } } }", json!({ "id": plan.campaign })).await;
        let retried = both_ways(&world, "retryRuns", json!({ "all": true })).await;
        let counts = json!([{ "code": "INVALID_TRANSITION", "count": 4 }, { "code": "CONFLICT", "count": 1 }]);
        assert_eq!((&retried["matched"], &retried["count"], &retried["refusedCounts"]), (&json!(5), &json!(0), &counts));
        let cancelled = both_ways(&world, "cancelRuns", json!({ "all": true })).await;
        assert_eq!((&cancelled["matched"], &cancelled["count"], &cancelled["refusedCounts"]), (&json!(5), &json!(3), &json!([{ "code": "INVALID_TRANSITION", "count": 2 }])), "{cancelled:#}");
        world.tick(true).await;
        let again = both_ways(&world, "cancelRuns", json!({ "all": true })).await;
        assert_eq!((&again["count"], &again["refusedCounts"][0]["count"]), (&json!(0), &json!(5)));
        world.end().await;
    }
}

const PROGRESS: &str = "query($id: ID!) { run(id: $id) { status progress { expected fraction perMinute estimatedEnd counts { pending queued inProgress awaitingApproval completed skipped failed } } } }";

/// Returns a run's progress and asserts that it agrees with its counts.
async fn progress(world: &World, run: &str) -> Value {
    let found = world.ask(PROGRESS, json!({ "id": run })).await["run"].clone();
    let progress = found["progress"].clone();
    let count = |name: &str| progress["counts"][name].as_i64().unwrap();
    let closed = count("completed") + count("skipped") + count("failed");
    let total = closed + count("pending") + count("queued") + count("inProgress") + count("awaitingApproval");
    let expected = progress["expected"].as_i64().unwrap();
    assert!(expected >= total, "{found:#}");
    if expected > 0 {
        let wanted = closed as f64 / expected as f64;
        assert!((progress["fraction"].as_f64().unwrap() - wanted).abs() < 1e-9, "{found:#}");
    }
    if !["SCHEDULED", "QUEUED", "IN_PROGRESS", "PAUSED"].contains(&found["status"].as_str().unwrap()) {
        assert_eq!(expected, total, "{found:#}");
        assert_eq!(progress["estimatedEnd"], Value::Null, "{found:#}");
    }
    progress
}

both! {
    async fn progress_agrees_with_its_counts(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 4).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        let queued = progress(&world, &run).await;
        assert_eq!((&queued["fraction"], &queued["estimatedEnd"]), (&json!(0.0), &Value::Null));
        world.tick(false).await;
        world.clock.set(noon() + Duration::minutes(1));
        let begun = progress(&world, &run).await;
        // Four drafts and a review; and one for each send that does not exist yet.
        assert!(begun["expected"].as_i64().unwrap() >= 9, "{begun:#}");
        world.tick(true).await;
        world.until_review(&run).await;
        let waits = progress(&world, &run).await;
        assert!(waits["perMinute"].as_f64().unwrap() > 0.0 && waits["fraction"].as_f64().unwrap() < 1.0);
        assert_eq!(waits["estimatedEnd"], Value::Null, "a person is awaited: {waits:#}");
        let review = world.until_review(&run).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        world.tick(true).await;
        assert_eq!(progress(&world, &run).await["fraction"], 1.0);
        // Guided work always waits for people; cancelled, nothing is left.
        let (run, steps) = world.own_run(&[("a", "custom", json!({})), ("b", "custom", json!({}))], json!({})).await;
        world.step_act("startStep", &steps[0], json!({})).await;
        world.step_act("completeStep", &steps[0], json!({})).await;
        world.clock.set(noon() + Duration::minutes(9));
        let half = progress(&world, &run).await;
        assert_eq!((&half["fraction"], &half["estimatedEnd"]), (&json!(0.5), &Value::Null));
        world.act("cancelRun", "run", json!({ "id": run })).await;
        world.tick(true).await;
        assert_eq!(progress(&world, &run).await["fraction"], 1.0);
        world.end().await;
    }
}

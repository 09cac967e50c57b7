//! 7.7: the end of a run. A cancelled run leaves no phase, task or step open; the campaign of a
//! single record follows its run in both directions.

use serde_json::{Value, json};

use crate::harness::World;

const PARTS: &str = "query($id: ID!) { run(id: $id) { status failure currentPhase { key } waitingFor { code } phases { key status tasks { key status } } steps(first: 100) { nodes { id key status } } } }";

pub async fn parts(world: &World, run: &str) -> Value {
    world.ask(PARTS, json!({ "id": run })).await["run"].clone()
}

/// Statuses of the phases, and the distinct ones of the tasks and the steps.
fn told(run: &Value) -> (Vec<String>, Vec<String>) {
    let text = |of: &Value| of["status"].as_str().unwrap().to_owned();
    let phases = run["phases"].as_array().unwrap();
    let mut below: Vec<String> = phases.iter().flat_map(|phase| phase["tasks"].as_array().unwrap()).map(text).collect();
    below.extend(run["steps"]["nodes"].as_array().unwrap().iter().map(text));
    below.sort();
    below.dedup();
    (phases.iter().map(text).collect(), below)
}

both! {
    async fn a_cancelled_run_leaves_nothing_open(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 3).await;
        world.activate(&plan).await;
        // Before its start; started, with nothing drafted; with its review pending; paused.
        for at in ["QUEUED", "BEGUN", "REVIEW", "PAUSED"] {
            let run = world.launch(&plan).await;
            match at {
                "QUEUED" => {}
                "BEGUN" => world.tick(false).await,
                _ => {
                    world.tick(true).await;
                    world.until_review(&run).await;
                }
            }
            if at == "PAUSED" {
                world.act("pauseRun", "run", json!({ "id": run })).await;
            }
            world.act("cancelRun", "run", json!({ "id": run, "reason": "enough" })).await;
            world.tick(true).await;
            let now = parts(&world, &run).await;
            assert_eq!((&now["status"], &now["currentPhase"], &now["waitingFor"]), (&json!("CANCELLED"), &Value::Null, &json!([])), "{at}");
            let (phases, below) = told(&now);
            if at != "QUEUED" {
                assert_eq!(phases, ["SKIPPED", "SKIPPED", "SKIPPED"], "{at}: {now:#}");
            }
            assert!(below.iter().all(|status| ["SKIPPED", "COMPLETED"].contains(&status.as_str())), "{at}: {now:#}");
            // Cancelled twice, nothing changes.
            let events = world.ask_all_events().await.len();
            world.act("cancelRun", "run", json!({ "id": run })).await;
            world.tick(true).await;
            assert_eq!(world.ask_all_events().await.len(), events);
        }
        let reasons = world.ask_all_events().await;
        let skipped: Vec<&Value> = reasons.iter().filter(|event| event["kind"] == "phase.skipped").collect();
        assert_eq!(skipped.len(), 9);
        assert!(skipped.iter().all(|event| event["payload"]["reason"] == "RUN_CANCELLED"), "{skipped:#?}");
        // Guided work, with one step completed and one in progress.
        let (run, steps) = world.own_run(&[("a", "custom", json!({})), ("b", "custom", json!({})), ("c", "custom", json!({}))], json!({})).await;
        world.step_act("startStep", &steps[0], json!({})).await;
        world.step_act("completeStep", &steps[0], json!({})).await;
        world.step_act("startStep", &steps[1], json!({})).await;
        world.act("cancelRun", "run", json!({ "id": run })).await;
        world.tick(true).await;
        let now = parts(&world, &run).await;
        assert_eq!(told(&now), (vec!["SKIPPED".to_owned()], vec!["COMPLETED".to_owned(), "SKIPPED".to_owned()]), "{now:#}");
        world.end().await;
    }
}

both! {
    async fn what_a_worker_holds_of_a_cancelled_run_settles_and_then_all_is_closed(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(false).await;
        // One of two drafts is leased.
        world.force("UPDATE step SET status = 'IN_PROGRESS', lease_owner = 'somebody', lease_expires_at = '2026-11-02T12:01:00+00:00', attempt_count = 1 WHERE id IN (SELECT id FROM step WHERE kind = 'draft_message' ORDER BY id LIMIT 1); UPDATE task SET queued = queued - 1, in_progress = 1 WHERE key = 'draft'").await;
        world.act("cancelRun", "run", json!({ "id": run })).await;
        world.tick(true).await;
        let held = parts(&world, &run).await;
        assert_eq!((&held["phases"][0]["status"], &held["phases"][1]["status"]), (&json!("ACTIVE"), &json!("SKIPPED")), "{held:#}");
        // Its lease expires.
        world.clock.set(crate::harness::noon() + chrono::Duration::minutes(2));
        world.rescue().await;
        let now = parts(&world, &run).await;
        assert_eq!(told(&now), (vec!["SKIPPED".to_owned(); 3], vec!["SKIPPED".to_owned()]), "{now:#}");
        world.drop_unchecked().await;
    }
}

both! {
    async fn a_campaign_of_one_record_follows_its_run_both_ways(kind) {
        let world = World::new(kind).await;
        crate::faults::state::keys::prepare(&world).await;
        let (campaign, run, step) = crate::faults::state::keys::single(&world, json!({})).await;
        let status = || async {
            let found = world.ask("query($c: ID!, $r: ID!) { campaign(id: $c) { status } run(id: $r) { status } }", json!({ "c": campaign, "r": run })).await;
            (found["campaign"]["status"].as_str().unwrap().to_owned(), found["run"]["status"].as_str().unwrap().to_owned())
        };
        for round in 0..2 {
            world.step_act("startStep", &step, json!({})).await;
            world.step_act("failStep", &step, json!({ "reason": "no" })).await;
            world.until_run(&run, "FAILED").await;
            assert_eq!(status().await, ("FAILED".to_owned(), "FAILED".to_owned()), "{round}");
            world.act("retryRun", "run", json!({ "id": run })).await;
            assert_eq!(status().await, ("ACTIVE".to_owned(), "IN_PROGRESS".to_owned()), "{round}");
            let query = "query($id: ID!) { step(id: $id) { status } }";
            world.until("the step to be due again", query, json!({ "id": step }), |found| found["step"]["status"] == "QUEUED").await;
        }
        world.step_act("startStep", &step, json!({})).await;
        world.step_act("completeStep", &step, json!({})).await;
        world.until_run(&run, "COMPLETED").await;
        assert_eq!(status().await, ("COMPLETED".to_owned(), "COMPLETED".to_owned()));
        let kinds: Vec<Value> = world.ask_all_events().await.into_iter().filter(|event| event["campaignId"] == campaign.as_str() && event["kind"].as_str().unwrap().starts_with("campaign.")).map(|event| event["kind"].clone()).collect();
        assert_eq!(kinds, ["created", "submitted", "approved", "failed", "reopened", "failed", "reopened", "completed"].map(|what| json!(format!("campaign.{what}"))));
        // A campaign that was ended by a person is not reopened.
        let (campaign, run, step) = crate::faults::state::keys::single(&world, json!({ "name": "Another" })).await;
        world.step_act("startStep", &step, json!({})).await;
        world.step_act("failStep", &step, json!({ "reason": "no" })).await;
        assert_eq!(world.refused("mutation($id: ID!) { cancelCampaign(input: { id: $id }) { campaign { id } } }", json!({ "id": campaign })).await.0, "INVALID_TRANSITION");
        world.act("retryRun", "run", json!({ "id": run })).await;
        world.act("cancelCampaign", "campaign", json!({ "id": campaign })).await;
        assert_eq!(world.refused("mutation($id: ID!) { retryRun(input: { id: $id }) { run { id } } }", json!({ "id": run })).await.0, "INVALID_TRANSITION");
        world.until("all to be closed", PARTS, json!({ "id": run }), |found| found["run"]["phases"][0]["status"] == "SKIPPED").await;
        world.end().await;
    }
}

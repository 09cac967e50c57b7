//! Two launches of one campaign: the second needs an explicit confirmation, however close together
//! they are.

use serde_json::{Value, json};

use super::{reviewed, written_to};
use crate::harness::World;

const RUN: &str = "mutation($id: ID!, $even: Boolean) { runCampaign(input: { campaignId: $id, evenIfOpen: $even }) { run { id } preflight { ready checks { code status message } } } }";

fn open_run(answer: &Value) -> Value {
    let checks = answer["checks"].as_array().unwrap();
    checks.iter().find(|check| check["code"] == "OPEN_RUN").unwrap().clone()
}

both! {
    async fn a_run_that_is_open_is_told_and_a_second_one_wants_a_word(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        // Test runs and scheduled runs don't count as open.
        let test = "mutation($id: ID!) { testRunCampaign(input: { campaignId: $id, recipients: [\"me@example.com\"] }) { run { id } } }";
        assert!(world.ask(test, json!({ "id": plan.campaign })).await["testRunCampaign"]["run"]["id"].is_string());
        let later = "mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, at: \"2026-12-01T00:00:00Z\" }) { run { id } } }";
        assert!(world.ask(later, json!({ "id": plan.campaign })).await["scheduleCampaign"]["run"]["id"].is_string());
        let run = world.launch(&plan).await;
        let second = world.ask(RUN, json!({ "id": plan.campaign })).await["runCampaign"].clone();
        assert_eq!((&second["run"], &second["preflight"]["ready"]), (&Value::Null, &json!(false)));
        let check = open_run(&second["preflight"]);
        assert_eq!(check["status"], "FAILED");
        assert!(check["message"].as_str().unwrap().contains(&run), "{check}");
        // The query reports the same as the mutation; the campaign's own field knows no input.
        let asked = "query($id: ID!, $even: Boolean) { preflight(campaignId: $id, action: RUN, input: { evenIfOpen: $even }) { ready checks { code status message } } campaign(id: $id) { preflight(action: RUN) { ready checks { code status message } } availableActions { action allowed } } }";
        let no = world.ask(asked, json!({ "id": plan.campaign })).await;
        assert_eq!((&no["preflight"]["ready"], &no["campaign"]["preflight"]["ready"]), (&json!(false), &json!(true)));
        assert_eq!(open_run(&no["campaign"]["preflight"])["status"], "WARNING");
        let yes = world.ask(asked, json!({ "id": plan.campaign, "even": true })).await;
        assert_eq!((&yes["preflight"]["ready"], &open_run(&yes["preflight"])["status"]), (&json!(true), &json!("WARNING")));
        // A paused run is open, too.
        world.tick(false).await;
        world.act("pauseRun", "run", json!({ "id": run })).await;
        assert_eq!(world.ask(RUN, json!({ "id": plan.campaign, "even": false })).await["runCampaign"]["run"], Value::Null);
        world.act("resumeRun", "run", json!({ "id": run })).await;
        let both = world.ask(RUN, json!({ "id": plan.campaign, "even": true })).await["runCampaign"]["run"]["id"].clone();
        assert!(both.is_string());
        world.act("cancelRun", "run", json!({ "id": both })).await;
        reviewed(&world, &run).await;
        world.tick(true).await;
        world.until_run(&run, "COMPLETED").await;
        assert!(world.ask(RUN, json!({ "id": plan.campaign })).await["runCampaign"]["run"]["id"].is_string());
        // A repeat is a launch.
        let repeat = "mutation($id: ID!, $even: Boolean) { repeatRun(input: { id: $id, evenIfOpen: $even }) { run { id } } }";
        let (code, told) = world.refused(repeat, json!({ "id": run })).await;
        assert!(code == "CONFLICT" && told.contains("evenIfOpen"), "{told}");
        assert!(world.ask(repeat, json!({ "id": run, "even": true })).await["repeatRun"]["run"]["id"].is_string());
        world.end().await;
    }
}

both! {
    async fn of_launches_at_the_same_moment_one_flies(kind) {
        let world = World::new(kind).await;
        let plan = world.plan("EMAIL", 3).await;
        world.activate(&plan).await;
        let all = futures_util::future::join_all((0..6).map(|_| world.ask(RUN, json!({ "id": plan.campaign })))).await;
        let flown: Vec<&str> = all.iter().filter_map(|one| one["runCampaign"]["run"]["id"].as_str()).collect();
        assert_eq!(flown.len(), 1, "{all:#?}");
        for one in all.iter().filter(|one| one["runCampaign"]["run"].is_null()) {
            assert_eq!(open_run(&one["runCampaign"]["preflight"])["status"], "FAILED");
        }
        // The audit tells the one that launched from those that did nothing.
        let audit = "{ audit(filter: { mutations: [\"runCampaign\"] }) { nodes { outcome targetId } } }";
        let entries = world.ask(audit, json!({})).await["audit"]["nodes"].clone();
        let done: Vec<&Value> = entries.as_array().unwrap().iter().filter(|entry| entry["outcome"] == "DONE").collect();
        assert_eq!(done.len(), 1, "{entries:#}");
        assert_eq!(done[0]["targetId"], flown[0]);
        let review = world.until_review(flown[0]).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        world.until_run(flown[0], "COMPLETED").await;
        assert_eq!(written_to(&world).len(), 3);
        world.end().await;
    }
}

both! {
    async fn a_launch_repeated_at_once_with_its_key_is_told_of_its_run(kind) {
        let world = World::new(kind).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let run = "mutation($id: ID!) { runCampaign(input: { campaignId: $id, idempotencyKey: \"k\" }) { run { id } } }";
        for _ in 0..3 {
            let all = futures_util::future::join_all((0..8).map(|_| world.ask(run, json!({ "id": plan.campaign })))).await;
            let ids: std::collections::HashSet<&str> = all.iter().map(|one| one["runCampaign"]["run"]["id"].as_str().unwrap_or("none")).collect();
            assert!(ids.len() == 1 && !ids.contains("none"), "{all:#?}");
        }
        world.end().await;
    }
}

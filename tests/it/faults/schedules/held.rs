//! Occurrences that wait while their campaign is paused or changed.

use chrono::Duration;
use serde_json::json;

use crate::harness::{World, noon};

both! {
    async fn a_time_changed_while_the_campaign_is_paused_is_the_only_one(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let once = world.schedule(&plan, json!({ "at": "2026-11-02T13:00:00Z" })).await;
        let cron = world.schedule(&plan, json!({ "cron": "0 * * * *" })).await;
        world.act("pauseCampaign", "campaign", json!({ "id": plan.campaign })).await;
        world.clock.set(noon() + Duration::minutes(150));
        world.tick(false).await;
        for id in [&once, &cron] {
            world.change("updateSchedule", "UpdateScheduleInput", json!({ "id": id, "at": "2026-11-02T20:00:00Z" })).await;
            assert_eq!(world.started_and_waiting(id).await, (vec![], vec!["2026-11-02T20:00".to_owned()]));
        }
        // What was due to the cron pattern was missed because of the pause.
        let missed = world.shown(&cron).await["missed"]["nodes"].clone();
        assert!(missed.as_array().unwrap().iter().all(|one| one["reason"] == "PAUSED") && missed != json!([]), "{missed:#}");
        world.act("resumeCampaign", "campaign", json!({ "id": plan.campaign })).await;
        world.tick(false).await;
        for id in [&once, &cron] {
            assert_eq!(world.started_and_waiting(id).await, (vec![], vec!["2026-11-02T20:00".to_owned()]));
        }
        world.clock.set(noon() + Duration::minutes(481));
        world.tick(false).await;
        for id in [&once, &cron] {
            assert_eq!(world.started_and_waiting(id).await, (vec!["2026-11-02T20:00".to_owned()], vec![]));
        }
        world.end().await;
    }
}

both! {
    async fn an_occurrence_starts_with_the_campaign_as_it_is_then_and_by_whoever_made_the_schedule(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "0 * * * *" })).await;
        world.ask("mutation($id: ID!) { updateCampaign(input: { id: $id, name: \"Renamed\" }) { campaign { id } } }", json!({ "id": plan.campaign })).await;
        for hour in 1..3 {
            world.clock.set(noon() + Duration::hours(hour) + Duration::seconds(1));
            world.tick(false).await;
        }
        let started = "SELECT name, campaign_name FROM run WHERE status <> 'SCHEDULED'";
        for row in world.sql(started).await {
            assert_eq!(row, ["Renamed", "Renamed"]);
        }
        let query = "query($s: ID!) { schedule(id: $s) { createdBy { name } } runs { nodes { createdBy { name } status } } }";
        let found = world.ask(query, json!({ "s": id })).await;
        let runs = found["runs"]["nodes"].as_array().unwrap();
        assert_eq!(runs.len(), 3);
        assert!(runs.iter().all(|run| run["createdBy"] == found["schedule"]["createdBy"]), "{found:#}");
        // Another channel: the waiting occurrence goes by it.
        let change = "mutation($id: ID!) { updateCampaign(input: { id: $id, channel: PHONE, messageTemplateId: null }) { campaign { id } }
            approveCampaign(input: { id: $id }) { preflight { ready } } }";
        world.ask(change, json!({ "id": plan.campaign })).await;
        world.clock.set(noon() + Duration::hours(3) + Duration::seconds(1));
        world.tick(false).await;
        let last = "SELECT channel, status, COALESCE(failure, '') FROM run WHERE status <> 'SCHEDULED' ORDER BY scheduled_for DESC LIMIT 1";
        assert_eq!(world.sql(last).await, [["PHONE", "IN_PROGRESS", ""]]);
        world.end().await;
    }
}

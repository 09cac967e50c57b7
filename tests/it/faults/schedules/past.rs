//! The occurrences of a schedule that are over, as one list: started, made up for, skipped, missed.

use chrono::Duration;
use serde_json::{Value, json};

use crate::harness::{World, noon};

const PAST: &str = "query($id: ID!, $first: Int, $after: String) { schedule(id: $id) {
    occurrences(first: $first, after: $after) { totalCount pageInfo { hasNextPage hasPreviousPage endCursor }
        nodes { at firstAt count status reason run { id status occurrenceAt } } } } }";

/// All pages of the list: time, status, reason, and number of each.
async fn past(world: &World, id: &str, first: i64) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), Value::Null);
    loop {
        let variables = json!({ "id": id, "first": first, "after": after });
        let page = world.ask(PAST, variables).await["schedule"]["occurrences"].clone();
        assert_eq!(page["pageInfo"]["hasPreviousPage"], !after.is_null());
        for one in page["nodes"].as_array().unwrap() {
            let started = one["status"] == "FIRED" || one["status"] == "BACKFILLED";
            assert!(started == one["run"]["id"].is_string() && started == one["reason"].is_null(), "{one}");
            let reason = one["reason"].as_str().unwrap_or("-");
            let time = |field: &str| one[field].as_str().unwrap()[11..16].to_owned();
            all.push(format!(
                "{}-{} {} {reason} {}",
                time("firstAt"),
                time("at"),
                one["status"].as_str().unwrap(),
                one["count"]
            ));
        }
        if page["pageInfo"]["hasNextPage"] != true {
            assert_eq!(page["totalCount"], all.len(), "{all:?}");
            return all;
        }
        after = page["pageInfo"]["endCursor"].clone();
    }
}

both! {
    async fn every_occurrence_is_listed_once(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "0 * * * *", "overlap": "ALLOW_ALL" })).await;
        assert_eq!(past(&world, &id, 50).await, Vec::<String>::new());
        let skip = "mutation($id: ID!, $at: DateTime) { skipOccurrence(input: { id: $id, at: $at }) { schedule { id } } }";
        world.ask(skip, json!({ "id": id, "at": "2026-11-02T14:00:00Z" })).await;
        for hour in 1..=3 {
            world.clock.set(noon() + Duration::hours(hour) + Duration::seconds(5));
            world.tick(false).await;
        }
        // Down until 20:00: the last one starts, those before are missed. A start by hand is no occurrence.
        world.clock.set(noon() + Duration::hours(8) + Duration::seconds(5));
        world.tick(false).await;
        world.ask("mutation($id: ID!) { triggerSchedule(input: { id: $id }) { run { id } } }", json!({ "id": id })).await;
        let backfill = "mutation($id: ID!) { backfillSchedule(input: { id: $id, from: \"2026-11-02T17:30:00Z\", to: \"2026-11-02T18:00:00Z\" }) { runs { id } } }";
        world.ask(backfill, json!({ "id": id })).await;
        world.tick(false).await;
        world.pause(&id).await;
        world.clock.set(noon() + Duration::hours(10) + Duration::seconds(5));
        world.tick(false).await;
        world.resume(&id).await;
        // One to come that is skipped is not over.
        world.ask(skip, json!({ "id": id, "at": "2026-11-02T23:00:00Z" })).await;
        let mut expected = vec![
            "21:00-22:00 SKIPPED PAUSED 2", "20:00-20:00 FIRED - 1", "16:00-19:00 MISSED LATE 4", "18:00-18:00 BACKFILLED - 1",
            "15:00-15:00 FIRED - 1", "14:00-14:00 SKIPPED SKIPPED 1", "13:00-13:00 FIRED - 1",
        ];
        for first in [50, 3, 2, 1] {
            assert_eq!(past(&world, &id, first).await, expected, "pages of {first}");
        }
        world.tick(false).await;
        // Cancelled before its time: a stretch, not a run.
        world.clock.set(noon() + Duration::hours(11) + Duration::minutes(5));
        world.tick(false).await;
        let waiting = world.runs_of(&id).await.into_iter().find(|run| run["status"] == "SCHEDULED").unwrap()["id"].clone();
        world.act("cancelRun", "run", json!({ "id": waiting })).await;
        world.clock.set(noon() + Duration::hours(12) + Duration::minutes(5));
        world.tick(false).await;
        expected.splice(0..0, ["00:00-00:00 SKIPPED CANCELLED 1", "23:00-23:00 SKIPPED SKIPPED 1"]);
        assert_eq!(past(&world, &id, 3).await, expected);
        // Cursors of other lists, forged ones, and pages out of bounds.
        for (variables, field) in [
            (json!({ "id": id, "after": "x" }), "after"),
            (json!({ "id": id, "first": 501 }), "first"),
        ] {
            let (code, told) = world.refused(PAST, variables).await;
            assert!(told.contains(field), "{code} {told}");
        }
        world.end().await;
    }
}

both! {
    /// Two statements for each kind, whether one schedule is listed or twenty.
    async fn of_many_schedules(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.push(world.schedule(&plan, json!({ "cron": "0 * * * *", "overlap": "ALLOW_ALL" })).await);
        }
        world.clock.set(noon() + Duration::hours(2) + Duration::seconds(5));
        world.tick(false).await;
        let query = "{ schedules { nodes { id occurrences(first: 1) { totalCount nodes { at status run { name } } } } } }";
        let found = world.ask(query, json!({})).await["schedules"]["nodes"].clone();
        for one in found.as_array().unwrap() {
            assert_eq!((&one["occurrences"]["totalCount"], &one["occurrences"]["nodes"][0]["status"]), (&json!(2), &json!("FIRED")), "{one}");
        }
        assert_eq!(found.as_array().unwrap().len(), 5);
        world.end().await;
    }
}

both! {
    /// A start whose preflight failed was due, too.
    async fn a_failed_preflight_is_an_occurrence(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "0 * * * *" })).await;
        world.act("pauseCampaign", "campaign", json!({ "id": plan.campaign })).await;
        let update = "mutation($input: UpdateCampaignInput!) { updateCampaign(input: $input) { campaign { id } } }";
        world.ask(update, json!({ "input": { "id": plan.campaign, "messageTemplateId": null } })).await;
        world.act("resumeCampaign", "campaign", json!({ "id": plan.campaign })).await;
        for hour in 1..=2 {
            world.clock.set(noon() + Duration::hours(hour) + Duration::seconds(5));
            world.tick(false).await;
        }
        assert_eq!(past(&world, &id, 1).await, ["14:00-14:00 FIRED - 1", "13:00-13:00 FIRED - 1"]);
        assert_eq!(world.number("SELECT COUNT(*) FROM run WHERE status = 'FAILED'").await, 2);
        world.end().await;
    }
}

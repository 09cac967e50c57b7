//! Extreme times: rejected or waited for without errors; a schedule with no further occurrence
//! ends.

use chrono::Duration;
use serde_json::json;

use super::SCHEDULE;
use crate::harness::{World, noon};

both! {
    async fn extreme_times(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        for at in ["9999-12-31T23:59:59-05:00", "-0001-01-01T00:00:00Z", "+12000-01-01T00:00:00Z"] {
            let answer = world.post(SCHEDULE, json!({ "input": { "campaignId": plan.campaign, "at": at } })).await;
            let refused = answer["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
                || answer["data"]["scheduleCampaign"]["preflight"]["ready"] == false;
            assert!(refused, "{at}: {answer}");
        }
        // A hundred schedules for the last representable second, and one that is due.
        for _ in 0..100 {
            world.schedule(&plan, json!({ "at": "9999-12-31T23:59:59Z" })).await;
        }
        let due = world.schedule(&plan, json!({ "at": "2026-11-02T13:00:00Z" })).await;
        world.clock.set(noon() + Duration::minutes(60));
        world.tick(false).await;
        assert_eq!(world.shown(&due).await["status"], "ENDED");
        assert_eq!(sortie::domain::run::fire_schedule::due(&world.db).await.unwrap(), []);
        // A time that an old row may have: it is never due, and blocks nothing.
        if kind == crate::harness::Kind::Sqlite {
            world.force("UPDATE schedule SET next_at = '+10000-01-01T04:59:59+00:00' WHERE status = 'ACTIVE'").await;
            assert_eq!(sortie::domain::run::fire_schedule::due(&world.db).await.unwrap(), []);
            world.force("UPDATE schedule SET next_at = '9999-12-31 23:59:59+00:00' WHERE status = 'ACTIVE'").await;
        }
        world.drop_unchecked().await;
    }
}

both! {
    async fn the_last_minutes(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        world.clock.set("9999-12-31T23:57:10Z".parse().unwrap());
        let id = world.schedule(&plan, json!({ "cron": "* * * * *", "timezone": "Pacific/Kiritimati" })).await;
        for second in [5, 65] {
            world.clock.set("9999-12-31T23:58:00Z".parse::<chrono::DateTime<chrono::Utc>>().unwrap() + Duration::seconds(second));
            world.tick(false).await;
        }
        let shown = world.shown(&id).await;
        assert_eq!((&shown["status"], &shown["endReason"], &shown["nextAt"]), (&json!("ENDED"), &json!("EXHAUSTED"), &json!(null)));
        assert_eq!(world.started_and_waiting(&id).await.0.len(), 2);
        world.end().await;
    }
}

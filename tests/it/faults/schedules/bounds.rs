//! Bounds of a schedule, its number of starts, its jitter, and pauses with an end.

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};

use super::SCHEDULE;
use crate::harness::{World, noon};

const UPDATE: &str =
    "mutation($input: UpdateScheduleInput!) { updateSchedule(input: $input) { schedule { id revision } } }";
const BOUNDS: &str = "query($id: ID!) { schedule(id: $id) { status endReason startAt endAt remaining jitterSeconds
    overlap pausedAt pausedUntil nextAt upcoming(first: 5) { at startsAt skipped run { id } } } }";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

impl World {
    async fn bounds(&self, id: &str) -> Value {
        self.ask(BOUNDS, json!({ "id": id })).await["schedule"].clone()
    }

    async fn tick_at(&self, minutes: i64) {
        self.clock.set(noon() + Duration::minutes(minutes) + Duration::seconds(5));
        self.tick(false).await;
    }
}

both! {
    async fn nothing_occurs_before_the_start_or_after_the_end(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "0 * * * *", "startAt": "2026-11-02T15:00:00Z", "endAt": "2026-11-02T17:00:00Z" })).await;
        let shown = world.bounds(&id).await;
        assert_eq!((&shown["nextAt"], &shown["startAt"], &shown["endAt"]), (&json!("2026-11-02T15:00:00+00:00"), &json!("2026-11-02T15:00:00+00:00"), &json!("2026-11-02T17:00:00+00:00")));
        let times: Vec<&str> = shown["upcoming"].as_array().unwrap().iter().map(|one| &one["at"].as_str().unwrap()[11..16]).collect();
        assert_eq!(times, ["15:00", "16:00", "17:00"]);
        for hour in 1..=6 {
            world.tick_at(hour * 60).await;
        }
        assert_eq!(world.statuses_of(&id).await, [("15:00", "IN_PROGRESS"), ("16:00", "IN_PROGRESS"), ("17:00", "IN_PROGRESS")].map(|(at, status)| (at.to_owned(), status.to_owned())));
        let shown = world.bounds(&id).await;
        assert_eq!((&shown["status"], &shown["endReason"], &shown["upcoming"]), (&json!("ENDED"), &json!("EXHAUSTED"), &json!([])));
        // Downtime over the end: what is late by then is judged by the policy, then it ends.
        world.clock.set(noon() + Duration::hours(8));
        let other = world.schedule(&plan, json!({ "cron": "0 * * * *", "endAt": "2026-11-02T22:30:00Z" })).await;
        world.clock.set(noon() + Duration::hours(30));
        world.tick(false).await;
        let shown = world.bounds(&other).await;
        assert_eq!((&shown["status"], &shown["endReason"]), (&json!("ENDED"), &json!("EXHAUSTED")));
        assert_eq!(world.missed_of(&other).await, [("LATE".to_owned(), 1, "21:00".to_owned())]);
        assert_eq!(world.statuses_of(&other).await, [("22:00".to_owned(), "IN_PROGRESS".to_owned())]);
        world.end().await;
    }
}

both! {
    async fn bounds_are_checked_and_changed(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "0 * * * *" })).await;
        for (input, field) in [
            (json!({ "startAt": "2026-11-03T12:00:00Z", "endAt": "2026-11-03T11:00:00Z" }), "endAt"),
            (json!({ "startAt": "2026-11-03T12:10:00Z", "endAt": "2026-11-03T12:50:00Z" }), "endAt"),
            (json!({ "endAt": "2026-11-02T11:00:00Z" }), "endAt"),
            (json!({ "remaining": 0 }), "remaining"),
            (json!({ "remaining": 1_000_001 }), "remaining"),
            (json!({ "jitterSeconds": -1 }), "jitterSeconds"),
            (json!({ "jitterSeconds": 86_401 }), "jitterSeconds"),
            (json!({ "overlap": null }), "overlap"),
            (json!({ "at": "2026-11-03T12:00:00Z", "remaining": 2 }), "remaining"),
        ] {
            let mut changed = json!({ "id": id });
            changed.as_object_mut().unwrap().extend(input.as_object().unwrap().clone());
            let (code, told) = world.refused(UPDATE, json!({ "input": changed })).await;
            assert!(code == "BAD_USER_INPUT" && told.contains(field), "{input}: {told}");
            if input["overlap"].is_null() && input.get("overlap").is_some() || input.get("at").is_some() {
                continue;
            }
            let mut created = json!({ "campaignId": plan.campaign, "cron": "0 * * * *" });
            created.as_object_mut().unwrap().extend(input.as_object().unwrap().clone());
            let made = world.ask(SCHEDULE, json!({ "input": created })).await["scheduleCampaign"].clone();
            let failed = made["preflight"]["checks"].as_array().unwrap().iter().find(|check| check["status"] == "FAILED").unwrap().clone();
            assert!(made["schedule"].is_null() && failed["code"] == "TIME" && failed["message"].as_str().unwrap().contains(field), "{input}: {made}");
        }
        // A change of the bounds moves the waiting run, and null removes a bound.
        let run = world.occurrences_of(&id).await[0]["id"].clone();
        world.change("updateSchedule", "UpdateScheduleInput", json!({ "id": id, "startAt": "2026-11-02T18:30:00Z", "remaining": 5, "overlap": "SKIP" })).await;
        let shown = world.bounds(&id).await;
        assert_eq!((&shown["nextAt"], &shown["remaining"], &shown["overlap"]), (&json!("2026-11-02T19:00:00+00:00"), &json!(5), &json!("SKIP")));
        assert_eq!((&shown["upcoming"][0]["run"]["id"], &shown["upcoming"][1]["run"]), (&run, &json!(null)));
        world.change("updateSchedule", "UpdateScheduleInput", json!({ "id": id, "startAt": null, "remaining": null })).await;
        let shown = world.bounds(&id).await;
        assert_eq!((&shown["nextAt"], &shown["startAt"], &shown["remaining"]), (&json!("2026-11-02T13:00:00+00:00"), &json!(null), &json!(null)));
        // A single time has none of them.
        world.change("updateSchedule", "UpdateScheduleInput", json!({ "id": id, "remaining": 3, "jitterSeconds": 60 })).await;
        world.change("updateSchedule", "UpdateScheduleInput", json!({ "id": id, "at": "2026-11-02T20:00:00Z" })).await;
        let shown = world.bounds(&id).await;
        assert_eq!((&shown["nextAt"], &shown["remaining"], &shown["jitterSeconds"]), (&json!("2026-11-02T20:00:00+00:00"), &json!(null), &json!(0)));
        world.end().await;
    }
}

both! {
    async fn a_number_of_starts(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "*/10 * * * *", "remaining": 2 })).await;
        let many = world.schedule(&plan, json!({ "cron": "*/10 * * * *", "remaining": 3, "catchUp": "ALL" })).await;
        assert_eq!(world.bounds(&id).await["upcoming"].as_array().unwrap().len(), 2);
        world.tick_at(10).await;
        assert_eq!(world.bounds(&id).await["remaining"], 1);
        // A run that is started by a person does not count.
        world.ask("mutation($id: ID!) { triggerSchedule(input: { id: $id }) { run { status } } }", json!({ "id": id })).await;
        assert_eq!(world.bounds(&id).await["remaining"], 1);
        world.tick_at(200).await;
        for (id, starts) in [(&id, 3), (&many, 3)] {
            let shown = world.bounds(id).await;
            assert_eq!((&shown["status"], &shown["endReason"], &shown["remaining"], &shown["nextAt"]), (&json!("ENDED"), &json!("EXHAUSTED"), &json!(0), &json!(null)));
            let started = world.statuses_of(id).await.iter().filter(|(_, status)| status == "IN_PROGRESS").count();
            assert_eq!(started, starts);
        }
        world.end().await;
    }
}

both! {
    async fn jitter_is_the_same_after_a_restart_and_keeps_the_order(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "0 * * * *", "jitterSeconds": 1_800 })).await;
        let crowded = world.schedule(&plan, json!({ "cron": "*/10 * * * *", "jitterSeconds": 86_400, "catchUp": "ALL" })).await;
        let planned = world.bounds(&id).await["upcoming"].clone();
        let mut offsets = std::collections::BTreeSet::new();
        for one in planned.as_array().unwrap() {
            let offset = at(one["startsAt"].as_str().unwrap()) - at(one["at"].as_str().unwrap());
            assert!((0..=1_800).contains(&offset.num_seconds()), "{one}");
            offsets.insert(offset.num_seconds());
        }
        assert!(offsets.len() > 1, "each has its own: {offsets:?}");
        assert_eq!(planned, world.bounds(&id).await["upcoming"]);
        assert_eq!(world.bounds(&id).await["nextAt"], planned[0]["startsAt"]);
        // Each starts at the announced time, not before, by its time of the pattern.
        for one in planned.as_array().unwrap() {
            world.clock.set(at(one["startsAt"].as_str().unwrap()) - Duration::seconds(1));
            world.tick(false).await;
            let count = async || world.occurrences_of(&id).await.iter().filter(|run| run["status"] == "IN_PROGRESS").count();
            let before = count().await;
            world.clock.set(at(one["startsAt"].as_str().unwrap()));
            world.tick(false).await;
            assert_eq!(count().await, before + 1, "{one}");
        }
        let sorted = async |id: &str| {
            let mut runs = world.occurrences_of(id).await;
            runs.sort_by_key(|run| run["occurrenceAt"].as_str().unwrap().to_owned());
            runs
        };
        let runs = sorted(&id).await;
        for (run, one) in runs.iter().zip(planned.as_array().unwrap()) {
            assert_eq!((&run["occurrenceAt"], &run["scheduledFor"]), (&one["at"], &one["startsAt"]));
        }
        // Delays end before the next occurrence, so that starts keep its order.
        let runs = sorted(&crowded).await;
        assert!(runs.len() > 20, "{}", runs.len());
        for pair in runs.windows(2) {
            assert!(pair[0]["scheduledFor"].as_str() < pair[1]["occurrenceAt"].as_str(), "{pair:?}");
        }
        // A change while a delay runs: that occurrence still starts, and the new times follow.
        let head = world.bounds(&id).await["upcoming"][0].clone();
        world.clock.set(at(head["at"].as_str().unwrap()));
        world.tick(false).await;
        world.change("updateSchedule", "UpdateScheduleInput", json!({ "id": id, "jitterSeconds": 0 })).await;
        world.clock.set(at(head["startsAt"].as_str().unwrap()) + Duration::seconds(5));
        world.tick(false).await;
        let runs = world.occurrences_of(&id).await;
        let kept = runs.iter().find(|run| run["occurrenceAt"] == head["at"]).unwrap();
        assert_eq!((&kept["status"], &kept["scheduledFor"]), (&json!("IN_PROGRESS"), &head["startsAt"]));
        world.end().await;
    }
}

both! {
    async fn a_pause_with_an_end(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "*/10 * * * *" })).await;
        let once = world.schedule(&plan, json!({ "at": "2026-11-02T12:15:00Z" })).await;
        let past = "mutation($id: ID!) { pauseSchedule(input: { id: $id, until: \"2026-11-02T12:00:00Z\" }) { schedule { id } } }";
        assert_eq!(world.refused(past, json!({ "id": id })).await.0, "BAD_USER_INPUT");
        for id in [&id, &once] {
            world.change("pauseSchedule", "ScheduleActInput", json!({ "id": id, "until": "2026-11-02T12:35:00Z" })).await;
        }
        let until = "mutation($id: ID!) { resumeSchedule(input: { id: $id, until: \"2026-11-02T13:00:00Z\" }) { schedule { id } } }";
        assert_eq!(world.refused(until, json!({ "id": id })).await.0, "BAD_USER_INPUT");
        let shown = world.bounds(&id).await;
        assert_eq!((&shown["pausedUntil"], &shown["nextAt"], &shown["upcoming"][0]["at"]), (&json!("2026-11-02T12:35:00+00:00"), &json!(null), &json!("2026-11-02T12:40:00+00:00")));
        world.tick_at(30).await;
        assert_eq!(world.bounds(&id).await["status"], "PAUSED");
        world.tick_at(35).await;
        let shown = world.bounds(&id).await;
        assert_eq!((&shown["status"], &shown["pausedUntil"], &shown["pausedAt"], &shown["nextAt"]), (&json!("ACTIVE"), &json!(null), &json!(null), &json!("2026-11-02T12:40:00+00:00")));
        assert_eq!(world.missed_of(&id).await, [("PAUSED".to_owned(), 3, "12:10".to_owned())]);
        assert_eq!(world.bounds(&once).await["status"], "ENDED", "a single time that passed starts at the end");
        assert_eq!(world.statuses_of(&once).await, [("12:15".to_owned(), "IN_PROGRESS".to_owned())]);
        let resumed = world.events_of(&id).await.into_iter().find(|event| event["kind"] == "schedule.resumed").unwrap();
        assert_eq!((&resumed["payload"]["from"], &resumed["payload"]["to"]), (&json!("PAUSED"), &json!("ACTIVE")));
        // The server is down at the end: what fell due after it is late, not paused.
        world.change("pauseSchedule", "ScheduleActInput", json!({ "id": id, "until": "2026-11-02T13:05:00Z" })).await;
        world.tick_at(95).await;
        assert_eq!(world.missed_of(&id).await, [("PAUSED".to_owned(), 3, "12:10".to_owned()), ("PAUSED".to_owned(), 3, "12:40".to_owned()), ("LATE".to_owned(), 2, "13:10".to_owned())]);
        assert_eq!(world.bounds(&id).await["nextAt"], "2026-11-02T13:40:00+00:00");
        // A person may resume it before, and pause it again although its end has not been noticed.
        world.change("pauseSchedule", "ScheduleActInput", json!({ "id": id, "until": "2026-11-02T13:50:00Z" })).await;
        assert_eq!(world.resume(&id).await["nextAt"], "2026-11-02T13:40:00+00:00");
        world.change("pauseSchedule", "ScheduleActInput", json!({ "id": id, "until": "2026-11-02T13:45:00Z" })).await;
        world.clock.set(noon() + Duration::minutes(112));
        world.pause(&id).await;
        assert_eq!(world.bounds(&id).await["pausedUntil"], json!(null));
        world.end().await;
    }
}

//! Random sequences of operations on a schedule: every due time is accounted for, with at most one
//! late run.

use chrono::{DateTime, Duration, Utc};
use serde_json::json;

use crate::harness::{World, noon};

const CRONS: [&str; 5] = ["*/10 * * * *", "5 * * * *", "@hourly", "0,20,40 1-23 * * *", "*/7 * * * *"];
const ZONES: [&str; 4] = ["UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"];

/// Pseudo-random numbers with a fixed seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.roll(of.len() as u64)).unwrap()]
    }
}

both! {
    async fn any_order_of_changes(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let mut dice = Dice(17);
        let policies = ["LAST", "NONE", "ALL"];
        let mut all = Vec::new();
        for policy in policies {
            all.push(world.schedule(&plan, json!({ "cron": "*/10 * * * *", "catchUp": policy, "catchUpWindowSeconds": 3_000 })).await);
        }
        // A day and a half that includes the end of summer time in New York.
        world.clock.set(noon());
        let mut now = noon();
        for step in 0..45 {
            let id = dice.one(&[&all[0], &all[1], &all[2]]);
            let waiting: Vec<_> = world.runs_of(id).await.into_iter().filter(|run| run["status"] == "SCHEDULED").collect();
            let run = waiting.first().map(|run| run["id"].clone());
            let what = dice.roll(9);
            // An operation that is not allowed now is rejected; no error is INTERNAL.
            let (query, input) = match what {
                0 => ("mutation($i: ScheduleActInput!) { pauseSchedule(input: $i) { schedule { id } } }", json!({ "id": id })),
                1 | 2 => ("mutation($i: ScheduleActInput!) { resumeSchedule(input: $i) { schedule { id } } }", json!({ "id": id })),
                3 => ("mutation($i: UpdateScheduleInput!) { updateSchedule(input: $i) { schedule { id } } }", json!({ "id": id, "cron": dice.one(&CRONS), "timezone": dice.one(&ZONES) })),
                4 => {
                    let at = now + Duration::minutes(i64::try_from(dice.roll(90)).unwrap() + 1);
                    ("mutation($i: RescheduleRunInput!) { rescheduleRun(input: $i) { run { id } } }", json!({ "id": run, "at": at }))
                }
                5 => ("mutation($i: RunActInput!) { cancelRun(input: $i) { run { id } } }", json!({ "id": run })),
                _ => {
                    now += Duration::seconds(i64::from(dice.one(&[20, 200, 1_000, 9_000])));
                    world.clock.set(now);
                    if dice.roll(3) > 0 {
                        let before = fired(&world, &all[0]).await.len();
                        world.tick(false).await;
                        let late = fired(&world, &all[0]).await[before..].iter().filter(|late| **late).count();
                        assert!(late <= 1, "step {step}: {late} late runs by LAST");
                    }
                    continue;
                }
            };
            let answer = world.post(query, json!({ "i": input })).await;
            let code = answer["errors"][0]["extensions"]["code"].as_str().unwrap_or_default();
            assert!(["", "INVALID_TRANSITION"].contains(&code), "step {step}: {query} {input}: {answer}");
        }
        for id in &all {
            let shown = world.shown(id).await;
            let next: Option<DateTime<Utc>> = shown["nextAt"].as_str().map(|at| at.parse().unwrap());
            assert_eq!(next.is_some(), shown["status"] == "ACTIVE", "{shown:#}");
        }
        world.end().await;
    }
}

both! {
    async fn any_order_with_overlap_jitter_and_skips(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let mut dice = Dice(29);
        let mut all = Vec::new();
        for (overlap, jitter) in [("SKIP", 0), ("BUFFER_ONE", 240), ("BUFFER_ALL", 3_000), ("CANCEL_OTHER", 90)] {
            let more = json!({ "overlap": overlap, "jitterSeconds": jitter, "timezone": "America/New_York", "catchUp": dice.one(&["LAST", "ALL", "NONE"]) });
            let mut input = json!({ "cron": "*/10 * * * *" });
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            all.push(world.schedule(&plan, input).await);
        }
        let mut now = noon();
        for step in 0..60 {
            let id = dice.one(&[&all[0], &all[1], &all[2], &all[3]]);
            let runs = world.runs_of(id).await;
            let of = |statuses: &[&str]| runs.iter().find(|run| statuses.contains(&run["status"].as_str().unwrap())).map(|run| run["id"].clone());
            let ahead = |minutes: u64| now + Duration::minutes(i64::try_from(minutes).unwrap() + 1);
            let (query, input) = match dice.roll(12) {
                0 => ("mutation($i: ScheduleActInput!) { pauseSchedule(input: $i) { schedule { id } } }", json!({ "id": id, "until": ahead(dice.roll(90)) })),
                1 => ("mutation($i: ScheduleActInput!) { resumeSchedule(input: $i) { schedule { id } } }", json!({ "id": id })),
                2 => ("mutation($i: UpdateScheduleInput!) { updateSchedule(input: $i) { schedule { id } } }", json!({ "id": id, "cron": dice.one(&CRONS), "jitterSeconds": dice.one(&[0, 30, 900]) })),
                3 => ("mutation($i: RescheduleRunInput!) { rescheduleRun(input: $i) { run { id } } }", json!({ "id": of(&["SCHEDULED"]), "at": ahead(dice.roll(90)) })),
                4 => ("mutation($i: RunActInput!) { cancelRun(input: $i) { run { id } } }", json!({ "id": of(&["SCHEDULED"]) })),
                5 | 6 => match of(&["IN_PROGRESS"]) {
                    Some(run) => ("mutation($i: RunActInput!) { cancelRun(input: $i) { run { id } } }", json!({ "id": run })),
                    None => continue,
                },
                7 => ("mutation($i: SkipOccurrenceInput!) { skipOccurrence(input: $i) { schedule { id } } }", json!({ "id": id })),
                8 => ("mutation($i: TriggerScheduleInput!) { triggerSchedule(input: $i) { run { id } } }", json!({ "id": id })),
                _ => {
                    now += Duration::seconds(i64::from(dice.one(&[20, 200, 700, 4_000])));
                    world.clock.set(now);
                    if dice.roll(4) > 0 {
                        world.tick(false).await;
                    }
                    continue;
                }
            };
            let answer = world.post(query, json!({ "i": input })).await;
            let code = answer["errors"][0]["extensions"]["code"].as_str().unwrap_or_default();
            assert!(["", "INVALID_TRANSITION", "CONFLICT"].contains(&code), "step {step}: {query} {input}: {answer}");
        }
        world.tick(false).await;
        world.end().await;
    }
}

/// Starts of a schedule so far, each with whether it was late.
async fn fired(world: &World, id: &str) -> Vec<bool> {
    let events = world.events_of(id).await.into_iter().filter(|event| event["kind"] == "schedule.fired");
    events.map(|event| event["payload"]["late"] == true).collect()
}

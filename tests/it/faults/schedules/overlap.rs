//! Occurrences that fall due while an earlier run of their schedule is open.

use chrono::Duration;
use serde_json::json;

use crate::harness::{World, noon};

impl World {
    async fn at_minute(&self, minutes: i64) {
        self.clock.set(noon() + Duration::minutes(minutes) + Duration::seconds(5));
        self.tick(false).await;
    }

    /// Cancels the run of this occurrence.
    async fn end_run(&self, schedule: &str, at: &str) {
        let runs = self.occurrences_of(schedule).await;
        let run = runs.iter().find(|run| run["occurrenceAt"].as_str().is_some_and(|time| &time[11..16] == at)).unwrap();
        self.act("cancelRun", "run", json!({ "id": run["id"] })).await;
        self.tick(false).await;
    }
}

fn of(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(at, status)| ((*at).to_owned(), (*status).to_owned())).collect()
}

both! {
    async fn each_policy(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let mut ids = Vec::new();
        for overlap in [None, Some("SKIP"), Some("BUFFER_ONE"), Some("BUFFER_ALL"), Some("CANCEL_OTHER")] {
            ids.push(world.schedule(&plan, json!({ "cron": "*/10 * * * *", "overlap": overlap })).await);
        }
        let [all, skip, one, buffer, other] = &ids[..] else { unreachable!() };
        for minute in [10, 20, 30] {
            world.at_minute(minute).await;
        }
        assert_eq!(world.statuses_of(all).await, of(&[("12:10", "IN_PROGRESS"), ("12:20", "IN_PROGRESS"), ("12:30", "IN_PROGRESS"), ("12:40", "SCHEDULED")]));
        assert_eq!(world.statuses_of(skip).await, of(&[("12:10", "IN_PROGRESS"), ("12:40", "SCHEDULED")]));
        assert_eq!(world.missed_of(skip).await, [("OVERLAP".to_owned(), 1, "12:20".to_owned()), ("OVERLAP".to_owned(), 1, "12:30".to_owned())]);
        assert_eq!(world.statuses_of(one).await, of(&[("12:10", "IN_PROGRESS"), ("12:20", "SCHEDULED"), ("12:40", "SCHEDULED")]));
        assert_eq!(world.missed_of(one).await, [("OVERLAP".to_owned(), 1, "12:30".to_owned())]);
        assert_eq!(world.statuses_of(buffer).await, of(&[("12:10", "IN_PROGRESS"), ("12:20", "SCHEDULED"), ("12:30", "SCHEDULED"), ("12:40", "SCHEDULED")]));
        assert_eq!(world.statuses_of(other).await, of(&[("12:10", "CANCELLED"), ("12:20", "CANCELLED"), ("12:30", "IN_PROGRESS"), ("12:40", "SCHEDULED")]));
        let waits = world.occurrences_of(buffer).await;
        let waits = waits.iter().find(|run| run["occurrenceAt"] == "2026-11-02T12:20:00+00:00").unwrap();
        assert_eq!(waits["waitingFor"], json!([{ "code": "EARLIER_RUN" }]));
        assert_eq!(world.shown(buffer).await["nextAt"], "2026-11-02T12:40:00+00:00");
        let buffered = world.events_of(buffer).await.into_iter().filter(|event| event["kind"] == "schedule.buffered").count();
        assert_eq!(buffered, 2);
        // Those that wait start in order, each when the run before it has ended.
        for id in [skip, one, buffer] {
            world.end_run(id, "12:10").await;
        }
        assert_eq!(world.statuses_of(one).await, of(&[("12:10", "CANCELLED"), ("12:20", "IN_PROGRESS"), ("12:40", "SCHEDULED")]));
        assert_eq!(world.statuses_of(buffer).await, of(&[("12:10", "CANCELLED"), ("12:20", "IN_PROGRESS"), ("12:30", "SCHEDULED"), ("12:40", "SCHEDULED")]));
        // An occurrence that falls due meanwhile queues up behind them.
        world.at_minute(40).await;
        world.end_run(buffer, "12:20").await;
        assert_eq!(world.statuses_of(buffer).await, of(&[("12:10", "CANCELLED"), ("12:20", "CANCELLED"), ("12:30", "IN_PROGRESS"), ("12:40", "SCHEDULED"), ("12:50", "SCHEDULED")]));
        assert_eq!(world.statuses_of(skip).await, of(&[("12:10", "CANCELLED"), ("12:40", "IN_PROGRESS"), ("12:50", "SCHEDULED")]));
        // A pause does not lose what waits; the end of the schedule cancels it.
        world.pause(buffer).await;
        world.end_run(buffer, "12:30").await;
        world.at_minute(65).await;
        assert_eq!(world.statuses_of(buffer).await[3], ("12:40".to_owned(), "SCHEDULED".to_owned()));
        world.resume(buffer).await;
        world.tick(false).await;
        assert_eq!(world.statuses_of(buffer).await[3], ("12:40".to_owned(), "IN_PROGRESS".to_owned()));
        assert_eq!(world.missed_of(buffer).await, [("PAUSED".to_owned(), 2, "12:50".to_owned())]);
        world.at_minute(70).await;
        world.ask("mutation($id: ID!) { endSchedule(input: { id: $id }) { schedule { status } } }", json!({ "id": buffer })).await;
        assert_eq!(world.statuses_of(buffer).await.last().unwrap().1, "CANCELLED");
        world.end().await;
    }
}

both! {
    async fn what_waits_at_the_end_of_the_pattern_keeps_the_schedule_open(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "*/10 * * * *", "overlap": "BUFFER_ALL", "endAt": "2026-11-02T12:30:00Z" })).await;
        for minute in [10, 20, 30, 40] {
            world.at_minute(minute).await;
        }
        let shown = world.shown(&id).await;
        assert_eq!((&shown["status"], &shown["nextAt"]), (&json!("ACTIVE"), &json!(null)));
        world.end_run(&id, "12:10").await;
        // A waiting run that a person cancels is skipped.
        world.end_run(&id, "12:30").await;
        assert_eq!(world.statuses_of(&id).await, of(&[("12:10", "CANCELLED"), ("12:20", "IN_PROGRESS"), ("12:30", "CANCELLED")]));
        let shown = world.shown(&id).await;
        assert_eq!((&shown["status"], &shown["endReason"]), (&json!("ENDED"), &json!("EXHAUSTED")));
        assert_eq!(world.missed_of(&id).await, [("CANCELLED".to_owned(), 1, "12:30".to_owned())]);
        world.end().await;
    }
}

both! {
    /// A run that waits uses a start when it starts: no occurrence is shown that finds none left.
    async fn what_waits_uses_the_starts_that_remain(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "*/10 * * * *", "overlap": "BUFFER_ALL", "remaining": 3 })).await;
        let shown = async || {
            let query = "query($id: ID!) { schedule(id: $id) { remaining upcoming(first: 5) { at } } }";
            let schedule = world.ask(query, json!({ "id": id })).await["schedule"].clone();
            (schedule["remaining"].clone(), schedule["upcoming"].as_array().map(Vec::len))
        };
        assert_eq!(shown().await, (json!(3), Some(3)));
        world.at_minute(10).await;
        assert_eq!(shown().await, (json!(2), Some(2)));
        world.at_minute(20).await;
        assert_eq!(shown().await, (json!(2), Some(1)), "one waits");
        world.end_run(&id, "12:10").await;
        assert_eq!(shown().await, (json!(1), Some(1)));
        world.end().await;
    }
}

both! {
    async fn a_change_of_the_policy(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "*/10 * * * *", "overlap": "BUFFER_ALL" })).await;
        for minute in [10, 20, 30] {
            world.at_minute(minute).await;
        }
        world.change("updateSchedule", "UpdateScheduleInput", json!({ "id": id, "overlap": "SKIP" })).await;
        world.at_minute(40).await;
        assert_eq!(world.statuses_of(&id).await, of(&[("12:10", "IN_PROGRESS"), ("12:20", "SCHEDULED"), ("12:30", "SCHEDULED"), ("12:50", "SCHEDULED")]));
        world.change("updateSchedule", "UpdateScheduleInput", json!({ "id": id, "overlap": "ALLOW_ALL" })).await;
        world.tick(false).await;
        assert_eq!(world.statuses_of(&id).await, of(&[("12:10", "IN_PROGRESS"), ("12:20", "IN_PROGRESS"), ("12:30", "IN_PROGRESS"), ("12:50", "SCHEDULED")]));
        world.end().await;
    }
}

both! {
    async fn catch_up_with_a_buffer_and_a_change_of_the_clock(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "30 * * * *", "timezone": "America/New_York", "overlap": "BUFFER_ALL", "catchUp": "ALL", "catchUpWindowSeconds": 10_800 })).await;
        // Down for a day; then the last three hours start, one after another.
        world.clock.set("2026-11-03T12:31:00Z".parse().unwrap());
        world.tick(false).await;
        let statuses = world.statuses_of(&id).await;
        assert_eq!(statuses, of(&[("10:30", "IN_PROGRESS"), ("11:30", "SCHEDULED"), ("12:30", "SCHEDULED"), ("13:30", "SCHEDULED")]));
        // The clock is set back: nothing starts twice.
        world.clock.set("2026-11-03T11:00:00Z".parse().unwrap());
        world.tick(false).await;
        world.clock.set("2026-11-03T12:31:30Z".parse().unwrap());
        world.tick(false).await;
        assert_eq!(world.statuses_of(&id).await, statuses);
        world.end().await;
    }
}

both! {
    async fn two_nodes_start_what_waits_once(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "*/10 * * * *", "overlap": "BUFFER_ALL" })).await;
        for minute in [10, 20, 30] {
            world.at_minute(minute).await;
        }
        let run = world.occurrences_of(&id).await[0]["id"].clone();
        world.act("cancelRun", "run", json!({ "id": run })).await;
        let node = async || {
            for (org, id) in sortie::domain::run::fire_schedule::due(&world.db).await.unwrap() {
                let engine = sortie::kernel::viewer::Viewer::engine(org);
                sortie::domain::run::fire_schedule::fire(&world.db.write(), &engine, id).await.unwrap();
            }
        };
        tokio::join!(node(), node(), node(), node());
        assert_eq!(world.statuses_of(&id).await, of(&[("12:10", "CANCELLED"), ("12:20", "QUEUED"), ("12:30", "SCHEDULED"), ("12:40", "SCHEDULED")]));
        world.tick(false).await;
        world.end().await;
    }
}

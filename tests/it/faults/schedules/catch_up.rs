//! Catch-up after downtime: at most one late run unless configured otherwise; the other occurrences
//! are recorded as one range.

use chrono::Duration;
use serde_json::{Value, json};

use crate::harness::{World, noon};

const GUIDED: &str =
    "mutation($input: ScheduleGuidedRunInput!) { scheduleGuidedRun(input: $input) { schedule { id } } }";

fn every_minute(more: Value) -> Value {
    let mut input = json!({ "cron": "* * * * *", "timezone": "Europe/Berlin" });
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    input
}

both! {
    async fn three_days_stop(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let last = world.schedule(&plan, every_minute(json!({}))).await;
        let none = world.schedule(&plan, every_minute(json!({ "catchUp": "NONE" }))).await;
        let all = world.schedule(&plan, every_minute(json!({ "catchUp": "ALL", "catchUpWindowSeconds": 300 }))).await;
        let daily = world.schedule(&plan, json!({ "cron": "0 3 * * *" })).await;
        let strict = world.schedule(&plan, json!({ "cron": "0 3 * * *", "catchUpWindowSeconds": 3600 })).await;
        let input = json!({ "templateKey": "weekly-pipeline-review", "cron": "* * * * *", "timezone": "UTC" });
        let guided = world.ask(GUIDED, json!({ "input": input })).await;
        let guided = guided["scheduleGuidedRun"]["schedule"]["id"].as_str().unwrap().to_owned();
        assert_eq!(world.shown(&last).await["catchUp"], "LAST");
        world.clock.set(noon() + Duration::days(3) + Duration::seconds(90));
        world.tick(false).await;
        // 12:01 on Monday to 12:01 on Thursday are 4,321 due times.
        for id in [&last, &guided] {
            let (started, waiting) = world.started_and_waiting(id).await;
            assert_eq!((started, waiting), (vec!["2026-11-05T12:01".to_owned()], vec!["2026-11-05T12:02".to_owned()]));
            let shown = world.shown(id).await;
            assert_eq!(shown["missed"]["nodes"], json!([{ "reason": "LATE", "count": 4320, "firstAt": "2026-11-02T12:01:00+00:00", "lastAt": "2026-11-05T12:00:00+00:00", "localTimes": null }]));
            assert_eq!(shown["nextAt"], "2026-11-05T12:02:00+00:00");
            let missed: Vec<_> = world.events_of(id).await.into_iter().filter(|event| event["kind"] == "schedule.missed").collect();
            assert_eq!(missed.len(), 1, "one event for the stretch");
            assert_eq!(missed[0]["payload"]["count"], 4320);
            assert_eq!(missed[0]["payload"]["reason"], "LATE");
        }
        // NONE: late occurrences do not start; 12:01 is not late.
        let (started, waiting) = world.started_and_waiting(&none).await;
        assert_eq!((started, waiting), (vec!["2026-11-05T12:01".to_owned()], vec!["2026-11-05T12:02".to_owned()]));
        // ALL: the occurrences of the last five minutes, in order.
        let (started, waiting) = world.started_and_waiting(&all).await;
        assert_eq!(started, ["2026-11-05T11:57", "2026-11-05T11:58", "2026-11-05T11:59", "2026-11-05T12:00", "2026-11-05T12:01"]);
        assert_eq!(waiting, ["2026-11-05T12:02"]);
        assert_eq!(world.shown(&all).await["missed"]["nodes"][0]["count"], 4316);
        let fired: Vec<Value> = world.events_of(&all).await.into_iter().filter(|event| event["kind"] == "schedule.fired").collect();
        let order: Vec<&str> = fired.iter().map(|event| event["payload"]["occurrenceAt"].as_str().unwrap()).collect();
        assert!(order.is_sorted() && order.len() == 5, "{order:?}");
        assert_eq!(fired.iter().filter(|event| event["payload"]["late"] == true).count(), 4);
        // Once a day: the last one is late by nine hours, beyond a catch-up window of an hour.
        assert_eq!(world.started_and_waiting(&daily).await, (vec!["2026-11-05T03:00".to_owned()], vec!["2026-11-06T03:00".to_owned()]));
        assert_eq!(world.shown(&daily).await["missed"]["nodes"][0]["count"], 2);
        assert_eq!(world.started_and_waiting(&strict).await, (vec![], vec!["2026-11-06T03:00".to_owned()]));
        assert_eq!(world.shown(&strict).await["missed"]["nodes"][0]["count"], 3);
        world.end().await;
    }
}

both! {
    async fn a_months_stop_is_one_quick_record(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, every_minute(json!({ "timezone": "America/New_York" }))).await;
        world.clock.set(noon() + Duration::days(30));
        let begin = std::time::Instant::now();
        world.tick(false).await;
        let took = begin.elapsed();
        println!("a schedule of every minute after 30 days: {took:?} in this build");
        assert!(took < std::time::Duration::from_secs(20), "{took:?}");
        let shown = world.shown(&id).await;
        assert_eq!((&shown["missed"]["totalCount"], &shown["missed"]["nodes"][0]["count"]), (&json!(1), &json!(43_199)));
        assert_eq!(world.runs_of(&id).await.len(), 2);
        world.end().await;
    }
}

both! {
    async fn single_times_and_moved_runs(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let at = json!({ "at": "2026-11-02T13:00:00Z" });
        let once = world.schedule(&plan, at.clone()).await;
        let strict = world.schedule(&plan, json!({ "at": at["at"], "catchUp": "NONE" })).await;
        let narrow = world.schedule(&plan, json!({ "at": at["at"], "catchUpWindowSeconds": 60 })).await;
        let hourly = world.schedule(&plan, json!({ "cron": "0 * * * *" })).await;
        let moved = world.runs_of(&hourly).await[0]["id"].clone();
        let move_to = "mutation($id: ID!, $at: DateTime!) { rescheduleRun(input: { id: $id, at: $at }) { run { id } } }";
        world.ask(move_to, json!({ "id": moved, "at": "2026-11-02T14:30:00Z" })).await;
        world.clock.set(noon() + Duration::hours(30) + Duration::minutes(10));
        world.tick(false).await;
        assert_eq!(world.started_and_waiting(&once).await.0, ["2026-11-02T13:00"]);
        assert_eq!(world.shown(&once).await["endReason"], "EXHAUSTED");
        for id in [&strict, &narrow] {
            let runs = world.runs_of(id).await;
            assert_eq!(runs[0]["status"], "CANCELLED");
            assert!(runs[0]["failure"].as_str().unwrap().contains("its time passed"), "{runs:?}");
            let shown = world.shown(id).await;
            assert_eq!((&shown["status"], &shown["endReason"], &shown["nextAt"]), (&json!("ENDED"), &json!("EXHAUSTED"), &json!(null)));
            assert_eq!(shown["missed"]["nodes"][0]["reason"], "LATE");
        }
        // One late run for all missed occurrences, including the moved one.
        let (started, waiting) = world.started_and_waiting(&hourly).await;
        assert_eq!((started, waiting), (vec!["2026-11-03T18:00".to_owned()], vec!["2026-11-03T19:00".to_owned()]));
        let reasons = world.shown(&hourly).await["missed"]["nodes"].clone();
        let counts: i64 = reasons.as_array().unwrap().iter().map(|one| one["count"].as_i64().unwrap()).sum();
        assert_eq!(counts, 29, "{reasons}");
        world.end().await;
    }
}

both! {
    async fn two_nodes_fire_once(kind) {
        let world = World::new(kind).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let mut all = Vec::new();
        for _ in 0..8 {
            all.push(world.schedule(&plan, every_minute(json!({ "catchUp": "ALL", "catchUpWindowSeconds": 240 }))).await);
        }
        world.clock.set(noon() + Duration::minutes(30) + Duration::seconds(5));
        // The server's own engine, and five others.
        let engine = |org| sortie::kernel::viewer::Viewer::engine(org);
        let node = async || loop {
            let due = sortie::domain::run::fire_schedule::due(&world.db).await.unwrap();
            if due.is_empty() {
                return;
            }
            for (org, id) in due {
                sortie::domain::run::fire_schedule::fire(&world.db.write(), &engine(org), id).await.unwrap();
            }
        };
        tokio::join!(node(), node(), node(), node(), node());
        for id in &all {
            let (started, waiting) = world.started_and_waiting(id).await;
            assert_eq!(started, ["2026-11-02T12:27", "2026-11-02T12:28", "2026-11-02T12:29", "2026-11-02T12:30"]);
            assert_eq!(waiting, ["2026-11-02T12:31"]);
            assert_eq!(world.shown(id).await["missed"]["nodes"][0]["count"], 26);
        }
        world.end().await;
    }
}

both! {
    async fn a_clock_change_in_the_stop_is_recorded(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "*/15 2 * * *", "timezone": "America/New_York" })).await;
        world.clock.set("2027-03-15T12:00:00Z".parse().unwrap());
        world.tick(false).await;
        let shown = world.shown(&id).await;
        let stretches = shown["missed"]["nodes"].as_array().unwrap();
        let of = |reason: &str| stretches.iter().filter(|one| one["reason"] == reason).collect::<Vec<_>>();
        assert_eq!(of("NO_SUCH_LOCAL_TIME").len(), 1, "{shown:#}");
        assert_eq!(of("NO_SUCH_LOCAL_TIME")[0]["localTimes"], json!(["2027-03-14 02:00", "2027-03-14 02:15", "2027-03-14 02:30", "2027-03-14 02:45"]));
        assert_eq!(of("LATE").len(), 1);
        world.end().await;
    }
}

//! Work that keeps failing: it is set aside with a growing backoff, reported in every view, and the
//! report goes away when the work succeeds.

use chrono::Duration;
use serde_json::{Value, json};

use super::{codes, reason, refuse, step, take_again, template};
use crate::harness::api::{Answer, Api};
use crate::harness::{World, noon};

/// Status and body of a page outside of GraphQL.
async fn page(world: &World, path: &str) -> (u16, String) {
    let answer = crate::harness::client().get(format!("http://{}{path}", world.address)).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Advances the clock until a statement returns the expected count.
async fn until_count(world: &World, after: &mut i64, step: i64, sql: &str, wanted: impl Fn(i64) -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut nudges = world.db.nudges();
    while !wanted(world.number(sql).await) {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain for {sql}");
        *after += step;
        world.clock.set(noon() + Duration::seconds(*after));
        let _ = tokio::time::timeout(std::time::Duration::from_millis(100), nudges.changed()).await;
    }
}

const FAILURES: &str = "SELECT CAST(COALESCE(MAX(failures), 0) AS bigint) FROM stuck";

both! {
    async fn a_sweep_that_fails_is_set_aside_and_seen_and_the_rest_flies(kind) {
        let world = World::new(kind).await;
        sortie::app::telemetry::metrics();
        refuse(&world, kind, "no_bad", "INSERT", "step", "NEW.key = 'bad'").await;
        let wait = || step("wait", json!({ "until": "2026-11-02T11:00:00Z" }));
        world.apply(&template("bad", true, &[("bad", wait()), ("fine", wait())])).await;
        world.apply(&template("good", true, &[("good", wait())])).await;
        world.leads(3).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let run = world.fly("bad", json!({ "segmentId": segment })).await;
        world.until("it to be seen", "query($id: ID!) { run(id: $id) { waitingFor { code } } }", json!({ "id": run }), |data| {
            data["run"]["waitingFor"].as_array().unwrap().iter().any(|one| one["code"] == "STUCK")
        }).await;
        let other = world.fly("good", json!({ "segmentId": segment })).await;
        world.until_run(&other, "COMPLETED").await;
        // Not retried before its backoff is over, however often others are: the clock stands still.
        assert_eq!(world.number(FAILURES).await, 1);
        let told = reason(&world, &run, "STUCK").await;
        assert_eq!(told["until"], "2026-11-02T12:00:01+00:00", "{told:#}");
        let message = told["message"].as_str().unwrap();
        assert!(message.contains("failed once") && message.contains("the database rejected the operation"), "{message}");
        assert!(!message.contains("not this"), "the database's own words stay in the log: {message}");
        let mut after = 0;
        until_count(&world, &mut after, 2, FAILURES, |failures| failures >= 3).await;
        assert_eq!(world.number("SELECT COUNT(*) FROM stuck WHERE work = 'SWEEP'").await, 1);
        let told = reason(&world, &run, "STUCK").await["message"].as_str().unwrap().to_owned();
        assert!(told.contains("times"), "{told}");
        let (status, ready) = page(&world, "/readyz").await;
        let ready: Value = serde_json::from_str(&ready).unwrap();
        assert_eq!((status, &ready["ready"], &ready["stuckWork"]), (200, &json!(true), &json!(1)), "{ready:#}");
        assert!(ready["warnings"][0].as_str().unwrap().contains("SWEEP"), "{ready:#}");
        let (_, metrics) = page(&world, "/metrics").await;
        assert!(metrics.contains("sortie_stuck_work 1") && metrics.contains("sortie_failed_ticks_total{work=\"sweep\"}"), "{metrics}");
        let found = sortie::app::check::check(&world.db).await.unwrap();
        let stuck = found.iter().find(|one| one.what.contains("again and again")).unwrap();
        assert!(stuck.wrong == 1 && stuck.examples[0].contains("SWEEP"), "{stuck:?}");
        // The fault is repaired: the work continues by itself, and the report is gone.
        take_again(&world, kind, "no_bad", "step").await;
        until_count(&world, &mut after, 60, "SELECT COUNT(*) FROM stuck", |left| left == 0).await;
        world.until_run(&run, "COMPLETED").await;
        assert_eq!(page(&world, "/readyz").await.1, "{\"ready\":true}");
        world.end().await;
    }
}

both! {
    async fn a_run_that_cannot_be_settled_holds_up_no_other(kind) {
        let api = Api::start(Answer::json(200, json!({ "id": 1 }))).await;
        let world = World::new(kind).await;
        let when = "NEW.key = 'bad' AND OLD.status = 'IN_PROGRESS' AND NEW.status <> 'IN_PROGRESS'";
        refuse(&world, kind, "no_bad", "UPDATE", "step", when).await;
        let call = |path: &str| step("api_call", json!({ "method": "POST", "url": format!("{}/{path}", api.url()) }));
        world.apply(&template("bad", true, &[("bad", call("bad"))])).await;
        world.apply(&template("good", true, &[("good", call("good"))])).await;
        world.leads(2).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let run = world.fly("bad", json!({ "segmentId": segment })).await;
        let mut after = 0;
        until_count(&world, &mut after, 0, "SELECT COUNT(*) FROM stuck WHERE work = 'SETTLE'", |count| count == 1).await;
        let other = world.fly("good", json!({ "segmentId": segment })).await;
        world.until_run(&other, "COMPLETED").await;
        assert!(codes(&world, &run).await.contains(&"STUCK".to_owned()));
        // Its leases expire and can't be reclaimed either; the calls are not repeated over and
        // over.
        until_count(&world, &mut after, 61, "SELECT COUNT(*) FROM stuck WHERE work = 'RESCUE' AND failures >= 2", |count| count == 1).await;
        assert_eq!(api.asked().iter().filter(|one| one["path"] == "/bad").count(), 2);
        take_again(&world, kind, "no_bad", "step").await;
        until_count(&world, &mut after, 4, "SELECT COUNT(*) FROM step WHERE status = 'COMPLETED'", |done| done == 4).await;
        world.until_run(&run, "COMPLETED").await;
        assert!(api.asked().iter().filter(|one| one["path"] == "/bad").count() <= 4);
        assert_eq!(world.number("SELECT COUNT(*) FROM stuck").await, 0);
        world.end().await;
    }
}

both! {
    async fn a_hundred_runs_that_cannot_be_fired_do_not_hold_up_the_next(kind) {
        let world = World::new(kind).await;
        let wait = step("wait", json!({ "until": "2026-11-02T11:00:00Z" }));
        world.apply(&template("plan", true, &[("wait", wait)])).await;
        world.leads(1).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let template = world.id_of("runTemplates", "key", "plan").await;
        let goal = world.create("goal", json!({ "name": "A goal" })).await;
        let input = json!({ "name": "plan", "runTemplateId": template, "goalId": goal, "segmentId": segment });
        let campaign = world.create("campaign", input).await;
        world.act("submitCampaign", "campaign", json!({ "id": campaign })).await;
        world.act("approveCampaign", "campaign", json!({ "id": campaign })).await;
        let schedule = "mutation($id: ID!, $at: DateTime!) { scheduleCampaign(input: { campaignId: $id, at: $at }) { run { id } } }";
        for _ in 0..101 {
            world.ask(schedule, json!({ "id": campaign, "at": "2026-11-02T12:01:00Z" })).await;
        }
        let last = world.ask(schedule, json!({ "id": campaign, "at": "2026-11-02T12:01:01Z" })).await;
        let last = last["scheduleCampaign"]["run"]["id"].as_str().unwrap().to_owned();
        let late = "NEW.status = 'QUEUED' AND NEW.scheduled_for < '2026-11-02T12:01:01+00:00'";
        refuse(&world, kind, "no_early", "UPDATE", "run", late).await;
        world.clock.set(noon() + Duration::seconds(61));
        world.until_run(&last, "COMPLETED").await;
        assert_eq!(world.number("SELECT COUNT(*) FROM stuck WHERE work = 'FIRE'").await, 101);
        take_again(&world, kind, "no_early", "run").await;
        world.drop_unchecked().await;
    }
}

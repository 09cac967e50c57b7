//! Schedules that are moved, skipped, changed, paused, resumed and ended; and their events.

use chrono::Duration;
use serde_json::{Value, json};

use super::SCHEDULE;
use crate::harness::{World, noon};

const MOVE: &str =
    "mutation($id: ID!, $at: DateTime!) { rescheduleRun(input: { id: $id, at: $at }) { run { scheduledFor } } }";
const UPDATE: &str =
    "mutation($input: UpdateScheduleInput!) { updateSchedule(input: $input) { schedule { id revision } } }";

impl World {
    async fn update(&self, input: Value) -> Value {
        self.change("updateSchedule", "UpdateScheduleInput", input).await
    }
}

both! {
    async fn next_at_is_true_and_the_cron_goes_on(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "0 * * * *" })).await;
        let first = world.runs_of(&id).await[0]["id"].clone();
        // Later: the next occurrence has a run of its own, and is the next.
        world.ask(MOVE, json!({ "id": first, "at": "2026-11-02T16:30:00Z" })).await;
        assert_eq!(world.shown(&id).await["nextAt"], "2026-11-02T14:00:00+00:00");
        assert_eq!(world.started_and_waiting(&id).await.1, ["2026-11-02T14:00", "2026-11-02T16:30"]);
        // Once more, and earlier: the moved one is the next.
        world.ask(MOVE, json!({ "id": first, "at": "2026-11-02T12:15:00Z" })).await;
        assert_eq!(world.shown(&id).await["nextAt"], "2026-11-02T12:15:00+00:00");
        world.ask(MOVE, json!({ "id": first, "at": "2026-11-02T16:30:00Z" })).await;
        // The cron schedule continued.
        for hour in 2..5 {
            world.clock.set(noon() + Duration::hours(hour) + Duration::seconds(5));
            world.tick(false).await;
        }
        let (started, waiting) = world.started_and_waiting(&id).await;
        assert_eq!(started, ["2026-11-02T14:00", "2026-11-02T15:00", "2026-11-02T16:00"]);
        assert_eq!(waiting, ["2026-11-02T16:30", "2026-11-02T17:00"]);
        assert_eq!(world.shown(&id).await["nextAt"], "2026-11-02T16:30:00+00:00");
        // Cancelling the moved one skips its occurrence, and nothing else.
        world.act("cancelRun", "run", json!({ "id": first })).await;
        assert_eq!(world.shown(&id).await["nextAt"], "2026-11-02T17:00:00+00:00");
        let waiting = world.runs_of(&id).await;
        let next = waiting.iter().find(|run| run["status"] == "SCHEDULED").unwrap()["id"].clone();
        world.act("cancelRun", "run", json!({ "id": next })).await;
        let shown = world.shown(&id).await;
        assert_eq!(shown["nextAt"], "2026-11-02T18:00:00+00:00");
        let skipped: Vec<&str> = shown["missed"]["nodes"].as_array().unwrap().iter().map(|one| one["firstAt"].as_str().unwrap()).collect();
        assert_eq!(skipped, ["2026-11-02T17:00:00+00:00", "2026-11-02T13:00:00+00:00"]);
        assert!(shown["missed"]["nodes"].as_array().unwrap().iter().all(|one| one["reason"] == "CANCELLED"));
        // A moved one-time run matches its schedule's time.
        let once = world.schedule(&plan, json!({ "at": "2026-11-02T20:00:00Z" })).await;
        let run = world.runs_of(&once).await[0]["id"].clone();
        world.ask(MOVE, json!({ "id": run, "at": "2026-11-02T21:00:00Z" })).await;
        assert_eq!(world.shown(&once).await["nextAt"], "2026-11-02T21:00:00+00:00");
        assert_eq!(world.runs_of(&once).await.len(), 1);
        world.act("cancelRun", "run", json!({ "id": run })).await;
        let shown = world.shown(&once).await;
        assert_eq!((&shown["status"], &shown["endReason"], &shown["nextAt"]), (&json!("ENDED"), &json!("EXHAUSTED"), &json!(null)));
        world.end().await;
    }
}

both! {
    async fn pause_and_resume(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "*/10 * * * *" })).await;
        let once = world.schedule(&plan, json!({ "at": "2026-11-02T12:30:00Z" })).await;
        let never = world.schedule(&plan, json!({ "at": "2026-11-02T12:30:00Z", "catchUp": "NONE" })).await;
        let key = json!({ "id": id, "idempotencyKey": "p", "reason": "holidays" });
        for _ in 0..2 {
            let paused = world.change("pauseSchedule", "ScheduleActInput", key.clone()).await;
            assert_eq!((&paused["status"], &paused["nextAt"], &paused["revision"]), (&json!("PAUSED"), &json!(null), &json!(2)));
        }
        world.pause(&once).await;
        world.pause(&never).await;
        let again = "mutation($id: ID!) { pauseSchedule(input: { id: $id }) { schedule { id } } }";
        assert_eq!(world.refused(again, json!({ "id": id })).await.0, "INVALID_TRANSITION");
        let allowed = |shown: &Value| -> Vec<String> {
            let all = shown["availableActions"].as_array().unwrap().iter();
            all.filter(|one| one["allowed"] == true).map(|one| one["action"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(allowed(&world.shown(&id).await), ["UPDATE", "RESUME", "END", "SKIP"]);
        // Nothing starts, and the pending run gives the reason.
        world.clock.set(noon() + Duration::minutes(35));
        world.tick(false).await;
        assert_eq!(world.started_and_waiting(&id).await, (vec![], vec!["2026-11-02T12:10".to_owned()]));
        let run = world.runs_of(&id).await[0].clone();
        assert_eq!(run["waitingFor"][0]["code"], "SCHEDULE_PAUSED");
        // A run cancelled meanwhile is skipped, and the next one is pending, paused as well.
        world.act("cancelRun", "run", json!({ "id": run["id"] })).await;
        assert_eq!(world.started_and_waiting(&id).await.1, ["2026-11-02T12:40"]);
        world.clock.set(noon() + Duration::minutes(65));
        let resumed = world.resume(&id).await;
        assert_eq!((&resumed["status"], &resumed["nextAt"]), (&json!("ACTIVE"), &json!("2026-11-02T13:10:00+00:00")));
        world.tick(false).await;
        assert_eq!(world.started_and_waiting(&id).await, (vec![], vec!["2026-11-02T13:10".to_owned()]));
        let missed = world.shown(&id).await["missed"]["nodes"].clone();
        let of: Vec<(&str, i64)> = missed.as_array().unwrap().iter().map(|one| (one["reason"].as_str().unwrap(), one["count"].as_i64().unwrap())).collect();
        assert_eq!(of, [("PAUSED", 3), ("PAUSED", 2), ("CANCELLED", 1)]);
        assert_eq!(world.refused(&again.replace("pauseS", "resumeS"), json!({ "id": id })).await.0, "INVALID_TRANSITION");
        // A one-time run that was due meanwhile starts at the resume, unless catch-up is NONE.
        world.resume(&once).await;
        world.resume(&never).await;
        world.tick(false).await;
        assert_eq!(world.started_and_waiting(&once).await.0.len(), 1);
        assert_eq!(world.started_and_waiting(&never).await.0.len(), 0);
        for id in [&once, &never] {
            assert_eq!(world.shown(id).await["endReason"], "EXHAUSTED");
        }
        assert_eq!(world.shown(&never).await["missed"]["nodes"][0]["reason"], "PAUSED");
        // Ended: nothing can be done with it any more.
        let end = "mutation($id: ID!) { endSchedule(input: { id: $id }) { schedule { status endReason endedAt } } }";
        let ended = world.ask(end, json!({ "id": id })).await["endSchedule"]["schedule"].clone();
        assert_eq!((&ended["status"], &ended["endReason"]), (&json!("ENDED"), &json!("ENDED_BY_PERSON")));
        assert_eq!(allowed(&world.shown(&id).await), ["END"]);
        assert_eq!(world.refused(again, json!({ "id": id })).await.0, "INVALID_TRANSITION");
        assert_eq!(world.refused(UPDATE, json!({ "input": { "id": id, "cron": "@daily" } })).await.0, "CONFLICT");
        let kinds: Vec<String> = world.events_of(&id).await.iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect();
        assert_eq!(kinds, ["schedule.created", "schedule.paused", "schedule.skipped", "schedule.skipped", "schedule.resumed", "schedule.skipped", "schedule.ended"]);
        world.end().await;
    }
}

both! {
    async fn update(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "0 9 * * *", "timezone": "Europe/Berlin", "name": "Daily" })).await;
        let run = world.runs_of(&id).await[0]["id"].clone();
        // Absent fields stay as they are; an update without changes does nothing.
        for input in [json!({ "id": id }), json!({ "id": id, "cron": "0 9 * * *", "catchUp": "LAST", "name": "Daily" })] {
            assert_eq!(world.update(input).await["revision"], 1);
        }
        let changed = world.update(json!({ "id": id, "timezone": "America/New_York" })).await;
        assert_eq!((&changed["cron"], &changed["timezone"], &changed["name"]), (&json!("0 9 * * *"), &json!("America/New_York"), &json!("Daily")));
        assert_eq!((&changed["nextAt"], &changed["revision"]), (&json!("2026-11-02T14:00:00+00:00"), &json!(2)));
        // The same run represents the next occurrence.
        let runs = world.runs_of(&id).await;
        assert_eq!((runs.len(), &runs[0]["id"], &runs[0]["scheduledFor"]), (1, &run, &json!("2026-11-02T14:00:00+00:00")));
        let changed = world.update(json!({ "id": id, "cron": "@hourly", "name": "Hourly", "expectedRevision": 2, "idempotencyKey": "u" })).await;
        assert_eq!((&changed["nextAt"], &changed["revision"]), (&json!("2026-11-02T13:00:00+00:00"), &json!(3)));
        assert_eq!(world.update(json!({ "id": id, "cron": "@hourly", "name": "Hourly", "expectedRevision": 2, "idempotencyKey": "u" })).await["revision"], 3);
        assert_eq!(world.runs_of(&id).await[0]["name"], "Hourly");
        // Rejected, and nothing is changed.
        for (input, code) in [
            (json!({ "id": id, "expectedRevision": 2, "cron": "@daily" }), "CONFLICT"),
            (json!({ "id": id, "cron": "0 0 30 2 *" }), "BAD_USER_INPUT"),
            (json!({ "id": id, "timezone": "Mars/Base" }), "BAD_USER_INPUT"),
            (json!({ "id": id, "cron": null }), "BAD_USER_INPUT"),
            (json!({ "id": id, "timezone": null }), "BAD_USER_INPUT"),
            (json!({ "id": id, "at": "2026-11-01T00:00:00Z" }), "BAD_USER_INPUT"),
            (json!({ "id": id, "at": "9999-12-31T23:59:59-05:00" }), "BAD_USER_INPUT"),
            (json!({ "id": id, "at": "2026-12-01T00:00:00Z", "cron": "@daily" }), "BAD_USER_INPUT"),
            (json!({ "id": id, "at": "2026-12-01T00:00:00Z", "timezone": "UTC" }), "BAD_USER_INPUT"),
            (json!({ "id": id, "catchUpWindowSeconds": 0 }), "BAD_USER_INPUT"),
            (json!({ "id": id, "catchUpWindowSeconds": 31_536_001 }), "BAD_USER_INPUT"),
            (json!({ "id": id, "name": " " }), "BAD_USER_INPUT"),
        ] {
            assert_eq!(world.refused(UPDATE, json!({ "input": input })).await.0, code, "{input}");
        }
        assert_eq!(world.shown(&id).await["revision"], 3);
        // A change of policies does not affect the pending run.
        let all = world.update(json!({ "id": id, "catchUp": "ALL" })).await;
        assert_eq!((&all["catchUp"], &all["catchUpWindowSeconds"]), (&json!("ALL"), &json!(86_400)));
        let last = world.update(json!({ "id": id, "catchUp": "LAST" })).await;
        assert_eq!(last["catchUpWindowSeconds"], json!(null));
        assert_eq!(world.update(json!({ "id": id, "catchUpWindowSeconds": 60 })).await["catchUpWindowSeconds"], 60);
        assert_eq!(world.update(json!({ "id": id, "catchUpWindowSeconds": null })).await["catchUpWindowSeconds"], json!(null));
        // A skipped occurrence stays skipped if a changed pattern includes its time again.
        world.act("cancelRun", "run", json!({ "id": run })).await;
        assert_eq!(world.update(json!({ "id": id, "cron": "0 13,15 * * *", "timezone": "UTC" })).await["nextAt"], "2026-11-02T15:00:00+00:00");
        // A moved run stays where it is.
        let waiting = world.runs_of(&id).await.into_iter().find(|run| run["status"] == "SCHEDULED").unwrap()["id"].clone();
        world.ask(MOVE, json!({ "id": waiting, "at": "2026-11-02T12:30:00Z" })).await;
        let changed = world.update(json!({ "id": id, "cron": "30 15 * * *" })).await;
        assert_eq!(changed["nextAt"], "2026-11-02T12:30:00+00:00");
        assert_eq!(world.started_and_waiting(&id).await.1, ["2026-11-02T12:30", "2026-11-02T15:30"]);
        // Paused, it can be changed, and starts nothing.
        world.pause(&id).await;
        assert_eq!(world.update(json!({ "id": id, "cron": "45 15 * * *" })).await["nextAt"], json!(null));
        assert_eq!(world.resume(&id).await["nextAt"], "2026-11-02T12:30:00+00:00");
        // To a one-time schedule and back.
        let single = world.update(json!({ "id": id, "at": "2026-11-02T18:00:00Z" })).await;
        assert_eq!((&single["cron"], &single["at"]), (&json!(null), &json!("2026-11-02T18:00:00+00:00")));
        assert_eq!(world.started_and_waiting(&id).await.1, ["2026-11-02T12:30", "2026-11-02T18:00"]);
        assert_eq!(world.refused(UPDATE, json!({ "input": { "id": id, "fold": "BOTH" } })).await.0, "BAD_USER_INPUT");
        let back = world.update(json!({ "id": id, "cron": "0 9 1-7 * MON" })).await;
        assert_eq!((&back["at"], &back["cron"]), (&json!(null), &json!("0 9 1-7 * MON")));
        let shown = world.shown(&id).await;
        assert!(shown["note"].as_str().unwrap().contains("either is enough"));
        assert_eq!(shown["nextAt"], "2026-11-02T12:30:00+00:00");
        let updates: Vec<Value> = world.events_of(&id).await.into_iter().filter(|event| event["kind"] == "schedule.updated").collect();
        assert_eq!(updates[0]["payload"]["changes"], json!([{ "field": "timezone", "from": "Europe/Berlin", "to": "America/New_York" }]));
        assert!(updates.iter().all(|event| event["payload"]["to"].is_null()), "no change of status");
        // Preflight explains a pattern with both day fields.
        let flight = "query($id: ID!) { preflight(campaignId: $id, action: SCHEDULE, input: { cron: \"0 9 1-7 * MON\" }) { ready checks { code status message } } }";
        let flight = world.ask(flight, json!({ "id": plan.campaign })).await["preflight"].clone();
        let time = flight["checks"].as_array().unwrap().iter().find(|check| check["code"] == "TIME").unwrap();
        assert_eq!((&flight["ready"], &time["status"]), (&json!(true), &json!("WARNING")));
        assert!(time["message"].as_str().unwrap().contains("either is enough"));
        world.end().await;
    }
}

both! {
    async fn with_its_campaign(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "*/10 * * * *" })).await;
        let held = world.schedule(&plan, json!({ "cron": "*/10 * * * *" })).await;
        world.pause(&held).await;
        world.act("pauseCampaign", "campaign", json!({ "id": plan.campaign })).await;
        assert_eq!(world.shown(&id).await["nextAt"], json!(null), "nothing starts while the campaign is paused");
        world.clock.set(noon() + Duration::hours(3) + Duration::minutes(5));
        world.tick(false).await;
        world.act("resumeCampaign", "campaign", json!({ "id": plan.campaign })).await;
        world.tick(false).await;
        assert_eq!(world.started_and_waiting(&id).await, (vec![], vec!["2026-11-02T15:10".to_owned()]));
        let shown = world.shown(&id).await;
        assert_eq!(shown["nextAt"], "2026-11-02T15:10:00+00:00");
        let stretch = &shown["missed"]["nodes"][0];
        assert_eq!((&stretch["reason"], &stretch["count"]), (&json!("PAUSED"), &json!(18)));
        assert_eq!(world.shown(&held).await["status"], "PAUSED");
        // Cancelled, both end, each with its event and its reason.
        world.act("cancelCampaign", "campaign", json!({ "id": plan.campaign, "reason": "over" })).await;
        for (id, from) in [(&id, "ACTIVE"), (&held, "PAUSED")] {
            let shown = world.shown(id).await;
            assert_eq!((&shown["status"], &shown["endReason"]), (&json!("ENDED"), &json!("CAMPAIGN_CANCELLED")));
            let ended: Vec<Value> = world.events_of(id).await.into_iter().filter(|event| event["kind"] == "schedule.ended").collect();
            assert_eq!(ended.len(), 1);
            let told = &ended[0]["payload"];
            assert_eq!((&told["from"], &told["to"], &told["reason"]), (&json!(from), &json!("ENDED"), &json!("CAMPAIGN_CANCELLED")));
            assert_eq!(ended[0]["campaignId"], plan.campaign);
            let runs = world.runs_of(id).await;
            assert!(runs.iter().all(|run| run["status"] == "CANCELLED" && run["failure"] == "over"), "{runs:?}");
        }
        world.end().await;
    }
}

both! {
    async fn the_policies_of_a_pattern_outlive_a_single_time(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "0 9 * * *", "gap": "SKIP", "fold": "BOTH", "timezone": "Europe/Berlin" })).await;
        for change in [json!({ "at": "2026-12-01T00:00:00Z" }), json!({ "cron": "0 8 * * *" })] {
            let mut input = json!({ "id": id });
            input.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            world.update(input).await;
            let shown = world.shown(&id).await;
            assert_eq!((&shown["gap"], &shown["fold"], &shown["timezone"]), (&json!("SKIP"), &json!("BOTH"), &json!("Europe/Berlin")), "{change}");
        }
        // A single time takes no policies, wherever it is given.
        for (field, value) in [("gap", "SKIP"), ("fold", "BOTH"), ("timezone", "UTC")] {
            let at = "2026-12-01T00:00:00Z";
            let input = json!({ "campaignId": plan.campaign, "at": at, field: value });
            let (code, told) = world.refused(SCHEDULE, json!({ "input": input })).await;
            assert_eq!((code.as_str(), told.contains("takes no time zone and no policies")), ("BAD_USER_INPUT", true), "{told}");
            let guided = "mutation($input: ScheduleGuidedRunInput!) { scheduleGuidedRun(input: $input) { schedule { id } } }";
            let input = json!({ "templateKey": "weekly-pipeline-review", "at": at, field: value });
            assert_eq!(world.refused(guided, json!({ "input": input })).await.0, "BAD_USER_INPUT", "{field}");
            let input = json!({ "id": id, "at": at, field: value });
            assert_eq!(world.refused(UPDATE, json!({ "input": input })).await.0, "BAD_USER_INPUT", "{field}");
        }
        world.end().await;
    }
}

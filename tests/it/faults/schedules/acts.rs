//! Runs that a person starts outside of the pattern, occurrences that a person skips, and past ones
//! that a person makes up for.

use chrono::Duration;
use serde_json::{Value, json};

use crate::harness::{World, noon};

const TRIGGER: &str = "mutation($id: ID!, $key: String) { triggerSchedule(input: { id: $id, idempotencyKey: $key }) {
    run { id status occurrenceAt waitingFor { code } } schedule { nextAt remaining } } }";
const SKIP: &str = "mutation($id: ID!, $at: DateTime) { skipOccurrence(input: { id: $id, at: $at }) { schedule {
    nextAt status upcoming(first: 4) { at skipped } } } }";
const BACKFILL: &str = "mutation($i: BackfillScheduleInput!) { backfillSchedule(input: $i) { occurrences
    runs { id status occurrenceAt } schedule { nextAt } } }";

fn minute(text: &Value) -> &str {
    &text.as_str().unwrap()[11..16]
}

both! {
    async fn a_run_outside_of_the_pattern(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "0 * * * *", "remaining": 4 })).await;
        let first = world.ask(TRIGGER, json!({ "id": id, "key": "t" })).await["triggerSchedule"].clone();
        assert_eq!((&first["run"]["status"], &first["run"]["occurrenceAt"]), (&json!("QUEUED"), &json!(null)));
        assert_eq!(first["schedule"], json!({ "nextAt": "2026-11-02T13:00:00+00:00", "remaining": 4 }));
        let again = world.ask(TRIGGER, json!({ "id": id, "key": "t" })).await["triggerSchedule"].clone();
        assert_eq!(first["run"]["id"], again["run"]["id"]);
        world.tick(false).await;
        let fired: Vec<Value> = world.events_of(&id).await.into_iter().filter(|event| event["kind"] == "schedule.fired").collect();
        assert_eq!((fired.len(), &fired[0]["payload"]["occurrenceAt"]), (1, &json!(null)));
        // The overlap policy decides if a run is open.
        let update = async |overlap: &str| world.change("updateSchedule", "UpdateScheduleInput", json!({ "id": id, "overlap": overlap })).await;
        update("SKIP").await;
        let (code, told) = world.refused(TRIGGER, json!({ "id": id })).await;
        assert!(code == "CONFLICT" && told.contains(first["run"]["id"].as_str().unwrap()), "{told}");
        update("BUFFER_ONE").await;
        let waits = world.ask(TRIGGER, json!({ "id": id })).await["triggerSchedule"]["run"].clone();
        assert_eq!((&waits["status"], &waits["waitingFor"]), (&json!("SCHEDULED"), &json!([{ "code": "EARLIER_RUN" }])));
        assert_eq!(world.refused(TRIGGER, json!({ "id": id })).await.0, "CONFLICT");
        update("CANCEL_OTHER").await;
        let third = world.ask(TRIGGER, json!({ "id": id })).await["triggerSchedule"]["run"].clone();
        assert_eq!(third["status"], "QUEUED");
        world.tick(false).await;
        let status = async |run: &Value| world.ask("query($id: ID!) { run(id: $id) { status } }", json!({ "id": run["id"] })).await["run"]["status"].clone();
        assert_eq!((status(&first["run"]).await, status(&third).await, status(&waits).await), (json!("CANCELLED"), json!("IN_PROGRESS"), json!("SCHEDULED")));
        // Nothing starts of what is paused or has ended; the reasons are in availableActions.
        let allowed = async || {
            let shown = world.shown(&id).await["availableActions"].clone();
            let all = shown.as_array().unwrap().iter().filter(|one| one["allowed"] == true);
            all.map(|one| one["action"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(allowed().await, ["UPDATE", "PAUSE", "END", "TRIGGER", "SKIP", "BACKFILL"]);
        world.pause(&id).await;
        assert_eq!(allowed().await, ["UPDATE", "RESUME", "END", "SKIP"]);
        assert_eq!(world.refused(TRIGGER, json!({ "id": id })).await.0, "CONFLICT");
        world.resume(&id).await;
        world.act("pauseCampaign", "campaign", json!({ "id": plan.campaign })).await;
        let (code, told) = world.refused(TRIGGER, json!({ "id": id })).await;
        assert!(code == "CONFLICT" && told.contains("campaign"), "{code} {told}");
        world.act("resumeCampaign", "campaign", json!({ "id": plan.campaign })).await;
        world.ask("mutation($id: ID!) { endSchedule(input: { id: $id }) { schedule { status } } }", json!({ "id": id })).await;
        assert_eq!(world.refused(TRIGGER, json!({ "id": id })).await.0, "CONFLICT");
        assert_eq!(allowed().await, ["END"]);
        // Guided work, too.
        let guided = "mutation { scheduleGuidedRun(input: { templateKey: \"weekly-pipeline-review\", cron: \"0 9 * * *\", timezone: \"UTC\" }) { schedule { id } } }";
        let guided = world.ask(guided, json!({})).await["scheduleGuidedRun"]["schedule"]["id"].clone();
        let run = world.ask(TRIGGER, json!({ "id": guided })).await["triggerSchedule"]["run"].clone();
        assert_eq!(run["status"], "QUEUED");
        world.tick(false).await;
        world.end().await;
    }
}

both! {
    async fn a_skipped_occurrence(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "*/10 * * * *" })).await;
        let skip = async |at: Option<&str>| world.ask(SKIP, json!({ "id": id, "at": at })).await["skipOccurrence"]["schedule"].clone();
        // A named one, then the next one.
        let later = skip(Some("2026-11-02T12:30:00Z")).await;
        assert_eq!(later["nextAt"], "2026-11-02T12:10:00+00:00");
        let next = skip(None).await;
        assert_eq!(next["nextAt"], "2026-11-02T12:20:00+00:00");
        let listed: Vec<(&str, bool)> = next["upcoming"].as_array().unwrap().iter().map(|one| (minute(&one["at"]), one["skipped"] == true)).collect();
        assert_eq!(listed, [("12:10", true), ("12:20", false), ("12:30", true), ("12:40", false)]);
        for at in ["2026-11-02T12:30:00Z", "2026-11-02T12:35:00Z", "2026-11-02T11:50:00Z"] {
            let (code, told) = world.refused(SKIP, json!({ "id": id, "at": at })).await;
            assert!(code == "BAD_USER_INPUT" && told.contains("2026-11-02T12:20:00+00:00, 2026-11-02T12:40:00"), "{told}");
        }
        for step in 1..=5 {
            world.clock.set(noon() + Duration::minutes(10 * step) + Duration::seconds(5));
            world.tick(false).await;
        }
        assert_eq!(world.statuses_of(&id).await.iter().map(|(at, _)| at.as_str()).collect::<Vec<_>>(), ["12:20", "12:40", "12:50", "13:00"]);
        assert_eq!(world.missed_of(&id).await, [("SKIPPED".to_owned(), 1, "12:30".to_owned()), ("SKIPPED".to_owned(), 1, "12:10".to_owned())]);
        let skipped = world.events_of(&id).await.into_iter().filter(|event| event["kind"] == "schedule.skipped" && event["payload"]["reason"] == "SKIPPED");
        assert_eq!(skipped.count(), 2);
        // A moved run is cancelled; far ones are known as well; a stretch of downtime counts the rest.
        let waiting = world.runs_of(&id).await.into_iter().find(|run| run["status"] == "SCHEDULED").unwrap()["id"].clone();
        world.ask("mutation($id: ID!) { rescheduleRun(input: { id: $id, at: \"2026-11-02T13:15:00Z\" }) { run { id } } }", json!({ "id": waiting })).await;
        skip(Some("2026-11-02T13:00:00Z")).await;
        let moved = world.runs_of(&id).await.into_iter().find(|run| run["id"] == waiting).unwrap();
        assert_eq!(moved["status"], "CANCELLED");
        skip(Some("2026-11-02T13:40:00Z")).await;
        skip(Some("2026-12-24T18:00:00Z")).await;
        world.clock.set(noon() + Duration::hours(4) + Duration::seconds(90));
        world.tick(false).await;
        let last = world.missed_of(&id).await.into_iter().find(|(reason, ..)| reason == "LATE").unwrap();
        assert_eq!(last, ("LATE".to_owned(), 16, "13:10".to_owned()));
        // At most a hundred to come of one schedule.
        let often = world.schedule(&plan, json!({ "cron": "* * * * *" })).await;
        for i in 1..=100 {
            world.ask(SKIP, json!({ "id": often, "at": noon() + Duration::hours(4) + Duration::minutes(1 + i) })).await;
        }
        let (code, told) = world.refused(SKIP, json!({ "id": often, "at": noon() + Duration::hours(6) })).await;
        assert!(code == "LIMIT_EXCEEDED" && told.contains("of one schedule"), "{told}");
        // The last one: the schedule ends.
        let once = world.schedule(&plan, json!({ "at": "2026-11-02T20:00:00Z" })).await;
        let ended = world.ask(SKIP, json!({ "id": once })).await["skipOccurrence"]["schedule"].clone();
        assert_eq!((&ended["status"], &ended["upcoming"]), (&json!("ENDED"), &json!([])));
        assert_eq!(world.refused(SKIP, json!({ "id": once })).await.0, "CONFLICT");
        world.end().await;
    }
}

both! {
    async fn past_occurrences_are_made_up_for_in_order(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let id = world.schedule(&plan, json!({ "cron": "0 * * * *", "remaining": 5 })).await;
        world.clock.set(noon() + Duration::hours(4) + Duration::minutes(5));
        world.tick(false).await;
        assert_eq!(world.missed_of(&id).await, [("LATE".to_owned(), 3, "13:00".to_owned())]);
        for (input, code) in [
            (json!({ "from": "2026-11-02T12:00:00Z", "to": "2026-11-02T18:00:00Z" }), "BAD_USER_INPUT"),
            (json!({ "from": "2026-11-02T14:00:00Z", "to": "2026-11-02T13:00:00Z" }), "BAD_USER_INPUT"),
            (json!({ "from": "2026-11-02T13:10:00Z", "to": "2026-11-02T13:20:00Z" }), "BAD_USER_INPUT"),
            (json!({ "from": "2026-10-02T13:10:00Z", "to": "2026-11-02T13:20:00Z" }), "LIMIT_EXCEEDED"),
        ] {
            let mut input = input;
            input["id"] = json!(id);
            assert_eq!(world.refused(BACKFILL, json!({ "i": input })).await.0, code, "{input}");
        }
        // 16:00 had a run; it gets another one.
        let range = json!({ "id": id, "from": "2026-11-02T14:00:00Z", "to": "2026-11-02T16:00:00Z" });
        let mut dry = range.clone();
        dry["dryRun"] = json!(true);
        let told = world.ask(BACKFILL, json!({ "i": dry })).await["backfillSchedule"].clone();
        assert_eq!(told["occurrences"], json!(["2026-11-02T14:00:00+00:00", "2026-11-02T15:00:00+00:00", "2026-11-02T16:00:00+00:00"]));
        assert_eq!(told["runs"], json!([]));
        let mut keyed = range.clone();
        keyed["idempotencyKey"] = json!("b");
        let made = world.ask(BACKFILL, json!({ "i": keyed })).await["backfillSchedule"].clone();
        let again = world.ask(BACKFILL, json!({ "i": keyed })).await["backfillSchedule"].clone();
        assert_eq!(made, again);
        let runs = made["runs"].as_array().unwrap();
        assert_eq!(runs.iter().map(|run| run["occurrenceAt"].clone()).collect::<Vec<_>>(), *told["occurrences"].as_array().unwrap());
        let statuses = async || {
            let all = world.occurrences_of(&id).await;
            let of = |run: &Value| all.iter().find(|one| one["id"] == run["id"]).unwrap()["status"].as_str().unwrap().to_owned();
            runs.iter().map(of).collect::<Vec<_>>()
        };
        // Each waits for the one before; occurrences start beside them, as the policy allows.
        for (done, run) in runs.iter().take(3).enumerate() {
            world.tick(false).await;
            let mut expected = vec!["CANCELLED"; done];
            expected.push("IN_PROGRESS");
            expected.extend(vec!["SCHEDULED"; 2 - done]);
            assert_eq!(statuses().await, expected);
            world.act("cancelRun", "run", json!({ "id": run["id"] })).await;
        }
        let fired = world.events_of(&id).await.into_iter().filter(|event| event["kind"] == "schedule.fired" && event["payload"]["backfill"] == true);
        assert_eq!(fired.count(), 3);
        let shown = world.ask("query($id: ID!) { schedule(id: $id) { remaining nextAt status } }", json!({ "id": id })).await["schedule"].clone();
        assert_eq!(shown, json!({ "remaining": 4, "nextAt": "2026-11-02T17:00:00+00:00", "status": "ACTIVE" }));
        world.end().await;
    }
}

both! {
    async fn the_list_by_filter_and_order(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let late = world.schedule(&plan, json!({ "cron": "0 20 * * *", "name": "Évening news" })).await;
        let soon = world.schedule(&plan, json!({ "cron": "0 13 * * *" })).await;
        let held = world.schedule(&plan, json!({ "cron": "0 14 * * *" })).await;
        world.pause(&held).await;
        let guided = "mutation { scheduleGuidedRun(input: { templateKey: \"weekly-pipeline-review\", cron: \"0 15 * * *\", timezone: \"UTC\" }) { schedule { id runTemplate { id } } } }";
        let guided = world.ask(guided, json!({})).await["scheduleGuidedRun"]["schedule"].clone();
        let list = async |filter: Value, order: Value| {
            let query = "query($f: ScheduleFilter, $o: ScheduleOrder, $a: String) { schedules(filter: $f, orderBy: $o, first: 2, after: $a) { totalCount nodes { id } pageInfo { hasNextPage endCursor } } }";
            let (mut all, mut after) = (Vec::new(), json!(null));
            loop {
                let page = world.ask(query, json!({ "f": filter, "o": order, "a": after })).await["schedules"].clone();
                all.extend(page["nodes"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()));
                if page["pageInfo"]["hasNextPage"] == false {
                    assert_eq!(page["totalCount"], all.len());
                    return all;
                }
                after = page["pageInfo"]["endCursor"].clone();
            }
        };
        let by = |direction: &str| json!({ "field": "NEXT_AT", "direction": direction });
        let guided_id = guided["id"].as_str().unwrap().to_owned();
        assert_eq!(list(json!(null), by("ASC")).await, [soon.clone(), guided_id.clone(), late.clone(), held.clone()]);
        assert_eq!(list(json!({}), by("DESC")).await, [late.clone(), guided_id.clone(), soon.clone(), held.clone()]);
        assert_eq!(list(json!({}), json!(null)).await, [guided_id.clone(), held.clone(), soon.clone(), late.clone()]);
        for (filter, expected) in [
            (json!({ "ids": [soon, held] }), vec![&held, &soon]),
            (json!({ "statuses": ["PAUSED"] }), vec![&held]),
            (json!({ "campaignIds": [plan.campaign], "statuses": ["ACTIVE"] }), vec![&soon, &late]),
            (json!({ "runTemplateIds": [guided["runTemplate"]["id"]] }), vec![&guided_id]),
            (json!({ "nextAt": { "from": "2026-11-02T14:00:00Z", "to": "2026-11-02T20:00:00Z" } }), vec![&guided_id]),
            (json!({ "search": "évENING" }), vec![&late]),
            (json!({ "search": "nothing of the kind" }), vec![]),
        ] {
            assert_eq!(list(filter.clone(), json!(null)).await.iter().collect::<Vec<_>>(), expected, "{filter}");
        }
        let both = "query($c: ID!) { schedules(campaignId: $c, filter: { campaignIds: [$c] }) { nodes { id } } }";
        assert_eq!(world.refused(both, json!({ "c": plan.campaign })).await.0, "BAD_USER_INPUT");
        world.end().await;
    }
}

//! Schedules: the clock-change table (docs/quirks.md) as a golden test, and occurrences as runs.

use chrono::{DateTime, Utc};
use entity::schedule::{FoldPolicy, GapPolicy};
use serde_json::json;
use sortie::domain::plan::schedule::Pattern;

use crate::harness::{World, noon};

/// All occurrences between two instants, as `local time`, with `~` after shifted ones.
fn between(cron: &str, zone: &str, gap: GapPolicy, fold: FoldPolicy, from: &str, to: &str) -> Vec<String> {
    let pattern = Pattern::parse(cron, zone, gap, fold).unwrap();
    let (mut at, to): (DateTime<Utc>, DateTime<Utc>) = (from.parse().unwrap(), to.parse().unwrap());
    let mut all = Vec::new();
    while let Some(next) = pattern.next(at) {
        if next.at >= to {
            break;
        }
        let local = next.at.with_timezone(&pattern.zone());
        all.push(format!("{}{}", local.format("%m-%d %H:%M %Z"), if next.shifted { "~" } else { "" }));
        at = next.at;
    }
    all
}

fn plain(cron: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
    between(cron, zone, GapPolicy::Shift, FoldPolicy::Once, from, to)
}

#[test]
fn clock_changes() {
    let (gap, over) = ("2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z");
    let york = "America/New_York";
    assert_eq!(plain("30 2 * * *", york, gap, over), ["03-08 03:00 EDT~"]);
    assert_eq!(between("30 2 * * *", york, GapPolicy::Skip, FoldPolicy::Once, gap, over), [""; 0]);
    assert_eq!(plain("30 2,3 * * *", york, gap, over), ["03-08 03:00 EDT~", "03-08 03:30 EDT"]);
    assert_eq!(plain("*/15 2 * * *", york, gap, over), [""; 0]);
    let pattern = Pattern::parse("*/15 2 * * *", york, GapPolicy::Shift, FoldPolicy::Once).unwrap();
    let next = pattern.next(gap.parse().unwrap()).unwrap();
    assert_eq!(next.skipped.len(), 4, "what is left out is recorded: {next:?}");
    let (fold, over) = ("2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z");
    assert_eq!(plain("30 1 * * *", york, fold, over), ["11-01 01:30 EDT"]);
    assert_eq!(
        between("30 1 * * *", york, GapPolicy::Shift, FoldPolicy::Both, fold, over),
        ["11-01 01:30 EDT", "11-01 01:30 EST"]
    );
    let through = plain("*/30 * * * *", york, "2026-11-01T04:59:00Z", "2026-11-01T07:01:00Z");
    assert_eq!(
        through,
        ["11-01 01:00 EDT", "11-01 01:30 EDT", "11-01 01:00 EST", "11-01 01:30 EST", "11-01 02:00 EST"]
    );
    assert_eq!(
        plain("0 0 * * *", "America/Sao_Paulo", "2018-11-04T02:00:00Z", "2018-11-05T01:00:00Z"),
        ["11-04 01:00 -02~"]
    );
    let howe = plain("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", "2026-04-04T23:00:00Z");
    assert_eq!(howe, ["04-05 01:45 +11"]);
    let apia = plain("0 9 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", "2011-12-31T12:00:00Z");
    assert_eq!(apia, ["12-29 09:00 -10", "12-31 09:00 +14"]);
    let leap = Pattern::parse("0 0 29 2 *", "UTC", GapPolicy::Shift, FoldPolicy::Once).unwrap();
    assert_eq!(leap.next(noon()).unwrap().at.to_rfc3339(), "2028-02-29T00:00:00+00:00");
    for wrong in ["0 0 30 2 *", "61 * * * *", "* * * *", "0 0 0 * * *", "", "every day"] {
        assert!(Pattern::parse(wrong, "UTC", GapPolicy::Shift, FoldPolicy::Once).is_err(), "{wrong} was taken");
    }
    assert!(Pattern::parse("0 9 * * *", "Mars/Olympus", GapPolicy::Shift, FoldPolicy::Once).is_err());
}

const SCHEDULE: &str = "mutation($input: ScheduleCampaignInput!) { scheduleCampaign(input: $input) { schedule { id } run { id status } preflight { ready checks { code status message } } } }";

both! {
    async fn a_pattern_keeps_its_next_occurrence(kind) {
        let world = World::new(kind).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let input = json!({ "campaignId": plan.campaign, "cron": "*/10 * * * *", "timezone": "Europe/Berlin" });
        let made = world.ask(SCHEDULE, json!({ "input": input })).await["scheduleCampaign"].clone();
        let schedule = made["schedule"]["id"].clone();
        // Down (here: standing still) for three hours: the last one fires, the rest are recorded as missed.
        world.clock.set(noon() + chrono::Duration::hours(3) + chrono::Duration::minutes(5));
        let runs = "query($id: ID!) { campaign(id: $id) { runs(orderBy: { field: SCHEDULED_FOR, direction: ASC }) { nodes { id type status scheduledFor } } } }";
        let found = world
            .until("the next occurrence", runs, json!({ "id": plan.campaign }), |data| {
                data["campaign"]["runs"]["nodes"].as_array().unwrap().len() == 2
            })
            .await;
        let found = found["campaign"]["runs"]["nodes"].as_array().unwrap().clone();
        assert_eq!(found[0]["scheduledFor"], "2026-11-02T15:00:00+00:00");
        assert_eq!((&found[1]["scheduledFor"], &found[1]["status"]), (&json!("2026-11-02T15:10:00+00:00"), &json!("SCHEDULED")));
        let events = world.ask_all_events().await;
        let missed: Vec<_> = events.iter().filter(|event| event["kind"] == "schedule.missed").collect();
        assert_eq!(missed.len(), 1, "a stretch is one event");
        assert_eq!(missed[0]["payload"]["count"], 17);
        // Cancelling an occurrence skips it; the next one follows.
        world.act("cancelRun", "run", json!({ "id": found[1]["id"] })).await;
        let found = world.ask(runs, json!({ "id": plan.campaign })).await["campaign"]["runs"]["nodes"].as_array().unwrap().clone();
        assert_eq!((&found[2]["scheduledFor"], &found[2]["status"]), (&json!("2026-11-02T15:20:00+00:00"), &json!("SCHEDULED")));
        // Moved to another time; a past one is rejected.
        let move_to = "mutation($id: ID!, $at: DateTime!) { rescheduleRun(input: { id: $id, at: $at }) { run { scheduledFor } } }";
        let moved = world.ask(move_to, json!({ "id": found[2]["id"], "at": "2026-11-02T16:00:00Z" })).await;
        assert_eq!(moved["rescheduleRun"]["run"]["scheduledFor"], "2026-11-02T16:00:00+00:00");
        let (code, _) = world.refused(move_to, json!({ "id": found[2]["id"], "at": "2026-11-02T10:00:00Z" })).await;
        assert_eq!(code, "BAD_USER_INPUT");
        // The next occurrence has a run of its own by now. Ended: both are cancelled, and none
        // follows.
        let end = "mutation($id: ID!) { endSchedule(input: { id: $id }) { schedule { status nextAt } } }";
        for _ in 0..2 {
            let ended = world.ask(end, json!({ "id": schedule })).await;
            assert_eq!(ended["endSchedule"]["schedule"], json!({ "status": "ENDED", "nextAt": null }));
        }
        let found = world.ask(runs, json!({ "id": plan.campaign })).await["campaign"]["runs"]["nodes"].as_array().unwrap().clone();
        assert_eq!(found.len(), 4);
        assert!(found[1..].iter().all(|run| run["status"] == "CANCELLED"), "{found:#?}");
        world.end().await;
    }
}

both! {
    async fn what_may_not_fly_when_due_fails_with_its_report(kind) {
        let world = World::new(kind).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        // Past, contradictory and invalid times are reported by preflight, or rejected; nothing is
        // created.
        for (input, code) in [
            (json!({ "campaignId": plan.campaign, "at": "2026-11-01T12:00:00Z" }), "TIME"),
            (json!({ "campaignId": plan.campaign, "cron": "0 0 30 2 *" }), "TIME"),
            (json!({ "campaignId": plan.campaign }), "TIME"),
        ] {
            let held = world.ask(SCHEDULE, json!({ "input": input })).await["scheduleCampaign"].clone();
            assert_eq!((&held["schedule"], &held["run"]), (&json!(null), &json!(null)));
            let failed = held["preflight"]["checks"].as_array().unwrap().iter().find(|check| check["status"] == "FAILED").unwrap();
            assert_eq!(failed["code"], code);
        }
        let input = json!({ "campaignId": plan.campaign, "at": "2026-11-02T13:00:00Z" });
        let made = world.ask(SCHEDULE, json!({ "input": input })).await["scheduleCampaign"].clone();
        let run = made["run"]["id"].as_str().unwrap();
        // Paused, it waits and reports that; resumed, it is checked.
        world.act("pauseCampaign", "campaign", json!({ "id": plan.campaign })).await;
        world.clock.set(noon() + chrono::Duration::hours(2));
        let waiting = world.until_run(run, "SCHEDULED").await;
        assert_eq!(waiting["waitingFor"], json!([{ "code": "CAMPAIGN_PAUSED" }, { "code": "SCHEDULED" }]));
        let update = "mutation($input: UpdateCampaignInput!) { updateCampaign(input: $input) { campaign { id } } }";
        world.ask(update, json!({ "input": { "id": plan.campaign, "messageTemplateId": null } })).await;
        world.act("resumeCampaign", "campaign", json!({ "id": plan.campaign })).await;
        let failed = world.until_run(run, "FAILED").await;
        assert!(failed["failure"].as_str().unwrap().contains("no message template"), "{failed}");
        let report = world.ask("query($id: ID!) { run(id: $id) { preflight { ready } startedAt } }", json!({ "id": run })).await;
        assert_eq!(report["run"], json!({ "preflight": { "ready": false }, "startedAt": null }));
        world.end().await;
    }
}

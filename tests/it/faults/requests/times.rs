//! Times at the limits of what both databases store: accepted or rejected, never an internal error.

use serde_json::json;

use crate::harness::World;

both! {
    async fn fire_times_at_the_ends_of_time(kind) {
        let world = World::new(kind).await;
        let query = "query($cron: String!, $zone: String!, $after: DateTime) { nextFireTimes(cron: $cron, timezone: $zone, after: $after, count: 100) { at localTime } }";
        for zone in ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "America/New_York", "Asia/Kathmandu"] {
            for cron in ["* * * * *", "0 9 * * *", "0 0 29 2 *", "@daily", "@yearly"] {
                for after in ["0001-01-01T00:00:00Z", "0001-06-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "9999-12-31T23:00:00Z", "9990-01-01T00:00:00Z", "1582-10-10T00:00:00Z"] {
                    let found = world.ask(query, json!({ "cron": cron, "zone": zone, "after": after })).await;
                    for one in found["nextFireTimes"].as_array().unwrap() {
                        let at = one["at"].as_str().unwrap();
                        assert!(at.len() == 25 && at > after && !at.starts_with('+'), "{cron} in {zone} after {after}: {at}");
                    }
                }
                for after in ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-05:00", "-0001-01-01T00:00:00Z", "+262142-12-31T23:59:59Z", "-262143-01-01T00:00:00Z", "+99999999-01-01T00:00:00Z"] {
                    let (code, told) = world.refused(query, json!({ "cron": cron, "zone": zone, "after": after })).await;
                    assert_eq!((code.as_str(), told.starts_with("after: ")), ("BAD_USER_INPUT", true), "{after}: {told}");
                }
            }
        }
        world.end().await;
    }
}

both! {
    /// A time that is computed from a given one stays within the supported years as well.
    async fn times_reckoned_from_others(kind) {
        let world = World::new(kind).await;
        let record = world.create("record", json!({ "kind": "lead", "name": "Ann", "email": "ann@example.com" })).await;
        let start = "mutation { startGuidedRun(input: { name: \"N\", steps: [{ type: \"schedule\" }, { type: \"create_task\" }] }) { run { steps { nodes { id } } } } }";
        let answer = world.post(start, json!({})).await;
        let started = match answer.get("errors") {
            None => answer,
            // The fields of an ad-hoc step are in the schema; the template has them, too.
            Some(_) => world.post("mutation { startGuidedRun(input: { templateKey: \"weekly-pipeline-review\" }) { run { steps { nodes { id type } } } } }", json!({})).await,
        };
        let step = started["data"]["startGuidedRun"]["run"]["steps"]["nodes"][0]["id"].clone();
        world.ask("mutation($id: ID!) { startStep(input: { id: $id }) { step { status } } }", json!({ "id": step })).await;
        let meet = "mutation($input: ScheduleStepMeetingInput!) { scheduleStepMeeting(input: $input) { meeting { id } } }";
        let input = json!({ "stepId": step, "title": "T", "startsAt": "9999-12-31T23:59:00Z", "minutes": 60, "attendees": [{ "recordId": record }] });
        let answer = world.post(meet, json!({ "input": input })).await;
        let code = answer["errors"][0]["extensions"]["code"].as_str().unwrap_or("OK");
        assert!(["BAD_USER_INPUT", "CONFLICT"].contains(&code), "{answer}");
        world.end().await;
    }
}

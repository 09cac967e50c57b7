//! Calls: once made, they are in the ledger, on the record and in its timeline; a suppressed number
//! is not called.

use serde_json::{Value, json};

use super::{person, reviewed, update, written_to};
use crate::harness::World;

const DETAIL: &str = "query($id: ID!) { run(id: $id) { status currentPhase { id } steps(filter: { types: [\"call\"] }) { nodes { id status record { id name phone } } } communications { nodes { status toAddress sentAt test } } } }";

/// Launches a phone run over a number of leads; returns the run, and its call steps in the order of
/// the leads.
pub(super) async fn calling(world: &World, leads: usize) -> (String, Vec<String>, Vec<Value>) {
    let plan = world.plan("PHONE", leads).await;
    world.activate(&plan).await;
    let run = world.launch(&plan).await;
    world.tick(true).await;
    let now = world.ask(DETAIL, json!({ "id": run })).await["run"].clone();
    let release = "mutation($id: ID!) { releasePhase(input: { id: $id }) { phase { status } } }";
    world.ask(release, json!({ "id": now["currentPhase"]["id"] })).await;
    world.tick(true).await;
    let now = world.ask(DETAIL, json!({ "id": run })).await["run"].clone();
    let mut calls = now["steps"]["nodes"].as_array().unwrap().clone();
    calls.sort_by_key(|call| call["record"]["name"].as_str().unwrap().to_owned());
    (run, plan.records, calls)
}

both! {
    async fn a_call_that_was_made_is_told_everywhere(kind) {
        let world = World::without_server(kind, None).await;
        let (run, records, calls) = calling(&world, 3).await;
        for call in &calls[..2] {
            world.act("startStep", "step", json!({ "id": call["id"] })).await;
        }
        world.act("completeStep", "step", json!({ "id": calls[0]["id"], "result": { "spoke": true } })).await;
        world.act("failStep", "step", json!({ "id": calls[1]["id"], "reason": "nobody answers" })).await;
        let record = "query($id: ID!) { record(id: $id) { lastContactedAt activities { nodes { kind summary details } } timeline(first: 10) { nodes { kind at } } } }";
        let called = world.ask(record, json!({ "id": records[0] })).await["record"].clone();
        assert_eq!(called["lastContactedAt"], "2026-11-02T12:00:00+00:00");
        let activity = &called["activities"]["nodes"][0];
        assert_eq!((&activity["kind"], &activity["summary"], &activity["details"]["to"]), (&json!("CALL_MADE"), &json!("Called Lead 0"), &json!("+15550000000")));
        let kinds: Vec<_> = called["timeline"]["nodes"].as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds.iter().filter(|kind| **kind == "COMMUNICATION").count(), 1, "{called}");
        assert!(!kinds.contains(&"ACTIVITY"), "{called}");
        assert_eq!(world.ask(record, json!({ "id": records[1] })).await["record"]["lastContactedAt"], Value::Null);
        // A failed call is retried up to its maximum attempts; then its message has failed.
        for _ in 0..4 {
            let open = world.ask("query($id: ID!) { step(id: $id) { status availableAt } }", json!({ "id": calls[1]["id"] })).await["step"].clone();
            if open["status"] == "FAILED" {
                break;
            }
            world.clock.set(open["availableAt"].as_str().unwrap().parse().unwrap());
            world.act("startStep", "step", json!({ "id": calls[1]["id"] })).await;
            world.act("failStep", "step", json!({ "id": calls[1]["id"], "reason": "nobody answers" })).await;
        }
        let mut all: Vec<(String, String)> = world.ask(DETAIL, json!({ "id": run })).await["run"]["communications"]["nodes"].as_array().unwrap().iter()
            .map(|node| (node["toAddress"].as_str().unwrap().to_owned(), node["status"].as_str().unwrap().to_owned())).collect();
        all.sort();
        let states: Vec<&str> = all.iter().map(|(_, status)| status.as_str()).collect();
        assert_eq!(states, ["SENT", "FAILED", "APPROVED"]);
        world.act("startStep", "step", json!({ "id": calls[2]["id"] })).await;
        world.act("completeStep", "step", json!({ "id": calls[2]["id"] })).await;
        world.tick(true).await;
        assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "2 of 3 called, 1 failed, 0 skipped");
        world.end().await;
    }
}

both! {
    async fn a_number_that_was_closed_meanwhile_is_not_called(kind) {
        let world = World::without_server(kind, None).await;
        let (run, records, calls) = calling(&world, 3).await;
        // A record with the first lead's number opts out: the call is closed. The second number is
        // suppressed.
        let twin = world.create("record", json!({ "kind": "contact", "name": "Twin", "phone": "+1 555 000-0000" })).await;
        update(&world, &twin, json!({ "unsubscribed": true })).await;
        let list = "mutation { suppressAddress(input: { channel: PHONE, address: \"+15550000001\", reason: \"do not call\" }) { suppression { id } } }";
        world.ask(list, json!({})).await;
        let first = world.ask("query($id: ID!) { step(id: $id) { status } }", json!({ "id": calls[0]["id"] })).await;
        assert_eq!(first["step"]["status"], "SKIPPED");
        let start = "mutation($id: ID!) { startStep(input: { id: $id }) { step { status } } }";
        let (code, told) = world.refused(start, json!({ "id": calls[1]["id"] })).await;
        assert!(code == "CONFLICT" && told.contains("do not call"), "{told}");
        world.act("skipStep", "step", json!({ "id": calls[1]["id"], "reason": "on the list" })).await;
        world.act("startStep", "step", json!({ "id": calls[2]["id"] })).await;
        world.act("completeStep", "step", json!({ "id": calls[2]["id"] })).await;
        world.tick(true).await;
        assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "1 of 3 called, 0 failed, 1 skipped, 1 suppressed");
        let contacted = world.ask("query($id: ID!) { record(id: $id) { lastContactedAt } }", json!({ "id": records[0] })).await;
        assert_eq!(contacted["record"]["lastContactedAt"], Value::Null);
        world.end().await;
    }
}

both! {
    async fn a_test_calls_no_number_that_is_closed(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("PHONE", 1).await;
        world.activate(&plan).await;
        let list = "mutation { suppressAddress(input: { channel: PHONE, address: \"+15559990000\", reason: \"ours\" }) { suppression { id } } }";
        world.ask(list, json!({})).await;
        let test = "mutation($id: ID!) { testRunCampaign(input: { campaignId: $id, recipients: [\"+1 555 999 0000\", \"+15559990001\"] }) { run { id } preflight { checks { code status message } } } }";
        let tested = world.ask(test, json!({ "id": plan.campaign })).await["testRunCampaign"].clone();
        let run = tested["run"]["id"].as_str().unwrap_or_else(|| panic!("{tested:#}")).to_owned();
        world.clock.set(crate::harness::noon() + chrono::Duration::minutes(1));
        world.tick(true).await;
        let now = world.ask(DETAIL, json!({ "id": run })).await["run"].clone();
        let start = "mutation($id: ID!) { startStep(input: { id: $id }) { step { status } } }";
        let mut refused = 0;
        for call in now["steps"]["nodes"].as_array().unwrap() {
            let answer = world.post(start, json!({ "id": call["id"] })).await;
            if answer["errors"][0]["extensions"]["code"] == "CONFLICT" {
                assert!(answer.to_string().contains("+15559990000 must not be called"), "{answer}");
                world.act("skipStep", "step", json!({ "id": call["id"], "reason": "on the list" })).await;
                refused += 1;
                continue;
            }
            world.act("completeStep", "step", json!({ "id": call["id"] })).await;
        }
        assert_eq!(refused, 1);
        world.tick(true).await;
        assert_eq!(world.number("SELECT COUNT(*) FROM communication WHERE test AND status = 'SENT'").await, 1);
        world.end().await;
    }
}

both! {
    async fn a_message_that_a_person_sends_again_uses_up_no_attempt(kind) {
        let sink = crate::harness::sink::Sink::start().await;
        let world = World::without_server(kind, Some(sink.url())).await;
        let plan = world.plan("EMAIL", 0).await;
        person(&world, "Dot", "dropdot@example.com").await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        reviewed(&world, &run).await;
        let unknown = "query($id: ID!) { run(id: $id) { communications { nodes { id status } } steps(filter: { types: [\"send_message\"] }) { nodes { maxAttempts attemptCount } } } }";
        let resolve = "mutation($id: ID!, $to: Resolution!) { resolveCommunication(input: { id: $id, resolution: $to }) { communication { status } } }";
        for round in 1..=8 {
            world.tick(true).await;
            let now = world.ask(unknown, json!({ "id": run })).await["run"].clone();
            let message = &now["communications"]["nodes"][0];
            assert_eq!((&message["status"], &now["steps"]["nodes"][0]["attemptCount"]), (&json!("UNKNOWN"), &json!(round)), "{now:#}");
            let to = if round == 8 { "SENT" } else { "SEND_AGAIN" };
            world.ask(resolve, json!({ "id": message["id"], "to": to })).await;
        }
        assert_eq!(world.number("SELECT COUNT(*) FROM step WHERE failure_count > 0").await, 0);
        world.end().await;
    }
}

both! {
    async fn a_number_that_was_corrected_is_called(kind) {
        let world = World::without_server(kind, None).await;
        let (run, records, calls) = calling(&world, 3).await;
        let update = "mutation($id: ID!, $phone: String) { updateRecord(input: { id: $id, phone: $phone }) { record { phone } } }";
        for (id, phone) in records.iter().zip([json!("+15559990000"), json!(null), json!("+15550000000")]) {
            world.ask(update, json!({ "id": id, "phone": phone })).await;
        }
        let start = "mutation($id: ID!) { startStep(input: { id: $id }) { step { status } } }";
        let (code, told) = world.refused(start, json!({ "id": calls[1]["id"] })).await;
        assert!(code == "CONFLICT" && told.contains("no telephone number"), "{code} {told}");
        for call in [&calls[0], &calls[2]] {
            world.act("startStep", "step", json!({ "id": call["id"] })).await;
            world.act("completeStep", "step", json!({ "id": call["id"] })).await;
        }
        let query = "query($id: ID!) { run(id: $id) { communications { nodes { toAddress status } } records { nodes { address } } } }";
        let data = world.ask(query, json!({ "id": run })).await["run"].clone();
        let mut sent: Vec<&str> = data["communications"]["nodes"].as_array().unwrap().iter()
            .filter(|one| one["status"] == "SENT").map(|one| one["toAddress"].as_str().unwrap()).collect();
        sent.sort_unstable();
        assert_eq!(sent, ["+15550000000", "+15559990000"]);
        assert_eq!(world.number("SELECT COUNT(*) FROM event WHERE kind = 'communication.readdressed'").await, 2);
        let addresses = data["records"]["nodes"].as_array().unwrap();
        assert!(addresses.iter().any(|one| one["address"] == "+15559990000"), "{addresses:?}");
        world.end().await;
    }
}

both! {
    async fn a_call_that_is_being_made_is_told_whatever_the_record_asks_meanwhile(kind) {
        let world = World::without_server(kind, None).await;
        let (run, records, calls) = calling(&world, 2).await;
        world.act("startStep", "step", json!({ "id": calls[0]["id"] })).await;
        for id in &records {
            update(&world, id, json!({ "unsubscribed": true })).await;
        }
        let done = world.act("completeStep", "step", json!({ "id": calls[0]["id"] })).await;
        assert_eq!(done["status"], "COMPLETED");
        let query = "query($id: ID!) { run(id: $id) { communications { nodes { status } } records { nodes { outcome } } } }";
        let data = world.ask(query, json!({ "id": run })).await["run"].clone();
        let all = |list: &str, field: &str| {
            let mut all: Vec<String> = data[list]["nodes"].as_array().unwrap().iter().map(|one| one[field].as_str().unwrap_or_default().to_owned()).collect();
            all.sort();
            all
        };
        assert_eq!((all("communications", "status"), all("records", "outcome")), (vec!["SENT".into(), "SUPPRESSED".to_owned()], vec!["SENT".into(), "SUPPRESSED".to_owned()]));
        assert_eq!(world.ask("query($id: ID!) { record(id: $id) { lastContactedAt } }", json!({ "id": records[0] })).await["record"]["lastContactedAt"], "2026-11-02T12:00:00+00:00");
        world.end().await;
    }
}

both! {
    async fn a_call_that_was_skipped_and_is_taken_up_again_is_made_once(kind) {
        let world = World::without_server(kind, None).await;
        let (run, records, calls) = calling(&world, 2).await;
        let states = "SELECT status, COUNT(*) FROM communication GROUP BY status ORDER BY status";
        world.act("skipStep", "step", json!({ "id": calls[0]["id"], "reason": "later" })).await;
        assert_eq!(world.sql(states).await, [["APPROVED", "1"], ["CANCELLED", "1"]]);
        world.act("restartStep", "step", json!({ "id": calls[0]["id"] })).await;
        assert_eq!(world.sql(states).await, [["APPROVED", "2"]]);
        for call in &calls {
            world.act("startStep", "step", json!({ "id": call["id"] })).await;
            world.act("completeStep", "step", json!({ "id": call["id"] })).await;
        }
        assert_eq!(world.sql(states).await, [["SENT", "2"]]);
        world.tick(true).await;
        assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "2 of 2 called, 0 failed, 0 skipped");
        let made = world.number("SELECT COUNT(*) FROM event WHERE kind = 'communication.sent'").await;
        assert_eq!((made, records.len()), (2, 2));
        world.end().await;
    }
}

both! {
    async fn a_message_that_an_event_cancelled_stays_so_when_its_step_is_restarted(kind) {
        let world = World::without_server(kind, None).await;
        // The mail of each of two records waits for a person's approval; a human task runs beside
        // it.
        let mut plan = world.plan("EMAIL", 2).await;
        let human = |key: &str| json!({ "key": key, "name": key, "type": "custom", "assignedTo": "HUMAN" });
        let fan = |key: &str, steps: Value| json!({ "key": key, "name": key, "fanOut": true, "steps": steps });
        let send = json!({ "key": "send", "name": "Send", "type": "send_message", "assignedTo": "WORKFLOW", "trigger": "after:ok" });
        let draft = json!({ "key": "draft", "name": "Draft", "type": "draft_message", "assignedTo": "WORKFLOW" });
        let review = json!({ "key": "review", "name": "Review", "dependsOn": ["draft"], "steps": [{ "key": "review", "name": "Review", "type": "review_messages", "assignedTo": "HUMAN" }] });
        let phases = json!([
            { "key": "processing", "name": "Processing", "tasks": [fan("draft", json!([draft])), review] },
            { "key": "flight", "name": "Flight", "interruptEvents": ["payment.received"], "tasks": [fan("mail", json!([human("ok"), send])), fan("side", json!([human("beside")]))] },
        ]);
        world.apply(&json!({ "runTemplates": [{ "key": "asked", "name": "asked", "phases": phases }] }).to_string()).await;
        let template = world.id_of("runTemplates", "key", "asked").await;
        let change = "mutation($id: ID!, $to: ID!) { updateCampaign(input: { id: $id, runTemplateId: $to }) { campaign { id } } }";
        world.ask(change, json!({ "id": plan.campaign, "to": template })).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        reviewed(&world, &run).await;
        let steps = world.ask("query($id: ID!) { run(id: $id) { steps(first: 50) { nodes { id key record { id } } } } }", json!({ "id": run })).await;
        let of = |key: &str, record: &str| {
            let all = steps["run"]["steps"]["nodes"].as_array().unwrap();
            all.iter().find(|step| step["key"] == key && step["record"]["id"] == record).unwrap()["id"].clone()
        };
        let (first, second) = (plan.records.remove(0), plan.records.remove(0));
        world.act("skipStep", "step", json!({ "id": of("ok", &first), "reason": "not now" })).await;
        world.ask("mutation($ids: [ID!]!) { raiseEvent(input: { name: \"payment.received\", recordIds: $ids }) { name } }", json!({ "ids": [first] })).await;
        let states = "SELECT status, COUNT(*) FROM communication GROUP BY status ORDER BY status";
        assert_eq!(world.sql(states).await, [["APPROVED", "1"], ["CANCELLED", "1"]]);
        world.act("restartStep", "step", json!({ "id": of("ok", &first) })).await;
        // The person does their step; the mail stays ruled out by what came meanwhile.
        assert_eq!(world.sql(states).await, [["APPROVED", "1"], ["CANCELLED", "1"]]);
        for id in [of("ok", &first), of("ok", &second), of("beside", &second)] {
            world.act("startStep", "step", json!({ "id": id })).await;
            world.act("completeStep", "step", json!({ "id": id })).await;
        }
        world.tick(true).await;
        world.until_run(&run, "COMPLETED").await;
        assert_eq!(world.sql(states).await, [["CANCELLED", "1"], ["SENT", "1"]]);
        assert_eq!(written_to(&world).len(), 1);
        world.end().await;
    }
}

//! Recipients that could not be reached when their run began, and can be when an event brings them
//! a message: it goes out, and their outcome says so.

use std::sync::Arc;

use chrono::Duration;
use serde_json::{Value, json};
use sortie::channel::Mail;
use sortie::step_kind::email::Email;

use super::again::repeat;
use super::{person, recipient_outcomes, update, written_to};
use crate::harness::{World, config, noon};

const RAISE: &str = "mutation($ids: [ID!]!) { raiseEvent(input: { name: \"c.go\", recordIds: $ids }) { name } }";

async fn suppress(world: &World, address: &str) -> String {
    let query = "mutation($to: String!) { suppressAddress(input: { channel: EMAIL, address: $to, reason: \"bounced\" }) { suppression { id } } }";
    let done = world.ask(query, json!({ "to": address })).await;
    done["suppressAddress"]["suppression"]["id"].as_str().unwrap().to_owned()
}

async fn steps(world: &World) -> Vec<String> {
    let sql = "SELECT r.name, s.status, COALESCE(s.reason, '-') FROM step s JOIN record r ON r.id = s.record_id WHERE s.key IN ('mail', 'call') ORDER BY 1";
    world.sql(sql).await.into_iter().map(|row| row.join(" ")).collect()
}

both! {
    async fn a_recipient_that_can_be_reached_again_gets_the_message_of_an_event(kind) {
        let world = World::without_server(kind, None).await;
        let mail = json!({ "key": "mail", "type": "email", "assignedTo": "WORKFLOW", "trigger": "event:c.go", "config": { "subject": "Hi", "body": "Hello" } });
        let task = json!({ "key": "t", "name": "t", "fanOut": true, "failWhen": "PERCENT(100)", "steps": [mail] });
        let phase = json!({ "key": "p", "name": "P", "autonomous": true, "openFor": "12s", "tasks": [task] });
        world.apply(&json!({ "runTemplates": [{ "key": "go", "name": "go", "phases": [phase] }] }).to_string()).await;
        let mut ids: Vec<String> = Vec::new();
        for name in ["back", "gone", "listed", "nobody", "other", "twin"] {
            ids.push(person(&world, name, &format!("{name}@example.com")).await);
        }
        let id = |name: &str| ids[["back", "gone", "listed", "nobody", "other", "twin"].iter().position(|one| *one == name).unwrap()].clone();
        for name in ["back", "gone"] {
            update(&world, &id(name), json!({ "unsubscribed": true })).await;
        }
        let listed = suppress(&world, "listed@example.com").await;
        for name in ["nobody", "twin"] {
            update(&world, &id(name), json!({ "email": null })).await;
        }
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let run = world.fly("go", json!({ "segmentId": segment, "channel": "EMAIL" })).await;
        world.tick(false).await;
        let before = recipient_outcomes(&world, &run).await;
        let outcomes: Vec<&str> = before.iter().map(|[_, outcome, _]| outcome.as_str()).collect();
        assert_eq!(outcomes, ["SUPPRESSED", "SUPPRESSED", "SUPPRESSED", "SKIPPED", "", "SKIPPED"], "{before:?}");
        // All but one can be reached now; one has the address of another.
        update(&world, &id("back"), json!({ "unsubscribed": false })).await;
        world.ask("mutation($id: ID!) { unsuppressAddress(input: { id: $id }) { suppression { id } } }", json!({ "id": listed })).await;
        update(&world, &id("nobody"), json!({ "email": "new@example.com" })).await;
        update(&world, &id("twin"), json!({ "email": "other@example.com" })).await;
        world.ask(RAISE, json!({ "ids": ids })).await;
        world.tick(false).await;
        assert_eq!(steps(&world).await, [
            "back QUEUED -", "gone SKIPPED SUPPRESSED", "listed QUEUED -", "nobody QUEUED -", "other QUEUED -", "twin SKIPPED DUPLICATE_ADDRESS",
        ]);
        let way = Mail::configured(&config(&world.folder, "", None)).await.unwrap();
        world.perform(&Email::new(Arc::new(way), "sender.example".into())).await;
        world.tick(false).await;
        assert_eq!(written_to(&world), ["back@example.com", "listed@example.com", "new@example.com", "other@example.com"]);
        world.clock.set(noon() + Duration::seconds(13));
        world.tick(false).await;
        world.until_run(&run, "COMPLETED").await;
        let after: Vec<Value> = recipient_outcomes(&world, &run).await.into_iter().map(|[name, outcome, _]| json!([name, outcome])).collect();
        assert_eq!(json!(after), json!([
            ["back", "SENT"], ["gone", "SUPPRESSED"], ["listed", "SENT"], ["nobody", "SENT"], ["other", "SENT"], ["twin", "SKIPPED"],
        ]));
        world.end().await;
    }
}

both! {
    async fn a_single_message_after_an_opt_out_that_was_taken_back_is_counted_as_sent(kind) {
        let world = World::without_server(kind, None).await;
        let mail = json!({ "key": "mail", "type": "email", "assignedTo": "WORKFLOW", "trigger": "event:c.go", "config": { "subject": "Hi", "body": "Hello" } });
        let task = json!({ "key": "t", "name": "t", "steps": [mail] });
        let phase = json!({ "key": "p", "name": "P", "autonomous": true, "openFor": "12s", "tasks": [task] });
        world.apply(&json!({ "runTemplates": [{ "key": "go", "name": "go", "phases": [phase] }] }).to_string()).await;
        let ann = person(&world, "ann", "ann@example.com").await;
        let run = world.fly("go", json!({ "recordId": ann, "channel": "EMAIL" })).await;
        // Opted out before the run begins, and in again before its event.
        update(&world, &ann, json!({ "unsubscribed": true })).await;
        world.tick(false).await;
        assert_eq!(recipient_outcomes(&world, &run).await, [["ann", "SUPPRESSED", "UNSUBSCRIBED"]]);
        update(&world, &ann, json!({ "unsubscribed": false })).await;
        world.ask(RAISE, json!({ "ids": [ann] })).await;
        world.tick(false).await;
        let way = Mail::configured(&config(&world.folder, "", None)).await.unwrap();
        world.perform(&Email::new(Arc::new(way), "sender.example".into())).await;
        world.tick(false).await;
        assert_eq!(written_to(&world), ["ann@example.com"]);
        world.until_run(&run, "COMPLETED").await;
        assert_eq!(recipient_outcomes(&world, &run).await, [["ann", "SENT", ""]]);
        world.end().await;
    }
}

/// A template whose only phase creates a step for each record about which the event comes.
async fn on_event(world: &World, step: Value) {
    let task = json!({ "key": "t", "name": "t", "fanOut": true, "failWhen": "PERCENT(100)", "steps": [step] });
    let phase = json!({ "key": "p", "name": "P", "autonomous": true, "openFor": "12s", "tasks": [task] });
    world.apply(&json!({ "runTemplates": [{ "key": "go", "name": "go", "phases": [phase] }] }).to_string()).await;
}

fn mail() -> Value {
    json!({ "key": "mail", "type": "email", "assignedTo": "WORKFLOW", "trigger": "event:c.go", "config": { "subject": "Hi", "body": "Hello" } })
}

/// Raises the event about some records, and sends the mails that it creates.
async fn go(world: &World, ids: &[&String]) {
    world.ask(RAISE, json!({ "ids": ids })).await;
    world.tick(false).await;
    let way = Mail::configured(&config(&world.folder, "", None)).await.unwrap();
    world.perform(&Email::new(Arc::new(way), "sender.example".into())).await;
    world.tick(false).await;
}

/// Names and outcomes of a run's recipients.
async fn outcomes(world: &World, run: &str) -> Vec<[String; 2]> {
    recipient_outcomes(world, run).await.into_iter().map(|[name, outcome, _]| [name, outcome]).collect()
}

both! {
    async fn a_test_keeps_its_addresses_when_an_event_brings_a_message(kind) {
        let world = World::without_server(kind, None).await;
        on_event(&world, mail()).await;
        let ann = person(&world, "ann", "ann@example.com").await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let campaign = world.create("campaign", json!({
            "name": "go", "segmentId": segment, "channel": "EMAIL",
            "runTemplateId": world.id_of("runTemplates", "key", "go").await,
            "goalId": world.create("goal", json!({ "name": "A goal" })).await,
        })).await;
        for verb in ["submitCampaign", "approveCampaign"] {
            world.act(verb, "campaign", json!({ "id": campaign })).await;
        }
        let test = "mutation($id: ID!) { testRunCampaign(input: { campaignId: $id, sample: 1, recipients: [\"me@example.com\", \"you@example.com\"] }) { run { id } preflight { checks { code status message } } } }";
        let tested = world.ask(test, json!({ "id": campaign })).await["testRunCampaign"].clone();
        let run = tested["run"]["id"].as_str().unwrap_or_else(|| panic!("{tested:#}")).to_owned();
        world.tick(false).await;
        // As a message leaves the recipient whose test address was closed, and one without an address.
        world.force("UPDATE run_record SET outcome = 'SUPPRESSED', reason = 'SUPPRESSED: bounced' WHERE address = 'me@example.com'").await;
        world.force("UPDATE run_record SET outcome = 'SKIPPED', reason = 'NO_ADDRESS' WHERE address = 'you@example.com'").await;
        go(&world, &[&ann]).await;
        assert_eq!(written_to(&world), ["me@example.com", "you@example.com"]);
        let addresses = world.sql("SELECT address, COALESCE(address_key, '-') FROM run_record ORDER BY address").await;
        assert_eq!(addresses, [["me@example.com", "-"], ["you@example.com", "-"]]);
        world.clock.set(noon() + Duration::seconds(13));
        world.tick(false).await;
        world.until_run(&run, "COMPLETED").await;
        assert_eq!(outcomes(&world, &run).await, [["ann", "SENT"], ["ann", "SENT"]]);
        world.end().await;
    }
}

both! {
    async fn a_repeat_writes_to_no_address_that_the_repeated_run_reached_also_after_an_event(kind) {
        let world = World::without_server(kind, None).await;
        on_event(&world, mail()).await;
        let ann = person(&world, "ann", "ann@example.com").await;
        let cat = person(&world, "cat", "cat@example.com").await;
        let dan = person(&world, "dan", "dan@example.com").await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let first = world.fly("go", json!({ "segmentId": segment, "channel": "EMAIL" })).await;
        world.tick(false).await;
        // One is reached, then the run is cancelled.
        go(&world, &[&ann]).await;
        world.act("cancelRun", "run", json!({ "id": first })).await;
        world.tick(false).await;
        assert_eq!(outcomes(&world, &first).await, [["ann", "SENT"], ["cat", "SKIPPED"], ["dan", "SKIPPED"]]);
        // The others have no address when the repeat begins; then one gets that of the first.
        for id in [&cat, &dan] {
            update(&world, id, json!({ "email": null })).await;
        }
        let second = repeat(&world, &first).await;
        world.tick(false).await;
        assert_eq!(recipient_outcomes(&world, &second).await, [["cat", "SKIPPED", "NO_ADDRESS"], ["dan", "SKIPPED", "NO_ADDRESS"]]);
        update(&world, &cat, json!({ "email": "Ann@Example.com" })).await;
        update(&world, &dan, json!({ "email": "dan@example.com" })).await;
        go(&world, &[&cat, &dan]).await;
        assert_eq!(steps(&world).await, ["ann COMPLETED -", "cat SKIPPED DUPLICATE_ADDRESS", "dan COMPLETED -"]);
        assert_eq!(written_to(&world), ["ann@example.com", "dan@example.com"]);
        world.clock.set(noon() + Duration::seconds(13));
        world.tick(false).await;
        world.until_run(&second, "COMPLETED").await;
        assert_eq!(outcomes(&world, &second).await, [["cat", "SKIPPED"], ["dan", "SENT"]]);
        world.end().await;
    }
}

both! {
    async fn a_recipient_that_has_a_number_by_now_gets_the_call_of_an_event(kind) {
        let world = World::without_server(kind, None).await;
        on_event(&world, json!({ "key": "call", "type": "call", "assignedTo": "HUMAN", "trigger": "event:c.go" })).await;
        let mut ids: Vec<String> = Vec::new();
        for (name, phone) in [("back", json!("+15550000001")), ("gone", json!("+15550000002")), ("nobody", json!(null)), ("other", json!("+15550000003")), ("still", json!(null)), ("twin", json!(null))] {
            ids.push(world.create("record", json!({ "kind": "lead", "externalId": name, "name": name, "phone": phone })).await);
        }
        for id in &ids[..2] {
            update(&world, id, json!({ "unsubscribed": true })).await;
        }
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let writer = world.create("writer", json!({ "name": "House", "body": "Hello" })).await;
        let run = world.fly("go", json!({ "segmentId": segment, "channel": "PHONE", "writerId": writer })).await;
        world.tick(false).await;
        assert_eq!(outcomes(&world, &run).await, [["back", "SUPPRESSED"], ["gone", "SUPPRESSED"], ["nobody", "SKIPPED"], ["other", ""], ["still", "SKIPPED"], ["twin", "SKIPPED"]]);
        // Opted in again; given a number; given the number of another.
        update(&world, &ids[0], json!({ "unsubscribed": false })).await;
        update(&world, &ids[2], json!({ "phone": "+15550000004" })).await;
        update(&world, &ids[5], json!({ "phone": "+15550000003" })).await;
        world.ask(RAISE, json!({ "ids": ids })).await;
        world.tick(false).await;
        assert_eq!(steps(&world).await, [
            "back PENDING -", "gone SKIPPED SUPPRESSED", "nobody PENDING -", "other PENDING -", "still SKIPPED NO_ADDRESS", "twin SKIPPED DUPLICATE_ADDRESS",
        ]);
        let query = "query($id: ID!) { run(id: $id) { steps(first: 50) { nodes { id status } } records(first: 50) { nodes { address record { name } } } } }";
        let now = world.ask(query, json!({ "id": run })).await["run"].clone();
        let number = now["records"]["nodes"].as_array().unwrap().iter().find(|one| one["record"]["name"] == "nobody").unwrap()["address"].clone();
        assert_eq!(number, "+15550000004");
        for step in now["steps"]["nodes"].as_array().unwrap().iter().filter(|step| step["status"] == "PENDING") {
            for act in ["startStep", "completeStep"] {
                world.act(act, "step", json!({ "id": step["id"] })).await;
            }
        }
        world.clock.set(noon() + Duration::seconds(13));
        world.tick(false).await;
        world.until_run(&run, "COMPLETED").await;
        assert_eq!(outcomes(&world, &run).await, [["back", "SENT"], ["gone", "SUPPRESSED"], ["nobody", "SENT"], ["other", "SENT"], ["still", "SKIPPED"], ["twin", "SKIPPED"]]);
        world.end().await;
    }
}

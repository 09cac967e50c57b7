//! Addresses corrected after the audience was snapshotted: mail goes to the record's address at the
//! time of the hand-over, and no address gets two because of that.

use std::sync::Arc;

use serde_json::{Value, json};
use sortie::channel::Mail;
use sortie::step_kind::email::Email;

use super::again::{RETRY, repeat, taken, through, world_of};
use super::{person, recipient_outcomes, reviewed, update, written_to};
use crate::harness::sink::Sink;
use crate::harness::{Kind, World, config};

const SUPPRESS: &str = "mutation { suppressAddress(input: { channel: EMAIL, address: \"closed@example.com\", reason: \"BOUNCE\" }) { suppression { id } } }";

both! {
    async fn between_draft_and_hand_over(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 0).await;
        let mut ids = Vec::new();
        for name in ["same", "moved", "case", "empty", "swap1", "swap2", "shut", "twin", "pair1", "pair2"] {
            ids.push(person(&world, name, &format!("{name}@example.com")).await);
        }
        world.ask(SUPPRESS, json!({})).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        let review = world.until_review(&run).await;
        let changes = [
            (1, json!("new@example.com")), (2, json!("CASE@example.com")), (3, json!(null)), (4, json!("swap2@example.com")),
            (5, json!("swap1@example.com")), (6, json!("closed@example.com")), (7, json!("same@example.com")),
            (8, json!("pair@example.com")), (9, json!("pair@example.com")),
        ];
        for (i, email) in changes {
            update(&world, &ids[i], json!({ "email": email })).await;
        }
        world.act("approveStep", "step", json!({ "id": review })).await;
        through(&world, &run, "COMPLETED").await;
        let all = recipient_outcomes(&world, &run).await;
        let of = |name: &str| all.iter().find(|one| one[0] == name).map(|one| (one[1].clone(), one[2].clone())).unwrap();
        for name in ["same", "moved", "case", "swap1", "swap2"] {
            assert_eq!(of(name), ("SENT".into(), String::new()), "{name}");
        }
        let (outcome, why) = of("empty");
        assert!(outcome == "SKIPPED" && why.starts_with("NO_ADDRESS"), "{outcome} {why}");
        let (outcome, why) = of("twin");
        assert!(outcome == "SKIPPED" && why.starts_with("DUPLICATE_ADDRESS"), "{outcome} {why}");
        assert_eq!(of("shut").0, "SUPPRESSED");
        let mut pair = [of("pair1").0, of("pair2").0];
        pair.sort();
        assert_eq!(pair, ["SENT", "SKIPPED"]);
        let expected = ["case@", "new@", "pair@", "same@", "swap1@", "swap2@"].map(|name| format!("{name}example.com"));
        let written = written_to(&world);
        assert_eq!(written, expected);
        let query = "query($id: ID!) { run(id: $id) { communications(first: 50) { nodes { toAddress status error record { name } } } records(first: 50) { nodes { address record { name } } } } }";
        let data = world.ask(query, json!({ "id": run })).await;
        let moved = |list: &str, field: &str| {
            let nodes = data["run"][list]["nodes"].as_array().unwrap();
            nodes.iter().find(|one| one["record"]["name"] == "moved").unwrap()[field].clone()
        };
        assert_eq!((moved("communications", "toAddress"), moved("records", "address")), (json!("new@example.com"), json!("new@example.com")));
        let told = world.sql("SELECT kind FROM event WHERE kind = 'communication.readdressed'").await;
        assert_eq!(told.len(), 6, "moved, case, both that swapped, shut, one of the pair");
        world.end().await;
    }
}

both! {
    async fn after_a_refusal(kind) {
        let (world, sink, plan) = world_of(kind, 3, 3).await;
        let run = world.launch(&plan).await;
        reviewed(&world, &run).await;
        assert_eq!(through(&world, &run, "COMPLETED").await["outcome"], "3 of 6 sent, 3 failed, 0 skipped");
        let data = world.ask("{ records(first: 50) { nodes { id name } } }", json!({})).await;
        let id = |name: &str| {
            let nodes = data["records"]["nodes"].as_array().unwrap();
            nodes.iter().find(|one| one["name"] == name).unwrap()["id"].as_str().unwrap().to_owned()
        };
        // One is corrected, one gets the address of a reached recipient, one is unchanged.
        update(&world, &id("bad0"), json!({ "email": "mended@example.com" })).await;
        update(&world, &id("bad1"), json!({ "email": "fine1@example.com" })).await;
        world.ask(RETRY, json!({ "id": run })).await;
        through(&world, &run, "COMPLETED").await;
        let all = recipient_outcomes(&world, &run).await;
        let of = |name: &str| all.iter().find(|one| one[0] == name).map(|one| (one[1].clone(), one[2].clone())).unwrap();
        assert_eq!(of("bad0").0, "SENT");
        assert!(of("bad1").1.starts_with("DUPLICATE_ADDRESS"), "{all:?}");
        assert_eq!(of("bad2").0, "FAILED");
        assert_eq!((taken(&sink, "@example.com"), taken(&sink, "mended")), (4, 1));
        // The same in a repeat.
        update(&world, &id("bad2"), json!({ "email": "mended@example.com" })).await;
        let second = repeat(&world, &run).await;
        through(&world, &second, "COMPLETED").await;
        let recipient_outcomes = recipient_outcomes(&world, &second).await;
        assert!(recipient_outcomes.len() == 1 && recipient_outcomes[0][2].starts_with("DUPLICATE_ADDRESS"), "{recipient_outcomes:?}");
        assert_eq!(taken(&sink, "@example.com"), 4);
        world.end().await;
    }
}

both! {
    async fn of_letters_that_wait(kind) {
        let world = World::without_server(kind, None).await;
        let config = json!({ "subject": "Hello {{ name }}", "body": "Dear {{ name }}" });
        let (run, steps) = world.own_run(&[("write", "email", config)], json!({})).await;
        world.step_act("startStep", &steps[0], json!({})).await;
        let mut ids = Vec::new();
        for name in ["moved", "empty", "one", "two"] {
            ids.push(person(&world, name, &format!("{name}@example.com")).await);
        }
        let send = "mutation($input: StepEmailInput!) { sendStepEmail(input: $input) { communications { id } } }";
        world.ask(send, json!({ "input": { "stepId": steps[0], "recordIds": ids } })).await;
        update(&world, &ids[0], json!({ "email": "new@example.com" })).await;
        update(&world, &ids[1], json!({ "email": null })).await;
        update(&world, &ids[2], json!({ "email": "two@example.com" })).await;
        world.tick(true).await;
        let mut written = written_to(&world);
        written.sort();
        assert_eq!(written, ["new@example.com", "two@example.com"]);
        let result = world.ask("query($id: ID!) { step(id: $id) { result } }", json!({ "id": steps[0] })).await;
        assert_eq!(result["step"]["result"], json!({ "emailsSent": 2, "emailsCancelled": 2 }));
        let _ = run;
        world.end().await;
    }
}

/// The executor of `email` steps.
async fn email(world: &World, smtp: Option<String>) -> Email {
    let mail = Mail::configured(&config(&world.folder, "", smtp)).await.unwrap();
    Email::new(Arc::new(mail), "sender.example".into())
}

/// Sends all due messages.
async fn send_all(world: &World, email: &Email) {
    for _ in 0..4 {
        world.perform(email).await;
        world.tick(false).await;
    }
}

/// Launches a campaign with two mails per record in one phase and one more in the next; returns its
/// run, with mails due.
async fn two_mails(world: &World, people: &[(&str, &str)]) -> (String, Vec<String>) {
    let mail = |key: &str| json!({ "key": key, "type": "email", "assignedTo": "WORKFLOW", "trigger": "immediate", "config": { "subject": key, "body": "Hello" } });
    let phase = |key: &str, mails: Vec<Value>| json!({ "key": key, "name": key, "autonomous": true, "tasks": [{ "key": format!("{key}_mails"), "name": "Mails", "fanOut": true, "steps": mails }] });
    let phases = json!([phase("one", vec![mail("first"), mail("second")]), phase("two", vec![mail("third")])]);
    world
        .apply(&json!({ "runTemplates": [{ "key": "letters", "name": "letters", "phases": phases }] }).to_string())
        .await;
    let mut ids = Vec::new();
    for (name, email) in people {
        ids.push(person(world, name, email).await);
    }
    let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
    let run = world.fly("letters", json!({ "segmentId": segment, "channel": "EMAIL" })).await;
    world.tick(false).await;
    (run, ids)
}

both! {
    async fn the_mails_of_one_record_follow_it_together(kind) {
        let world = World::without_server(kind, None).await;
        let (run, ids) = two_mails(&world, &[("ann", "ann@example.com"), ("bob", "bob@example.com")]).await;
        update(&world, &ids[0], json!({ "email": "new@example.com" })).await;
        send_all(&world, &email(&world, None).await).await;
        world.until_run(&run, "COMPLETED").await;
        let written = written_to(&world);
        assert_eq!(written.iter().filter(|to| *to == "new@example.com").count(), 3, "{written:?}");
        assert_eq!(written.iter().filter(|to| *to == "bob@example.com").count(), 3, "{written:?}");
        assert_eq!(written.len(), 6, "{written:?}");
        world.end().await;
    }
}

both! {
    async fn each_unknown_mail_of_a_record_is_resolved_by_itself(kind) {
        let sink = Sink::start().await;
        let world = World::without_server(kind, Some(sink.url())).await;
        let (run, _) = two_mails(&world, &[("dropdot", "dropdot.ann@example.com")]).await;
        let sends = email(&world, Some(sink.url())).await;
        send_all(&world, &sends).await;
        let query = "query($id: ID!) { run(id: $id) { communications(statuses: [UNKNOWN]) { nodes { id subject } } steps { nodes { key status } } } }";
        let found = world.ask(query, json!({ "id": run })).await["run"].clone();
        let of = |subject: &str| found["communications"]["nodes"].as_array().unwrap().iter().find(|one| one["subject"] == subject).unwrap()["id"].clone();
        let resolve = "mutation($id: ID!, $to: Resolution!) { resolveCommunication(input: { id: $id, resolution: $to }) { communication { status } } }";
        world.ask(resolve, json!({ "id": of("second"), "to": "NOT_SENT" })).await;
        let step = |data: &Value, key: &str| data["steps"]["nodes"].as_array().unwrap().iter().find(|one| one["key"] == key).map(|one| one["status"].clone()).unwrap();
        let now = world.ask(query, json!({ "id": run })).await["run"].clone();
        assert_eq!((step(&now, "first"), step(&now, "second")), (json!("AWAITING_APPROVAL"), json!("FAILED")), "{now}");
        world.ask(resolve, json!({ "id": of("first"), "to": "SENT" })).await;
        let now = world.ask(query, json!({ "id": run })).await["run"].clone();
        assert_eq!(step(&now, "first"), "COMPLETED");
        world.drop_unchecked().await;
        // Resolving one mail does not affect the next phase's mail.
        let sink = Sink::start().await;
        let world = World::without_server(kind, Some(sink.url())).await;
        let (run, _) = two_mails(&world, &[("dropdot", "dropdot.ann@example.com")]).await;
        let sends = email(&world, Some(sink.url())).await;
        send_all(&world, &sends).await;
        let found = world.ask(query, json!({ "id": run })).await["run"].clone();
        for one in found["communications"]["nodes"].as_array().unwrap() {
            world.ask(resolve, json!({ "id": one["id"], "to": "SENT" })).await;
        }
        send_all(&world, &sends).await;
        let now = world.ask(query, json!({ "id": run })).await["run"].clone();
        assert_eq!(step(&now, "third"), "AWAITING_APPROVAL", "it was written and handed over: {now}");
        world.end().await;
    }
}

both! {
    /// The queries for a run's messages to given addresses, and for suppressed addresses, use an
    /// index, however many messages the run has.
    async fn addresses_are_found_by_an_index(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.many_records(kind, "lead", 3_000).await;
        world.activate(&plan).await;
        world.launch(&plan).await;
        world.tick(true).await;
        let addresses: Vec<String> = (0..20).map(|i| format!("lead{i}@example.com")).collect();
        let list = json!(addresses).to_string();
        let (explain, runs, among) = match kind {
            Kind::Sqlite => ("EXPLAIN QUERY PLAN", "SELECT id FROM run LIMIT 2", format!("IN (SELECT value FROM json_each('{list}'))")),
            Kind::Postgres => {
                world.force("ANALYZE communication").await;
                ("EXPLAIN", "SELECT id FROM run LIMIT 2", format!("= ANY(ARRAY(SELECT value FROM jsonb_array_elements_text('{list}') AS l(value)))"))
            }
        };
        let runs = match kind {
            Kind::Sqlite => format!("IN ({runs})"),
            Kind::Postgres => format!("= ANY(ARRAY({runs}))"),
        };
        let rows = |sql: String| {
            let (world, column) = (&world, if kind == Kind::Sqlite { 3 } else { 0 });
            async move { world.sql(&format!("{explain} {sql}")).await.into_iter().map(|row| row[column].clone()).collect::<Vec<_>>().join("\n") }
        };
        let plan = rows(format!(
            "SELECT id FROM communication WHERE run_id {runs} AND status IN ('SENDING', 'SENT', 'UNKNOWN') AND test = false \
             AND meeting_id IS NULL AND LOWER(to_address) {among}"
        )).await;
        assert!(plan.contains("communication_by_address"), "{plan}");
        let plan = rows(format!(
            "SELECT id FROM suppression WHERE org_id = (SELECT org_id FROM run LIMIT 1) AND address_key {among}"
        )).await;
        assert!(kind == Kind::Postgres || plan.contains("suppression_"), "{plan}");
        world.end().await;
    }
}

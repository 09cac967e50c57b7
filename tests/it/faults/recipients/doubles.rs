//! One address gets one mail per step, also if the run's own channel is another one.

use std::sync::Arc;

use serde_json::{Value, json};
use sortie::channel::Mail;
use sortie::step_kind::email::Email;

use crate::harness::sink::Sink;
use crate::harness::{World, config};

const STEPS: &str = "query($id: ID!) { run(id: $id) { steps(first: 100) { nodes { key status reasonCode record { name } } } records(first: 100) { nodes { outcome record { name } } } } }";

both! {
    async fn an_address_gets_one_mail_of_a_step_in_a_run_over_phone_too(kind) {
        let sink = Sink::start().await;
        let world = World::without_server(kind, Some(sink.url())).await;
        let mail = Mail::configured(&config(&world.folder, "", Some(sink.url()))).await.unwrap();
        let email = Email::new(Arc::new(mail), "sender.example".into());
        let mail = |key: &str, trigger: &str| json!({ "key": key, "type": "email", "assignedTo": "WORKFLOW", "trigger": trigger, "config": { "subject": key, "body": "Hello" } });
        let task = json!({ "key": "mails", "name": "Mails", "fanOut": true, "steps": [mail("first", "immediate"), mail("second", "immediate")] });
        let phases = json!([{ "key": "all", "name": "All", "autonomous": true, "tasks": [task] }]);
        world.apply(&json!({ "runTemplates": [{ "key": "letters", "name": "letters", "phases": phases }] }).to_string()).await;
        let people = [("Ann", "Same@example.com", 1), ("Bob", "same@example.com", 2), ("Cid", "SAME@EXAMPLE.COM", 3), ("Eve", "eve@example.com", 4)];
        for (name, email, number) in people {
            world.create("record", json!({ "kind": "lead", "name": name, "email": email, "phone": format!("+1555000000{number}") })).await;
        }
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let run = world.fly("letters", json!({ "segmentId": segment, "channel": "PHONE" })).await;
        world.tick(false).await;
        // The last record's mails are due later than the others', and find those in the ledger.
        world.force("UPDATE step SET available_at = '2026-11-02T12:05:00+00:00' WHERE record_id IN (SELECT id FROM record WHERE name = 'Cid')").await;
        assert_eq!(world.perform(&email).await, 6);
        world.clock.set("2026-11-02T12:06:00Z".parse().unwrap());
        assert_eq!(world.perform(&email).await, 2);
        world.tick(false).await;
        world.until_run(&run, "COMPLETED").await;
        for to in ["same@example.com", "eve@example.com"] {
            let mut subjects: Vec<String> = sink.kept().iter().filter(|mail| mail.to.eq_ignore_ascii_case(to)).map(|mail| {
                mail.raw.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap().to_owned()
            }).collect();
            subjects.sort();
            assert_eq!(subjects, ["first", "second"], "{to}");
        }
        let now = world.ask(STEPS, json!({ "id": run })).await["run"].clone();
        let skipped: Vec<&Value> = now["steps"]["nodes"].as_array().unwrap().iter().filter(|step| step["status"] == "SKIPPED").collect();
        assert_eq!(skipped.len(), 4, "{now:#}");
        assert!(skipped.iter().all(|step| step["reasonCode"] == "DUPLICATE_ADDRESS" && step["record"]["name"] != "Eve"), "{now:#}");
        let sent = now["records"]["nodes"].as_array().unwrap().iter().filter(|one| one["outcome"] == "SENT").count();
        assert_eq!(sent, 2, "{now:#}");
        world.end().await;
    }
}

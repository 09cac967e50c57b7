//! Events about a record whose message is in hand: whatever becomes of that attempt, there is no other.

use std::sync::Arc;

use serde_json::{Value, json};
use sortie::channel::Mail;
use sortie::step_kind::email::Email;

use super::person;
use crate::harness::sink::{Sink, Stage};
use crate::harness::{Kind, World, config};

const RAISE: &str =
    "mutation($id: ID!) { raiseEvent(input: { name: \"payment.received\", recordIds: [$id] }) { name } }";
const RESOLVE: &str = "mutation($id: ID!) { resolveCommunication(input: { id: $id, resolution: NOT_SENT }) { communication { status } } }";

/// A run of two mails to two records beside a person's step. One of the second mails was cut short; then
/// an event about its record came, and a person reported that the mail was not sent. Also returns the
/// address.
async fn failed(kind: Kind, fail_when: &str) -> (World, Sink, Email, String, String) {
    let sink = Sink::start().await;
    let world = World::without_server(kind, Some(sink.url())).await;
    let mail = Mail::configured(&config(&world.folder, "", Some(sink.url()))).await.unwrap();
    let email = Email::new(Arc::new(mail), "sender.example".into());
    let mail = |key: &str, trigger: &str| {
        json!({
            "key": key, "type": "email", "assignedTo": "WORKFLOW", "trigger": trigger, "maxAttempts": 1,
            "config": { "subject": key, "body": key },
        })
    };
    let mails = json!([mail("first", "immediate"), mail("second", "after:first")]);
    let task = json!({ "key": "mails", "fanOut": true, "failWhen": fail_when, "steps": mails });
    let beside = json!({ "key": "beside", "steps": [{ "key": "beside", "type": "beside", "assignedTo": "HUMAN" }] });
    let phases = json!([{ "key": "all", "autonomous": false, "interruptEvents": ["payment.received"], "tasks": [task, beside] }]);
    world.apply(&json!({ "runTemplates": [{ "key": "two", "name": "Two", "phases": phases }] }).to_string()).await;
    for name in ["ann", "bob"] {
        person(&world, name, &format!("{name}@example.com")).await;
    }
    let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
    let run = world.fly("two", json!({ "segmentId": segment })).await;
    world.tick(false).await;
    Box::pin(world.perform_once(&email)).await;
    let trapped = sink.trap(Stage::Dot, 1);
    let cut = async {
        trapped.await.unwrap();
        sink.let_go(false);
    };
    tokio::join!(Box::pin(world.perform_once(&email)), cut);
    let query = "{ communications(filter: { statuses: [UNKNOWN] }) { nodes { id toAddress record { id } } } }";
    let message = world.ask(query, json!({})).await["communications"]["nodes"][0].clone();
    world.ask(RAISE, json!({ "id": message["record"]["id"] })).await;
    world.ask(RESOLVE, json!({ "id": message["id"] })).await;
    (world, sink, email, run, message["toAddress"].as_str().unwrap().to_owned())
}

/// The second step of the record with an address.
async fn second(world: &World, address: &str) -> Value {
    let query = "{ steps(first: 100) { nodes { id key status reasonCode record { email } } } }";
    let steps = world.ask(query, json!({})).await["steps"]["nodes"].as_array().unwrap().clone();
    steps.into_iter().find(|step| step["key"] == "second" && step["record"]["email"] == address).unwrap()
}

both! {
    async fn neither_a_retry_of_the_run_nor_of_the_step_writes_to_them(kind) {
        for (fail_when, of_run) in [("ANY", true), ("PERCENT(100)", false)] {
            let (world, sink, email, run, address) = Box::pin(failed(kind, fail_when)).await;
            let step = second(&world, &address).await;
            assert_eq!(step["status"], "FAILED", "{step}");
            if of_run {
                world.until_run(&run, "FAILED").await;
                world.act("retryRun", "run", json!({ "id": run })).await;
            } else {
                world.act("retryStep", "step", json!({ "id": step["id"] })).await;
            }
            world.tick(false).await;
            Box::pin(world.perform(&email)).await;
            world.tick(false).await;
            let step = second(&world, &address).await;
            assert_eq!((&step["status"], &step["reasonCode"]), (&json!("SKIPPED"), &json!("INTERRUPTED")), "{step}");
            let subjects: Vec<String> = sink.read(&address).into_iter().map(|(subject, _)| subject).collect();
            // The second one arrived before it was cut short, and is not sent again.
            assert_eq!(subjects, ["first", "second"]);
            world.end().await;
        }
    }
}

both! {
    async fn work_that_awaits_approval_is_stopped_with_its_record(kind) {
        let world = World::without_server(kind, None).await;
        let look = json!({ "key": "look", "type": "look", "assignedTo": "AGENT", "agent": "bot", "approval": { "needed": 1 } });
        let phases = json!([{ "key": "p", "autonomous": true, "interruptEvents": ["payment.received"], "tasks": [{ "key": "t", "fanOut": true, "steps": [look] }] }]);
        world.apply(&json!({ "agents": [{ "name": "bot" }], "runTemplates": [{ "key": "looks", "name": "Looks", "phases": phases }] }).to_string()).await;
        let ids = world.leads(2).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        world.fly("looks", json!({ "segmentId": segment })).await;
        world.tick(false).await;
        let claim = "mutation { claimSteps(input: { agent: \"bot\", worker: \"w\", limit: 10, leaseSeconds: 60 }) { steps { id token } } }";
        let held = world.ask(claim, json!({})).await["claimSteps"]["steps"].as_array().unwrap().clone();
        let done: Vec<Value> = held.iter().map(|step| json!({ "id": step["id"], "token": step["token"], "result": { "seen": true } })).collect();
        world.ask("mutation($steps: [SettleStepInput!]!) { settleSteps(input: { steps: $steps }) { steps { status } } }", json!({ "steps": done })).await;
        assert_eq!(world.number("SELECT COUNT(*) FROM step WHERE status = 'AWAITING_APPROVAL'").await, 2);
        world.ask(RAISE, json!({ "id": ids[0] })).await;
        let states = world.sql("SELECT status, COALESCE(reason, '') FROM step ORDER BY status").await;
        assert_eq!(states, [["AWAITING_APPROVAL", ""], ["SKIPPED", "INTERRUPTED"]]);
        world.end().await;
    }
}

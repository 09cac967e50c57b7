//! Recipients that could not be reached when their run began, and can be when an event brings them
//! a message: it goes out, and their outcome says so.

use std::sync::Arc;

use chrono::Duration;
use serde_json::{Value, json};
use sortie::channel::Mail;
use sortie::step_kind::email::Email;

use super::{person, recipient_outcomes, update, written_to};
use crate::harness::{World, config, noon};

const RAISE: &str = "mutation($ids: [ID!]!) { raiseEvent(input: { name: \"c.go\", recordIds: $ids }) { name } }";

async fn suppress(world: &World, address: &str) -> String {
    let query = "mutation($to: String!) { suppressAddress(input: { channel: EMAIL, address: $to, reason: \"bounced\" }) { suppression { id } } }";
    let done = world.ask(query, json!({ "to": address })).await;
    done["suppressAddress"]["suppression"]["id"].as_str().unwrap().to_owned()
}

async fn steps(world: &World) -> Vec<String> {
    let sql = "SELECT r.name, s.status, COALESCE(s.reason, '-') FROM step s JOIN record r ON r.id = s.record_id WHERE s.key = 'mail' ORDER BY 1";
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

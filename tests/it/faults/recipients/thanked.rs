//! Recipients whom an event stops and writes to: their outcome follows their messages.

use serde_json::{Value, json};

use super::{person, recipient_outcomes, written_to};
use crate::harness::World;

const RAISE: &str =
    "mutation($ids: [ID!]!) { raiseEvent(input: { name: \"invoice.paid\", recordIds: $ids }) { name } }";

/// Reminders that the event stops, and thanks that it begins.
fn phases() -> Value {
    let step = |key: &str, kind: &str, more: Value| {
        let mut step = json!({ "key": key, "name": key, "type": kind, "assignedTo": "WORKFLOW" });
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        step
    };
    let mail = |text: &str| json!({ "subject": text, "body": text });
    let remind = json!([
        step("w", "wait", json!({ "config": { "duration": "1 day" } })),
        step("reminder", "email", json!({ "trigger": "after:w", "config": mail("reminder") })),
    ]);
    let thank = json!([step("thanks", "email", json!({ "trigger": "event:invoice.paid", "config": mail("thanks") }))]);
    let task = |key: &str, steps: Value| json!({ "key": key, "name": key, "fanOut": true, "steps": steps });
    let last = json!([step("last", "email", json!({ "config": mail("last notice") }))]);
    json!([
        { "key": "one", "name": "One", "autonomous": true, "interruptEvents": ["invoice.paid"], "tasks": [task("remind", remind), task("thank", thank)] },
        { "key": "two", "name": "Two", "autonomous": true, "tasks": [task("warn", last)] },
    ])
}

both! {
    async fn who_is_thanked_by_the_event_that_stops_the_reminders_is_sent_to(kind) {
        let world = World::new(kind).await;
        let ann = person(&world, "ann", "ann@example.com").await;
        person(&world, "bob", "bob@example.com").await;
        world.apply(&json!({ "runTemplates": [{ "key": "dun", "name": "dun", "phases": phases() }] }).to_string()).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let run = world.fly("dun", json!({ "segmentId": segment, "channel": "EMAIL" })).await;
        let waits = "query($id: ID!) { run(id: $id) { steps(filter: { types: [\"wait\"], statuses: [QUEUED] }) { totalCount } } }";
        world.until("the waits", waits, json!({ "id": run }), |data| data["run"]["steps"]["totalCount"] == 2).await;
        world.ask(RAISE, json!({ "ids": [ann] })).await;
        let sent = "query($id: ID!) { run(id: $id) { communications(statuses: [SENT]) { totalCount } } }";
        world.until("the thanks", sent, json!({ "id": run }), |data| data["run"]["communications"]["totalCount"] == 1).await;
        assert_eq!(written_to(&world), ["ann@example.com"]);
        assert_eq!(recipient_outcomes(&world, &run).await, [["ann", "SENT", ""], ["bob", "", ""]]);
        world.clock.set(crate::harness::noon() + chrono::Duration::days(2));
        world.until_run(&run, "COMPLETED").await;
        assert_eq!(recipient_outcomes(&world, &run).await, [["ann", "SENT", ""], ["bob", "SENT", ""]]);
        // Who was stopped is left out of what follows.
        assert_eq!(written_to(&world), ["ann@example.com", "bob@example.com", "bob@example.com"]);
        world.end().await;
    }
}

both! {
    async fn drafts_of_a_skipped_review_are_cancelled(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 3).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        let review = world.until_review(&run).await;
        world.step_act("skipStep", &review, json!({ "reason": "no" })).await;
        world.tick(true).await;
        let phases = world.ask("query($id: ID!) { run(id: $id) { phases { id status } } }", json!({ "id": run })).await;
        let active = phases["run"]["phases"].as_array().unwrap().iter().find(|phase| phase["status"] == "ACTIVE");
        if let Some(phase) = active {
            let release = "mutation($id: ID!) { releasePhase(input: { id: $id }) { phase { status } } }";
            world.ask(release, json!({ "id": phase["id"] })).await;
        }
        world.tick(true).await;
        world.until_run(&run, "COMPLETED").await;
        assert_eq!(world.number("SELECT COUNT(*) FROM communication WHERE status = 'CANCELLED'").await, 3);
        let outcomes = recipient_outcomes(&world, &run).await;
        assert!(outcomes.iter().all(|one| one[1] == "SKIPPED"), "{outcomes:?}");
        assert!(written_to(&world).is_empty());
        world.end().await;
    }
}

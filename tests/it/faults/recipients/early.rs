//! An event that comes before its run has made the steps that it stops or wakes: while the audience is taken in, while a
//! fan-out is under way, before the phase begins.

use serde_json::{Value, json};

use super::{fates, person};
use crate::harness::World;

const RAISE: &str =
    "mutation($ids: [ID!]!) { raiseEvent(input: { name: \"payment.received\", recordIds: $ids }) { name } }";

/// A phase in which each record waits for a day, unless it pays, which is a person's to look at.
fn waiting() -> Value {
    let wait = json!({ "key": "w", "type": "wait", "assignedTo": "WORKFLOW", "config": { "duration": "1 day" } });
    let paid = json!({ "key": "paid", "type": "custom", "assignedTo": "HUMAN", "trigger": "event:payment.received" });
    let task = |key: &str, step: Value| json!({ "key": key, "name": key, "fanOut": true, "steps": [step] });
    json!({ "key": "two", "name": "Two", "autonomous": true, "interruptEvents": ["payment.received"], "tasks": [task("t", wait), task("pay", paid)] })
}

async fn launched(world: &World, phases: Value) -> String {
    world.apply(&json!({ "runTemplates": [{ "key": "dun", "name": "dun", "phases": phases }] }).to_string()).await;
    let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
    world.fly("dun", json!({ "segmentId": segment, "channel": "EMAIL" })).await
}

/// Keys, statuses and reasons of a run's steps, with how many there are.
async fn counts(world: &World) -> Vec<String> {
    let sql = "SELECT key, status, COALESCE(reason, '-'), COUNT(*) FROM step WHERE run_record_id IS NOT NULL GROUP BY key, status, reason ORDER BY key, status";
    world.sql(sql).await.into_iter().map(|row| row.join(" ")).collect()
}

both! {
    async fn events_while_a_run_is_made_stop_what_is_made_later(kind) {
        let world = World::still(kind, None).await;
        let ids = world.leads(520).await;
        let run = launched(&world, json!([waiting()])).await;
        let raise = async |numbers: &[usize]| {
            let about: Vec<&String> = numbers.iter().map(|i| &ids[*i]).collect();
            world.ask(RAISE, json!({ "ids": about })).await;
        };
        // Some places are made.
        world.tick_once().await;
        assert_eq!(world.number("SELECT COUNT(*) FROM run_record").await, 500);
        raise(&[519]).await;
        world.tick_once().await;
        // All places are, and no step.
        assert_eq!((world.number("SELECT COUNT(*) FROM run_record").await, world.number("SELECT COUNT(*) FROM step WHERE key = 'w'").await), (520, 0));
        raise(&[0, 518]).await;
        world.tick_once().await;
        assert_eq!(world.number("SELECT COUNT(*) FROM step WHERE key = 'w'").await, 500);
        raise(&[1, 517]).await;
        world.tick(false).await;
        assert_eq!(counts(&world).await, ["paid PENDING - 5", "w QUEUED - 515", "w SKIPPED INTERRUPTED 5"]);
        let stopped = fates(&world, &run).await.into_iter().filter(|one| one[1..] == ["SKIPPED", "INTERRUPTED: payment.received"]).count();
        let all = "SELECT COUNT(*) FROM run_record WHERE outcome = 'SKIPPED' AND reason = 'INTERRUPTED: payment.received'";
        assert!(stopped <= 5 && world.number(all).await == 5);
        world.end().await;
    }
}

both! {
    async fn an_event_before_a_phase_begins_stops_what_it_would_do(kind) {
        let world = World::still(kind, None).await;
        let ann = person(&world, "ann", "ann@example.com").await;
        person(&world, "bob", "bob@example.com").await;
        let look = json!({ "key": "look", "name": "Look", "type": "custom", "assignedTo": "HUMAN" });
        let one = json!({ "key": "one", "name": "One", "autonomous": false, "tasks": [{ "key": "l", "name": "L", "steps": [look] }] });
        let run = launched(&world, json!([one, waiting()])).await;
        // Before the run has begun it is not about it.
        world.ask(RAISE, json!({ "ids": [ann] })).await;
        world.tick(false).await;
        world.ask(RAISE, json!({ "ids": [ann] })).await;
        world.ask(RAISE, json!({ "ids": [ann] })).await;
        let steps = world.ask("query($id: ID!) { run(id: $id) { steps { nodes { id key } } } }", json!({ "id": run })).await;
        let look = steps["run"]["steps"]["nodes"][0]["id"].clone();
        for act in ["startStep", "completeStep"] {
            world.act(act, "step", json!({ "id": look })).await;
        }
        world.tick(false).await;
        assert_eq!(counts(&world).await, ["paid PENDING - 1", "w QUEUED - 1", "w SKIPPED INTERRUPTED 1"]);
        assert_eq!(fates(&world, &run).await, [["ann", "SKIPPED", "INTERRUPTED: payment.received"], ["bob", "", ""]]);
        world.end().await;
    }
}

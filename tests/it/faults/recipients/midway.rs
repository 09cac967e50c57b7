//! A run that fails between two chunks of a large change keeps the rest of it: a retry goes on with
//! it, so that everybody is done, and nobody twice.

use serde_json::{Value, json};
use sortie::step_kind::update_record::UpdateRecord;

use super::again::repeat;
use super::{person, written_to};
use crate::harness::World;

/// More records than one chunk has.
const RECORDS: usize = 503;

fn human(key: &str) -> Value {
    json!({ "key": key, "name": key, "type": key, "assignedTo": "HUMAN", "maxAttempts": 1 })
}

/// A task over each record.
fn fan(key: &str, step: Value) -> Value {
    json!({ "key": key, "name": key, "fanOut": true, "failWhen": "ANY", "steps": [step] })
}

/// A single step of a person beside other work: the run fails with it.
fn beside() -> Value {
    json!({ "key": "beside", "name": "beside", "steps": [human("beside")] })
}

async fn people(world: &World) {
    for i in 0..RECORDS {
        person(world, &format!("p{i}"), &format!("p{i}@example.com")).await;
    }
}

/// A run in one phase, with a single step beside a task over each record. It has not begun.
async fn launched(world: &World, task: Value) -> String {
    people(world).await;
    let phases = json!([{ "key": "one", "name": "One", "autonomous": false, "tasks": [beside(), task] }]);
    world.apply(&json!({ "runTemplates": [{ "key": "mid", "name": "mid", "phases": phases }] }).to_string()).await;
    let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
    world.fly("mid", json!({ "segmentId": segment, "channel": "EMAIL" })).await
}

/// A run whose messages are drafted, reviewed and sent. It has not begun.
async fn outreach(world: &World) -> String {
    let plan = world.plan("EMAIL", 0).await;
    people(world).await;
    let draft = json!({ "key": "draft", "name": "Draft", "type": "draft_message", "assignedTo": "WORKFLOW" });
    let send = json!({ "key": "send", "name": "Send", "type": "send_message", "assignedTo": "WORKFLOW" });
    let review = json!({ "key": "review", "name": "Review", "type": "review_messages", "assignedTo": "HUMAN" });
    let review = json!({ "key": "review", "name": "Review", "dependsOn": ["draft"], "steps": [review] });
    let tasks = json!([beside(), fan("draft", draft), review]);
    let phases = json!([
        { "key": "writing", "name": "Writing", "autonomous": false, "tasks": tasks },
        { "key": "flight", "name": "Flight", "autonomous": true, "tasks": [fan("send", send)] },
    ]);
    world.apply(&json!({ "runTemplates": [{ "key": "mid", "name": "mid", "phases": phases }] }).to_string()).await;
    let template = world.id_of("runTemplates", "key", "mid").await;
    let change =
        "mutation($id: ID!, $to: ID!) { updateCampaign(input: { id: $id, runTemplateId: $to }) { campaign { id } } }";
    world.ask(change, json!({ "id": plan.campaign, "to": template })).await;
    world.activate(&plan).await;
    world.launch(&plan).await
}

/// Lets a person act on one of a run's steps with a key.
async fn act(world: &World, run: &str, key: &str, verbs: [&str; 2]) {
    let query = "query($run: ID!, $types: [String!]) { steps(first: 1, filter: { runIds: [$run], types: $types }) { nodes { id } } }";
    let found = world.ask(query, json!({ "run": run, "types": [key] })).await;
    let id = found["steps"]["nodes"][0]["id"].as_str().unwrap_or_else(|| panic!("no {key}"));
    for verb in verbs {
        world.step_act(verb, id, json!({ "reason": "said so" })).await;
    }
}

/// Fails a run by a step, and retries it with one sweep of this kind left, which nothing continues
/// before.
async fn failed_and_retried(world: &World, run: &str, key: &str, kind: &str) {
    act(world, run, key, ["startStep", "failStep"]).await;
    let sweeps = "SELECT kind, CASE WHEN held THEN 'held' ELSE 'free' END FROM sweep";
    world.tick(true).await;
    assert_eq!(world.until_run(run, "FAILED").await["waitingFor"], json!([]));
    assert_eq!(world.sql(sweeps).await, [[kind, "held"]]);
    let found = sortie::app::check::check(&world.db).await.unwrap();
    assert!(found.iter().all(|one| one.wrong == 0), "{found:#?}");
    world.act("retryRun", "run", json!({ "id": run })).await;
    assert_eq!(world.number("SELECT COUNT(*) FROM sweep WHERE held").await, 0);
}

/// Number of rows that a selection has.
async fn count(world: &World, of: &str) -> i64 {
    world.number(&format!("SELECT COUNT(*) FROM {of}")).await
}

/// Lets one tick follow the other until there are rows.
async fn until_any(world: &World, of: &str) {
    for _ in 0..9 {
        if count(world, of).await > 0 {
            return;
        }
        world.tick_once().await;
    }
    panic!("no {of}");
}

/// Finishes a run of records that are updated; each is a recipient once, and has its step once.
async fn is_done_once(world: &World, run: &str) {
    act(world, run, "beside", ["startStep", "completeStep"]).await;
    world.tick(false).await;
    world.perform(&UpdateRecord).await;
    world.tick(false).await;
    world.until_run(run, "COMPLETED").await;
    let all = RECORDS as i64;
    assert_eq!(count(world, "run_record WHERE outcome = 'DONE'").await, all);
    assert_eq!(count(world, "(SELECT DISTINCT record_id FROM run_record) r").await, all);
    assert_eq!(count(world, "step WHERE key = 'write' AND status = 'COMPLETED' AND attempt_count = 1").await, all);
    assert_eq!(count(world, "step WHERE key = 'write'").await, all);
    assert_eq!(world.number("SELECT audience_count FROM run").await, all);
    assert_eq!(count(world, "sweep").await, 0);
}

/// Approves a run's messages and sends them; each address gets one.
async fn is_sent_once(world: &World, run: &str) {
    act(world, run, "beside", ["startStep", "completeStep"]).await;
    world.tick(true).await;
    world.until_run(run, "COMPLETED").await;
    assert_eq!(count(world, "sweep WHERE NOT held").await, 0);
    has_each_one(world);
}

fn has_each_one(world: &World) {
    let mut all = written_to(world);
    assert_eq!(all.len(), RECORDS);
    all.dedup();
    assert_eq!(all.len(), RECORDS);
}

fn write() -> Value {
    let config = json!({ "attributes": { "seen": "yes" } });
    json!({ "key": "write", "name": "write", "type": "update_record", "assignedTo": "WORKFLOW", "config": config })
}

both! {
    async fn the_rest_of_the_audience_is_added(kind) {
        let world = World::without_server(kind, None).await;
        let run = launched(&world, fan("t", write())).await;
        until_any(&world, "run_record").await;
        assert_eq!(count(&world, "run_record").await, 500);
        failed_and_retried(&world, &run, "beside", "AUDIENCE").await;
        world.tick(false).await;
        is_done_once(&world, &run).await;
        world.end().await;
    }
}

both! {
    async fn the_rest_of_a_fan_out_is_created(kind) {
        let world = World::without_server(kind, None).await;
        let run = launched(&world, fan("t", write())).await;
        until_any(&world, "step WHERE key = 'write'").await;
        assert_eq!(count(&world, "step WHERE key = 'write'").await, 500);
        failed_and_retried(&world, &run, "beside", "FAN_OUT").await;
        world.tick(false).await;
        is_done_once(&world, &run).await;
        world.end().await;
    }
}

both! {
    async fn the_rest_of_a_fan_out_is_created_after_one_of_its_own_steps_failed(kind) {
        let world = World::without_server(kind, None).await;
        let run = launched(&world, fan("t", human("look"))).await;
        until_any(&world, "step WHERE key = 'look'").await;
        assert_eq!(count(&world, "step WHERE key = 'look'").await, 500);
        failed_and_retried(&world, &run, "look", "FAN_OUT").await;
        world.tick(false).await;
        let open = "step WHERE key = 'look' AND status IN ('PENDING', 'QUEUED')";
        assert_eq!((count(&world, open).await, count(&world, "step WHERE key = 'look'").await), (503, 503));
        assert_eq!(count(&world, "task WHERE key = 't' AND status = 'FAILED'").await, 0);
        assert_eq!(count(&world, "task WHERE fan_out_done AND NOT retrying").await, 2);
        assert_eq!(count(&world, "sweep").await, 0);
        world.end().await;
    }
}

both! {
    async fn the_rest_of_a_retry_is_done_when_the_run_is_retried_again(kind) {
        let world = World::without_server(kind, None).await;
        let mut failing = write();
        failing["config"] = json!({ "stage": "{{ record.nobody }}" });
        failing["maxAttempts"] = json!(1);
        let mut lenient = fan("t", failing);
        lenient["failWhen"] = json!("PERCENT(100)");
        let run = launched(&world, lenient).await;
        let end = async |tried: i64| {
            world.tick(false).await;
            world.perform(&UpdateRecord).await;
            let failed = format!("step WHERE key = 'write' AND status = 'FAILED' AND attempt_count = {tried}");
            assert_eq!(count(&world, &failed).await, RECORDS as i64);
        };
        end(1).await;
        act(&world, &run, "beside", ["startStep", "failStep"]).await;
        world.until_run(&run, "FAILED").await;
        world.act("retryRun", "run", json!({ "id": run })).await;
        // The single step is enqueued first, and fails again between the chunks of the others.
        until_any(&world, "step WHERE key = 'write' AND status = 'QUEUED'").await;
        assert_eq!(count(&world, "step WHERE key = 'write' AND status = 'QUEUED'").await, 500);
        failed_and_retried(&world, &run, "beside", "RETRY").await;
        end(2).await;
        assert_eq!(count(&world, "task WHERE retrying").await, 0);
        act(&world, &run, "beside", ["startStep", "completeStep"]).await;
        world.tick(false).await;
        world.until_run(&run, "COMPLETED").await;
        assert_eq!(count(&world, "run_record WHERE outcome = 'FAILED'").await, RECORDS as i64);
        world.end().await;
    }
}

both! {
    async fn the_rest_of_an_approval_is_released(kind) {
        let world = World::without_server(kind, None).await;
        let run = outreach(&world).await;
        world.tick(true).await;
        let review = world.until_review(&run).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        world.tick_once().await;
        assert_eq!(count(&world, "communication WHERE status = 'DRAFT'").await, 3);
        failed_and_retried(&world, &run, "beside", "APPROVE").await;
        world.tick(false).await;
        assert_eq!(count(&world, "communication WHERE status = 'APPROVED'").await, 503);
        is_sent_once(&world, &run).await;
        world.end().await;
    }
}

both! {
    async fn the_rest_of_a_rejection_is_drafted_again(kind) {
        let world = World::without_server(kind, None).await;
        let run = outreach(&world).await;
        world.tick(true).await;
        let review = world.until_review(&run).await;
        world.step_act("rejectStep", &review, json!({ "reason": "too long" })).await;
        world.tick_once().await;
        let again = "step WHERE key = 'draft' AND status = 'QUEUED'";
        assert_eq!(count(&world, again).await, 500);
        failed_and_retried(&world, &run, "beside", "REDRAFT").await;
        world.tick(false).await;
        assert_eq!(count(&world, again).await, 503);
        world.tick(true).await;
        let review = world.until_review(&run).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        is_sent_once(&world, &run).await;
        world.end().await;
    }
}

both! {
    async fn a_run_that_was_repeated_before_its_retry_writes_to_nobody_twice(kind) {
        let world = World::without_server(kind, None).await;
        let run = outreach(&world).await;
        until_any(&world, "run_record").await;
        act(&world, &run, "beside", ["startStep", "failStep"]).await;
        world.until_run(&run, "FAILED").await;
        // The repeat reaches also those who had not been added.
        let again = repeat(&world, &run).await;
        world.tick(true).await;
        let review = world.until_review(&again).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        is_sent_once(&world, &again).await;
        world.act("retryRun", "run", json!({ "id": run })).await;
        world.tick(true).await;
        act(&world, &run, "beside", ["startStep", "completeStep"]).await;
        world.tick(true).await;
        world.until_run(&run, "COMPLETED").await;
        has_each_one(&world);
        let skipped = "run_record WHERE outcome = 'SKIPPED' AND reason LIKE 'OTHER: %'";
        assert_eq!((count(&world, skipped).await, count(&world, "run_record").await), (500, 1_003));
        world.end().await;
    }
}

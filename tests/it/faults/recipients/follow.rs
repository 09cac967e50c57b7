//! Steps of a fan-out that waited for a single step: they are done once it completes after all.

use entity::sweep;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use super::person;
use crate::harness::World;

fn human(key: &str, trigger: &str) -> Value {
    json!({ "key": key, "name": key, "type": key, "assignedTo": "HUMAN", "trigger": trigger, "maxAttempts": 1 })
}

/// A single step, and a fan-out whose first step follows it, over so many records. Returns the run.
async fn preparing(world: &World, records: usize) -> String {
    for i in 0..records {
        person(world, &format!("p{i}"), &format!("p{i}@example.com")).await;
    }
    let mut told = human("tell", "after:prepare");
    told["when"] = json!("record.name != 'p0'");
    flown(world, &["prepare", "other"], json!([told, human("then", "after:tell")])).await
}

/// A run with these single steps, and a fan-out of the others. Returns the run.
async fn flown(world: &World, singles: &[&str], others: Value) -> String {
    let singles: Vec<Value> = singles.iter().map(|key| human(key, "immediate")).collect();
    let tasks = json!([
        { "key": "p", "name": "p", "failWhen": "PERCENT(100)", "steps": singles },
        { "key": "t", "name": "t", "fanOut": true, "dependsOn": ["p"], "failWhen": "PERCENT(100)", "steps": others },
        // It keeps the phase open.
        { "key": "hold", "name": "hold", "steps": [human("hold", "immediate")] },
    ]);
    let phases = json!([{ "key": "one", "name": "One", "tasks": tasks }]);
    world.apply(&json!({ "runTemplates": [{ "key": "dun", "name": "dun", "phases": phases }] }).to_string()).await;
    let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
    let run = world.fly("dun", json!({ "segmentId": segment, "channel": "EMAIL" })).await;
    world.tick(false).await;
    run
}

/// Keys, statuses and reasons of the fan-out's steps, with their numbers.
async fn counts(world: &World) -> Vec<String> {
    let sql = "SELECT key, status, COALESCE(reason, '-'), CAST(COUNT(*) AS TEXT) FROM step \
               WHERE key IN ('tell', 'then', 'ask') GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";
    world.sql(sql).await.into_iter().map(|row| row.join(" ")).collect()
}

/// The step with a key, of the record with the last name if there are several.
async fn step(world: &World, key: &str) -> String {
    let query =
        "query($types: [String!]) { steps(first: 500, filter: { types: $types }) { nodes { id record { name } } } }";
    let all = world.ask(query, json!({ "types": [key] })).await["steps"]["nodes"].clone();
    let last = all.as_array().unwrap().iter().max_by_key(|step| step["record"]["name"].as_str().unwrap_or_default());
    last.unwrap()["id"].as_str().unwrap().to_owned()
}

async fn end(world: &World, key: &str, verbs: [&str; 2]) {
    act(world, key, verbs).await;
    world.tick(false).await;
}

/// Acts on a step, with nothing advanced beyond the actions' own transactions.
async fn act(world: &World, key: &str, verbs: [&str; 2]) {
    let id = step(world, key).await;
    for verb in verbs {
        world.step_act(verb, &id, json!({ "reason": "said so" })).await;
    }
}

/// Applies chunks of the sweep over the followers of a single step, at most so many.
async fn follow(world: &World, key: &str, chunks: usize) {
    for _ in 0..chunks {
        let of_key = sweep::Entity::find().filter(sweep::Column::Reason.eq(key));
        let Some(open) = of_key.one(world.db.read()).await.unwrap() else { return };
        sortie::domain::run::sweep::chunk(&world.db.write(), &open).await.unwrap();
    }
}

both! {
    async fn they_are_done_once_the_single_step_completes_after_a_retry(kind) {
        for records in [3, 501] {
            let world = World::without_server(kind, None).await;
            let run = preparing(&world, records).await;
            end(&world, "other", ["startStep", "completeStep"]).await;
            end(&world, "prepare", ["startStep", "failStep"]).await;
            let left = records - 1;
            let skipped = [
                "tell SKIPPED CONDITION_FALSE 1".to_owned(), format!("tell SKIPPED WAITED_FOR_FAILED {left}"),
                format!("then SKIPPED WAITED_FOR_SKIPPED {records}"),
            ];
            assert_eq!(counts(&world).await, skipped);
            let refused = world.step_refused("retryStep", &step(&world, "prepare").await, json!({})).await;
            assert_eq!(refused["message"], "a task that waited for this one has begun");
            end(&world, "hold", ["startStep", "failStep"]).await;
            world.until_run(&run, "FAILED").await;
            world.act("retryRun", "run", json!({ "id": run })).await;
            world.tick(false).await;
            assert_eq!(counts(&world).await, skipped, "it has not ended yet");
            end(&world, "prepare", ["startStep", "completeStep"]).await;
            assert_eq!(counts(&world).await, [
                format!("tell QUEUED - {left}"), "tell SKIPPED CONDITION_FALSE 1".to_owned(),
                format!("then PENDING - {left}"), "then SKIPPED WAITED_FOR_SKIPPED 1".to_owned(),
            ]);
            assert_eq!(world.sql("SELECT status FROM task WHERE key = 't'").await, [["IN_PROGRESS"]]);
            world.end().await;
        }
    }
}

both! {
    async fn one_of_them_that_is_restarted_is_done_if_the_single_step_has_completed(kind) {
        let world = World::without_server(kind, None).await;
        preparing(&world, 2).await;
        for key in ["other", "prepare"] {
            end(&world, key, ["startStep", "completeStep"]).await;
        }
        let tell = step(&world, "tell").await;
        for (verb, status) in [("skipStep", "SKIPPED"), ("restartStep", "QUEUED")] {
            let step = world.step_act(verb, &tell, json!({})).await;
            assert_eq!(step["status"], status, "{step}");
        }
        assert_eq!(counts(&world).await, [
            "tell QUEUED - 1", "tell SKIPPED CONDITION_FALSE 1", "then PENDING - 1", "then SKIPPED WAITED_FOR_SKIPPED 1",
        ]);
        world.end().await;
    }
}

both! {
    async fn a_task_stays_open_until_both_its_sweeps_are_done(kind) {
        let world = World::without_server(kind, None).await;
        for i in 0..2 {
            person(&world, &format!("p{i}"), &format!("p{i}@example.com")).await;
        }
        let run = flown(&world, &["prepare", "also", "other"], json!([human("tell", "after:prepare"), human("ask", "after:also")])).await;
        end(&world, "other", ["startStep", "completeStep"]).await;
        for key in ["prepare", "also", "hold"] {
            end(&world, key, ["startStep", "failStep"]).await;
        }
        world.until_run(&run, "FAILED").await;
        assert_eq!(counts(&world).await, ["ask SKIPPED WAITED_FOR_FAILED 2", "tell SKIPPED WAITED_FOR_FAILED 2"]);
        world.act("retryRun", "run", json!({ "id": run })).await;
        world.tick(false).await;
        for key in ["prepare", "also"] {
            act(&world, key, ["startStep", "completeStep"]).await;
        }
        assert_eq!(world.number("SELECT COUNT(*) FROM sweep WHERE kind = 'FOLLOW'").await, 2);
        follow(&world, "prepare", 9).await;
        assert_eq!(counts(&world).await, ["ask SKIPPED WAITED_FOR_FAILED 2", "tell QUEUED - 2"]);
        // Nothing else of the task is open: it waits only for the other sweep.
        let query = "{ steps(first: 10, filter: { types: [\"tell\"] }) { nodes { id } } }";
        for node in world.ask(query, json!({})).await["steps"]["nodes"].as_array().unwrap() {
            world.step_act("skipStep", node["id"].as_str().unwrap(), json!({})).await;
        }
        assert_eq!(world.sql("SELECT status FROM task WHERE key = 't'").await, [["IN_PROGRESS"]]);
        assert_eq!(world.number("SELECT COUNT(*) FROM task WHERE key = 't' AND fan_out_done").await, 0);
        follow(&world, "also", 9).await;
        assert_eq!(counts(&world).await[0], "ask QUEUED - 2");
        assert_eq!(world.number("SELECT COUNT(*) FROM task WHERE key = 't' AND fan_out_done").await, 1);
        assert_eq!(world.number("SELECT COUNT(*) FROM sweep WHERE kind = 'FOLLOW'").await, 0);
        world.end().await;
    }
}

both! {
    async fn a_run_that_fails_between_two_chunks_goes_on_with_the_rest_when_it_is_retried(kind) {
        let world = World::without_server(kind, None).await;
        let run = preparing(&world, 503).await;
        end(&world, "other", ["startStep", "completeStep"]).await;
        for key in ["prepare", "hold"] {
            end(&world, key, ["startStep", "failStep"]).await;
        }
        world.until_run(&run, "FAILED").await;
        world.act("retryRun", "run", json!({ "id": run })).await;
        world.tick(false).await;
        act(&world, "prepare", ["startStep", "completeStep"]).await;
        follow(&world, "prepare", 1).await;
        assert_eq!(counts(&world).await[..3], ["tell QUEUED - 500", "tell SKIPPED CONDITION_FALSE 1", "tell SKIPPED WAITED_FOR_FAILED 2"]);
        // The run fails, and keeps its sweep.
        end(&world, "hold", ["startStep", "failStep"]).await;
        world.until_run(&run, "FAILED").await;
        assert_eq!(world.sql("SELECT kind FROM sweep").await, [["FOLLOW"]]);
        assert_eq!(counts(&world).await[2], "tell SKIPPED WAITED_FOR_FAILED 2");
        world.act("retryRun", "run", json!({ "id": run })).await;
        world.tick(false).await;
        assert_eq!(counts(&world).await, [
            "tell QUEUED - 502", "tell SKIPPED CONDITION_FALSE 1", "then PENDING - 502", "then SKIPPED WAITED_FOR_SKIPPED 1",
        ]);
        assert_eq!(world.sql("SELECT status FROM task WHERE key = 't'").await, [["IN_PROGRESS"]]);
        world.end().await;
    }
}

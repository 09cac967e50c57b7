//! Steps after one that is done again wait for it: a delay counts from its new end.

use chrono::Duration;
use serde_json::{Value, json};

use super::person;
use crate::harness::{World, noon};

fn human(key: &str, trigger: &str) -> Value {
    json!({ "key": key, "name": key, "type": "custom", "assignedTo": "HUMAN", "trigger": trigger, "maxAttempts": 1 })
}

/// A run over one record, or about the run as a whole: a first step, a reminder two days after it,
/// a second one a day later. Returns the ids of the three.
async fn reminding(world: &World, fan_out: bool, condition: Option<&str>) -> [String; 3] {
    let mut steps =
        json!([human("first", "immediate"), human("remind", "delay:2 days"), human("again", "delay:1 day")]);
    if let Some(condition) = condition {
        steps[1]["when"] = json!(condition);
    }
    let tasks = json!([
        { "key": "t", "name": "t", "fanOut": fan_out, "failWhen": "PERCENT(100)", "steps": steps },
        // It keeps the phase open.
        { "key": "hold", "name": "hold", "steps": [human("hold", "immediate")] },
    ]);
    let phases = json!([{ "key": "one", "name": "One", "tasks": tasks }]);
    world.apply(&json!({ "runTemplates": [{ "key": "dun", "name": "dun", "phases": phases }] }).to_string()).await;
    let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
    world.fly("dun", json!({ "segmentId": segment, "channel": "EMAIL" })).await;
    world.tick(false).await;
    let all = world.ask("{ steps(first: 50) { nodes { id key } } }", json!({})).await["steps"]["nodes"].clone();
    ["first", "remind", "again"].map(|key| {
        let step = all.as_array().unwrap().iter().find(|step| step["key"] == key);
        step.unwrap()["id"].as_str().unwrap().to_owned()
    })
}

async fn states(world: &World) -> Vec<String> {
    let sql = "SELECT key, status, COALESCE(reason, '-') FROM step WHERE key <> 'hold' ORDER BY sequence";
    world.sql(sql).await.into_iter().map(|row| row.join(" ")).collect()
}

async fn done(world: &World, step: &str) {
    for verb in ["startStep", "completeStep"] {
        world.step_act(verb, step, json!({})).await;
    }
}

both! {
    async fn a_delay_counts_from_the_new_end_of_a_step_that_is_done_again(kind) {
        for (fan_out, ends, again) in [
            (true, vec!["skipStep"], "restartStep"), (true, vec!["startStep", "failStep"], "retryStep"), (true, vec!["startStep", "completeStep"], "resetStep"),
            (false, vec!["skipStep"], "restartStep"), (false, vec!["startStep", "failStep"], "retryStep"), (false, vec!["startStep", "completeStep"], "resetStep"),
        ] {
            let world = World::without_server(kind, None).await;
            person(&world, "ann", "ann@example.com").await;
            let [first, remind, _] = reminding(&world, fan_out, None).await;
            for verb in ends {
                world.step_act(verb, &first, json!({ "reason": "not now" })).await;
            }
            assert_eq!(states(&world).await[1..], ["remind QUEUED -", "again PENDING -"], "{fan_out} {again}");
            world.step_act(again, &first, json!({})).await;
            assert_eq!(states(&world).await[1..], ["remind PENDING -", "again PENDING -"], "{fan_out} {again}");
            world.clock.set(noon() + Duration::days(5));
            world.tick(false).await;
            let refused = world.step_refused("startStep", &remind, json!({})).await;
            assert!(refused["message"].as_str().unwrap().contains("its trigger has not fired"), "{refused}");
            done(&world, &first).await;
            assert_eq!(states(&world).await, ["first COMPLETED -", "remind QUEUED -", "again PENDING -"], "{fan_out} {again}");
            let refused = world.step_refused("startStep", &remind, json!({})).await;
            assert!(refused["message"].as_str().unwrap().contains("before 2026-11-09T12:00:00"), "{refused}");
            world.clock.set(noon() + Duration::days(7));
            done(&world, &remind).await;
            assert_eq!(states(&world).await, ["first COMPLETED -", "remind COMPLETED -", "again QUEUED -"], "{fan_out} {again}");
            let refused = world.step_refused("resetStep", &first, json!({})).await;
            assert!(refused["message"].as_str().unwrap().contains("no longer PENDING"), "{refused}");
            world.end().await;
        }
    }
}

both! {
    async fn a_condition_is_judged_at_each_end_of_the_step_before(kind) {
        for fan_out in [true, false] {
            let world = World::without_server(kind, None).await;
            person(&world, "ann", "ann@example.com").await;
            let [first, remind, again] = reminding(&world, fan_out, Some("results.first.open == true")).await;
            assert_eq!(states(&world).await[1..], ["remind PENDING -", "again PENDING -"], "{fan_out}");
            world.step_act("skipStep", &first, json!({ "reason": "not now" })).await;
            assert_eq!(states(&world).await[1..], ["remind SKIPPED CONDITION_UNREADABLE", "again QUEUED -"], "{fan_out}");
            world.step_act("restartStep", &first, json!({})).await;
            assert_eq!(states(&world).await[1..], ["remind PENDING -", "again PENDING -"], "{fan_out}");
            world.step_act("startStep", &first, json!({})).await;
            world.step_act("completeStep", &first, json!({ "result": { "open": true } })).await;
            assert_eq!(states(&world).await[1..], ["remind QUEUED -", "again PENDING -"], "{fan_out}");
            // A reminder that was performed stays so.
            world.clock.set(noon() + Duration::days(3));
            done(&world, &remind).await;
            world.step_act("skipStep", &again, json!({})).await;
            world.step_act("restartStep", &again, json!({})).await;
            assert_eq!(states(&world).await[1..], ["remind COMPLETED -", "again QUEUED -"], "{fan_out}");
            world.end().await;
        }
    }
}

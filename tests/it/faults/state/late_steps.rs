//! Steps that end after another has failed their run: their tasks follow them.

use serde_json::{Value, json};

use crate::harness::World;

both! {
    async fn a_task_follows_its_steps_though_its_run_has_failed(kind) {
        for (fan_out, last_is_done) in [(true, true), (true, false), (false, true), (false, false)] {
            let world = World::without_server(kind, None).await;
            world.create("record", json!({ "kind": "lead", "name": "ann", "email": "ann@example.com" })).await;
            world.create("agent", json!({ "name": "ag", "kind": "OUTSIDE" })).await;
            let step = |key: &str| json!({ "key": key, "name": key, "type": "custom", "assignedTo": "AGENT", "maxAttempts": 1 });
            let task = |key: &str, of: &str| json!({ "key": key, "name": key, "fanOut": fan_out, "steps": [step(of)] });
            let behind = json!({ "key": "t3", "name": "t3", "dependsOn": ["t2"], "steps": [{ "key": "c", "name": "c", "type": "custom", "assignedTo": "HUMAN" }] });
            let phases = json!([{ "key": "p", "name": "P", "tasks": [task("t1", "a"), task("t2", "b"), behind] }]);
            world.apply(&json!({ "runTemplates": [{ "key": "two", "name": "two", "phases": phases }] }).to_string()).await;
            let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
            let run = world.fly("two", json!({ "segmentId": segment })).await;
            world.tick(true).await;
            let claim = "mutation($run: ID!) { claimSteps(input: { agent: \"ag\", worker: \"w\", limit: 10, leaseSeconds: 60, runIds: [$run] }) { steps { id token key } } }";
            let held = world.ask(claim, json!({ "run": run })).await["claimSteps"]["steps"].clone();
            let settle = async |key: &str, mut end: Value| {
                let step = held.as_array().unwrap().iter().find(|step| step["key"] == key).unwrap();
                (end["id"], end["token"]) = (step["id"].clone(), step["token"].clone());
                let settle = "mutation($steps: [SettleStepInput!]!) { settleSteps(input: { agent: \"ag\", steps: $steps }) { steps { status code } } }";
                world.ask(settle, json!({ "steps": [end] })).await["settleSteps"]["steps"][0]["status"].clone()
            };
            settle("a", json!({ "error": "bad", "retryable": false })).await;
            world.until_run(&run, "FAILED").await;
            settle("b", if last_is_done { json!({ "result": { "x": 1 } }) } else { json!({ "error": "bad", "retryable": false }) }).await;
            let tasks = "query($id: ID!) { run(id: $id) { status phases { status tasks { status } } } }";
            let now = world.ask(tasks, json!({ "id": run })).await["run"].clone();
            let (second, third) = if last_is_done { ("COMPLETED", "PENDING") } else { ("FAILED", "BLOCKED") };
            let expected = json!({ "status": "FAILED", "phases": [{ "status": "FAILED", "tasks": [{ "status": "FAILED" }, { "status": second }, { "status": third }] }] });
            assert_eq!(now, expected);
            // A retry goes on with what failed.
            world.act("retryRun", "run", json!({ "id": run })).await;
            world.tick(true).await;
            let again = world.ask(claim, json!({ "run": run })).await["claimSteps"]["steps"].clone();
            assert_eq!(again.as_array().unwrap().len(), if last_is_done { 1 } else { 2 });
            world.end().await;
        }
    }
}

//! Steps of guided work that agents do: they begin with the run, and a person completes it after
//! them.

use serde_json::{Value, json};

use crate::harness::World;

const START: &str = "mutation($steps: [GuidedStepInput!]!, $mia: ID) { startGuidedRun(input: { name: \"Week\", steps: $steps, assigneeId: $mia }) { run { id } } }";
const SETTLE: &str =
    "mutation($steps: [SettleStepInput!]!) { settleSteps(input: { steps: $steps }) { steps { status code } } }";
const STEP: &str = "query($id: ID!) { step(id: $id) { status result records { totalCount } suggestions { title }
    availableActions { action allowed blockedBecause } } }";

fn of_agent(key: &str, more: Value) -> Value {
    let mut step =
        json!({ "key": key, "name": key, "type": "custom", "assignedTo": "AGENT", "config": { "ask": "a summary" } });
    step.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    json!({ "definition": step })
}

fn of_person(key: &str) -> Value {
    json!({ "definition": { "key": key, "name": key, "type": "note", "assignedTo": "HUMAN" } })
}

/// Names of the actions that are allowed.
async fn allowed(world: &World, step: &str) -> Vec<String> {
    let all = world.ask(STEP, json!({ "id": step })).await["step"]["availableActions"].clone();
    let allowed = all.as_array().unwrap().iter().filter(|one| one["allowed"] == true);
    allowed.map(|one| one["action"].as_str().unwrap().to_owned()).collect()
}

both! {
    async fn an_agent_does_a_step_of_guided_work(kind) {
        let world = World::with_auth(kind).await;
        world.create("agent", json!({ "name": "reader", "filter": "step.type == 'custom'" })).await;
        let key = world.agent_key("reader").await;
        let approval = json!({ "needed": 1 });
        let steps = json!([of_agent("read", json!({})), of_agent("check", json!({ "approval": approval })), of_agent("fails", json!({ "maxAttempts": 1 })), of_person("write")]);
        // The run's member does the steps of people alone.
        let mia = world.viewer.member_id().unwrap().to_string();
        let run = world.ask(START, json!({ "steps": steps, "mia": mia })).await["startGuidedRun"]["run"]["id"].as_str().unwrap().to_owned();
        world.until_step(&run, "read", "QUEUED").await;
        let read = world.guided_step(&run, "read").await;
        // A person can leave it out, but neither begin nor complete it, nor act within it.
        assert_eq!(allowed(&world, &read).await, ["SKIP"]);
        let refused = world.step_refused("startStep", &read, json!({})).await;
        assert_eq!(refused["message"], "this step is done by a worker, not by a person");
        let note = "mutation($id: ID!) { addStepNote(input: { stepId: $id, text: \"x\" }) { __typename } }";
        let (code, told) = world.refused(note, json!({ "id": read })).await;
        assert!(code == "CONFLICT" && told.contains("worker"), "{code} {told}");
        let shown = world.ask(STEP, json!({ "id": read })).await["step"].clone();
        assert_eq!((&shown["records"], &shown["suggestions"]), (&Value::Null, &json!([])));
        let (code, told) = world.refused("mutation($id: ID!) { completeRun(input: { id: $id }) { run { id } } }", json!({ "id": run })).await;
        assert!(code == "CONFLICT" && told.contains("read (QUEUED)"), "{told}");
        // Its settings are the agent's.
        let mine = world.claim(&key, 10).await;
        assert_eq!(mine.len(), 3, "{mine:#?}");
        for step in &mine {
            let name = step["type"].as_str().unwrap();
            assert_eq!((name, &step["config"]), ("custom", &json!({ "ask": "a summary" })));
        }
        let mut by_key = std::collections::BTreeMap::new();
        for name in ["read", "check", "fails"] {
            let id = world.guided_step(&run, name).await;
            by_key.insert(name, mine.iter().find(|step| step["id"] == id.as_str()).unwrap().clone());
        }
        let end = |name: &str, more: Value| {
            let mut end = json!({ "id": by_key[name]["id"], "token": by_key[name]["token"] });
            end.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
            end
        };
        let ends = json!([
            end("read", json!({ "result": { "text": "three are late" } })),
            end("check", json!({ "result": { "ok": true } })),
            end("fails", json!({ "error": "no model", "retryable": false })),
        ]);
        let settled = world.post_as(&key, SETTLE, json!({ "steps": ends })).await.1["data"]["settleSteps"]["steps"].clone();
        let statuses: Vec<&str> = settled.as_array().unwrap().iter().map(|one| one["status"].as_str().unwrap()).collect();
        assert_eq!(statuses, ["COMPLETED", "AWAITING_APPROVAL", "FAILED"], "{settled:#}");
        assert_eq!(world.ask(STEP, json!({ "id": read })).await["step"]["result"], json!({ "text": "three are late" }));
        // People approve its work, try it again or leave it out.
        let check = world.guided_step(&run, "check").await;
        world.act("approveStep", "step", json!({ "id": check })).await;
        let fails = world.guided_step(&run, "fails").await;
        assert_eq!(world.guided_run(&run).await["status"], "IN_PROGRESS", "a failed step ends no guided work");
        assert_eq!(allowed(&world, &fails).await, ["RETRY"]);
        let write = world.guided_step(&run, "write").await;
        world.step_act("startStep", &write, json!({})).await;
        world.step_act("completeStep", &write, json!({})).await;
        let (code, told) = world.refused("mutation($id: ID!) { completeRun(input: { id: $id }) { run { id } } }", json!({ "id": run })).await;
        assert!(code == "CONFLICT" && told.contains("1 of its steps have failed: retry them"), "{told}");
        let waits = world.ask("query($id: ID!) { run(id: $id) { waitingFor { code steps } } }", json!({ "id": run })).await;
        assert_eq!(waits["run"]["waitingFor"], json!([{ "code": "FAILED_STEPS", "steps": 1 }]));
        world.step_act("retryStep", &fails, json!({})).await;
        assert_eq!(world.claim(&key, 10).await.len(), 1);
        // Its worker is lost: when the lease has expired, the step is queued again.
        world.clock.set(crate::harness::noon() + chrono::Duration::hours(1));
        world.until_step(&run, "fails", "QUEUED").await;
        world.step_act("skipStep", &fails, json!({ "reason": "not needed" })).await;
        let done = world.complete_run(&run, "read").await;
        assert_eq!(done["data"]["completeRun"]["run"]["status"], "COMPLETED", "{done:#}");
        world.end().await;
    }
}

both! {
    async fn templates_say_what_agents_may_do(kind) {
        let world = World::without_server(kind, None).await;
        for (more, field, why) in [
            (json!({ "type": "email" }), "assignedTo", "agents do steps of the type custom"),
            (json!({ "trigger": "manual" }), "trigger", "must be `immediate`"),
            (json!({ "when": "true" }), "when", "not allowed in guided work"),
            (json!({ "assignedTo": "WORKFLOW" }), "assignedTo", "must be HUMAN or AGENT"),
            (json!({ "type": "dance" }), "type", "must be one of"),
        ] {
            let (code, told) = world.refused(START, json!({ "steps": [of_agent("read", more.clone())] })).await;
            assert!(code == "BAD_USER_INPUT" && told.contains(field) && told.contains(why), "{more}: {told}");
        }
        // Without an agent that can do it no run begins; later it waits, and a person leaves it out.
        let (code, told) = world.refused(START, json!({ "steps": [of_agent("read", json!({}))] })).await;
        assert!(code == "BAD_USER_INPUT" && told.contains("the org has no agent"), "{told}");
        world.create("agent", json!({ "name": "reader" })).await;
        let run = world.ask(START, json!({ "steps": [of_agent("read", json!({}))] })).await["startGuidedRun"]["run"]["id"].as_str().unwrap().to_owned();
        world.tick(false).await;
        let read = world.guided_step(&run, "read").await;
        world.step_act("skipStep", &read, json!({})).await;
        assert_eq!(world.complete_run(&run, "").await["data"]["completeRun"]["run"]["status"], "COMPLETED");
        world.end().await;
    }
}

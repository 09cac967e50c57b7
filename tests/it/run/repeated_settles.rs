//! A worker whose response was lost repeats its request, and gets the answer that was lost.

use chrono::Duration;
use serde_json::{Value, json};

use crate::harness::{World, noon};

const SETTLE: &str = "mutation($steps: [SettleStepInput!]!, $key: String) { settleSteps(input: { steps: $steps, idempotencyKey: $key }) { steps { id status code message } } }";
const RENEW: &str = "mutation($steps: [HeldStepInput!]!) { renewSteps(input: { steps: $steps, leaseSeconds: 60 }) { steps { id lost leaseExpiresAt } } }";
const CLAIM: &str = "mutation { claimSteps(input: { agent: \"looker\", worker: \"w\", limit: 10, leaseSeconds: 60 }) { steps { id token } } }";

/// A run with one step for an agent per lead; returns the claimed steps.
async fn claimed(world: &World, leads: usize) -> Vec<Value> {
    let schema = json!({ "type": "object", "required": ["seen"] });
    let look = json!({ "key": "look", "type": "look", "assignedTo": "AGENT", "resultSchema": schema });
    let phase = json!({ "key": "all", "autonomous": true, "tasks": [{ "key": "t", "fanOut": true, "steps": [look] }] });
    let manifest = json!({
        "agents": [{ "name": "looker", "filter": "step.type == 'look'" }],
        "runTemplates": [{ "key": "looks", "name": "Looks", "phases": [phase] }],
    });
    world.apply(&manifest.to_string()).await;
    world.leads(leads).await;
    let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
    let run = world.fly("looks", json!({ "segmentId": segment })).await;
    let count = "query($run: ID!) { steps(filter: { runIds: [$run], statuses: [QUEUED] }) { totalCount } }";
    world.until("all steps", count, json!({ "run": run }), |data| data["steps"]["totalCount"] == json!(leads)).await;
    let steps = world.ask(CLAIM, json!({})).await["claimSteps"]["steps"].clone();
    assert_eq!(steps.as_array().unwrap().len(), leads);
    steps.as_array().unwrap().clone()
}

fn end(step: &Value, result: Value) -> Value {
    json!({ "id": step["id"], "token": step["token"], "result": result })
}

both! {
    async fn a_repeated_settle_refuses_what_the_first_one_refused(kind) {
        let world = World::new(kind).await;
        let held = claimed(&world, 3).await;
        // The first step is settled, the result of the second does not fit, the third is not held.
        let mut third = end(&held[2], json!({ "seen": true }));
        third["token"] = json!("guessed");
        let ends = json!([end(&held[0], json!({ "seen": true })), end(&held[1], json!({ "seem": true })), third]);
        let asked = json!({ "steps": ends, "key": "k" });
        let first = world.ask(SETTLE, asked.clone()).await["settleSteps"]["steps"].clone();
        let told: Vec<(&Value, &Value)> = first.as_array().unwrap().iter().map(|one| (&one["status"], &one["code"])).collect();
        assert_eq!(told, [(&json!("COMPLETED"), &Value::Null), (&Value::Null, &json!("BAD_USER_INPUT")), (&Value::Null, &json!("CONFLICT"))]);
        assert_eq!(world.ask(SETTLE, asked.clone()).await["settleSteps"]["steps"], first);
        // Also after the second was settled under another key, and no lease is left.
        let other = json!({ "steps": [end(&held[1], json!({ "seen": true }))], "key": "l" });
        assert_eq!(world.ask(SETTLE, other.clone()).await["settleSteps"]["steps"][0]["status"], "COMPLETED");
        assert_eq!(world.ask(SETTLE, other).await["settleSteps"]["steps"][0]["status"], "COMPLETED");
        world.clock.set(noon() + Duration::seconds(61));
        assert_eq!(world.ask(SETTLE, asked).await["settleSteps"]["steps"], first);
        world.end().await;
    }
}

both! {
    async fn a_credential_without_an_agent_gets_its_answer_again(kind) {
        let world = World::new(kind).await;
        let held = claimed(&world, 2).await;
        let ends: Vec<Value> = held.iter().map(|step| end(step, json!({ "seen": true }))).collect();
        let first = world.ask(SETTLE, json!({ "steps": ends, "key": "k" })).await["settleSteps"]["steps"].clone();
        assert!(first.as_array().unwrap().iter().all(|one| one["status"] == "COMPLETED"), "{first:#}");
        // No agent holds them any more, which the key does not depend on.
        assert_eq!(world.ask(SETTLE, json!({ "steps": ends, "key": "k" })).await["settleSteps"]["steps"], first);
        // Without a key each step is refused by itself; so are leases to renew.
        let mut unknown = ends[0].clone();
        unknown["id"] = json!("step_01h455vb4pex5vsknk084sn02q");
        let late = json!([ends[0], ends[1], unknown]);
        let late = world.ask(SETTLE, json!({ "steps": late })).await["settleSteps"]["steps"].clone();
        let codes: Vec<&Value> = late.as_array().unwrap().iter().map(|one| &one["code"]).collect();
        assert_eq!(codes, ["CONFLICT", "CONFLICT", "NOT_FOUND"]);
        let leases: Vec<Value> = held.iter().map(|step| json!({ "id": step["id"], "token": step["token"] })).collect();
        let renewed = world.ask(RENEW, json!({ "steps": leases })).await["renewSteps"]["steps"].clone();
        let lost = |one: &Value| one["lost"] == true && one["leaseExpiresAt"].is_null();
        assert!(renewed.as_array().unwrap().len() == 2 && renewed.as_array().unwrap().iter().all(lost), "{renewed:#}");
        world.end().await;
    }
}

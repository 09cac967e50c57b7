//! Results of agents and functions that require approval: nothing follows them before people have
//! approved, and a rejected one is done again with the reviewer's reason.

use entity::member::Role;
use serde_json::{Value, json};

use crate::harness::World;
use crate::harness::socket::Socket;

/// A template with one step that requires approval, done by an agent or a function, and one that
/// follows it.
fn work(by: &str, approval: Value) -> String {
    let write = json!({ "key": "write", "type": "research", "assignedTo": by, "approval": approval });
    let config = json!({ "cases": [{ "when": "results.write.text == 'good'", "skip": [] }] });
    let next = json!({ "key": "next", "type": "decision", "assignedTo": "WORKFLOW", "trigger": "after:write", "config": config });
    let declared =
        json!([{ "name": "writer", "filter": "step.type == 'research'", "context": "{ error reasonCode result }" }]);
    let phase =
        json!({ "key": "all", "autonomous": true, "tasks": [{ "key": "t", "name": "T", "steps": [write, next] }] });
    let workers = if by == "AGENT" { "agents" } else { "functions" };
    json!({ workers: declared, "runTemplates": [{ "key": "work", "name": "Work", "phases": [phase] }] }).to_string()
}

const STEPS: &str = "query($run: ID!) { steps(filter: { runIds: [$run] }) { nodes { key status result reasonCode submittedBy { kind name } approvedBy { kind } completedBy { kind } availableActions { action allowed } } } }";
const SETTLE: &str =
    "mutation($steps: [SettleStepInput!]!) { settleSteps(input: { steps: $steps }) { steps { status code } } }";

async fn step(world: &World, run: &str, key: &str) -> Value {
    let all = world.ask(STEPS, json!({ "run": run })).await["steps"]["nodes"].clone();
    all.as_array().unwrap().iter().find(|step| step["key"] == key).unwrap().clone()
}

/// Launches a run of the template about one record; returns its id and the key of the worker.
async fn begun(world: &World, template: &str) -> (String, String) {
    world.apply(template).await;
    let lead = world.leads(1).await.remove(0);
    let run = world.fly("work", json!({ "recordId": lead })).await;
    world.until_step(&run, "write", "QUEUED").await;
    (run, world.agent_key("writer").await)
}

/// Claims the step and settles it with a result; returns the claimed step and its new status.
async fn done(world: &World, key: &str, text: &str) -> (Value, Value) {
    let mine = world.claim(key, 10).await.remove(0);
    let end = json!({ "id": mine["id"], "token": mine["token"], "result": { "text": text } });
    let settled = world.post_as(key, SETTLE, json!({ "steps": [end] })).await.1;
    (mine, settled["data"]["settleSteps"]["steps"][0]["status"].clone())
}

both! {
    async fn nothing_follows_an_agents_step_before_it_is_approved(kind) {
        for by in ["AGENT", "WORKFLOW"] {
            let world = World::with_auth(kind).await;
            let (run, key) = begun(&world, &work(by, json!({ "needed": 2, "selfApproval": false }))).await;
            let (mine, status) = done(&world, &key, "bad").await;
            assert_eq!(status, "AWAITING_APPROVAL", "{by}");
            let write = step(&world, &run, "write").await;
            assert_eq!(write["result"], json!({ "text": "bad" }));
            assert_eq!(write["submittedBy"], json!({ "kind": "AGENT", "name": "writer" }));
            assert_eq!((&write["approvedBy"], &write["completedBy"], &write["reasonCode"]), (&json!([]), &Value::Null, &Value::Null));
            assert_eq!(step(&world, &run, "next").await["status"], "PENDING");
            assert_eq!(world.until_run(&run, "IN_PROGRESS").await["waitingFor"], json!([{ "code": "APPROVAL" }]));
            // The member whose key the worker uses may not approve; nor does the worker itself.
            let approve = "mutation($id: ID!) { approveStep(input: { id: $id }) { step { status } } }";
            let (code, why) = world.refused(approve, json!({ "id": mine["id"] })).await;
            assert!(code == "CONFLICT" && why.contains("the submitter may not approve it"), "{why}");
            let offered = |action: &str| write["availableActions"].as_array().unwrap().contains(&json!({ "action": action, "allowed": true }));
            assert!(!offered("APPROVE") && offered("REJECT"), "{write:#}");
            let by_worker = world.act_as(&key, "approveStep", json!({ "id": mine["id"] })).await.1;
            assert_eq!(by_worker["errors"][0]["extensions"]["code"], "FORBIDDEN", "{by_worker:#}");

            // Rejected: it is announced to its workers, who learn the reason.
            let mut socket = Socket::open_as(world.address, &key).await;
            assert_eq!(socket.message().await["type"], "connection_ack");
            socket.subscribe("work", "subscription { workQueued { key stepId } }", json!({})).await;
            world.followed_by(1).await;
            let (ann, bob) = (world.key(Role::Reviewer).await, world.key(Role::Reviewer).await);
            let rejected = world.act_as(&ann, "rejectStep", json!({ "id": mine["id"], "reason": "too long" })).await.1;
            assert_eq!(rejected["data"]["rejectStep"]["step"]["status"], "QUEUED", "{rejected:#}");
            let told = socket.message().await;
            assert_eq!(told["payload"]["data"]["workQueued"]["stepId"], mine["id"], "{told:#}");
            let (again, status) = done(&world, &key, "good").await;
            let context = json!({ "error": "too long", "reasonCode": "REJECTED", "result": { "text": "bad" } });
            assert_eq!((&again["id"], &again["attempt"], &again["context"]), (&mine["id"], &json!(2), &context), "{again:#}");
            assert_eq!(status, "AWAITING_APPROVAL");

            // Two people approve it, each once.
            let approve = async |key: &str| world.act_as(key, "approveStep", json!({ "id": mine["id"] })).await.1;
            assert_eq!(approve(&ann).await["data"]["approveStep"]["step"]["status"], "AWAITING_APPROVAL");
            assert_eq!(approve(&ann).await["errors"][0]["extensions"]["code"], "CONFLICT");
            assert_eq!(step(&world, &run, "next").await["status"], "PENDING");
            assert_eq!(approve(&bob).await["data"]["approveStep"]["step"]["status"], "COMPLETED");
            world.until_run(&run, "COMPLETED").await;
            let write = step(&world, &run, "write").await;
            assert_eq!((&write["result"], &write["approvedBy"]), (&json!({ "text": "good" }), &json!([{ "kind": "MEMBER" }, { "kind": "MEMBER" }])));
            assert_eq!(step(&world, &run, "next").await["status"], "COMPLETED");
            world.end().await;
        }
    }
}

both! {
    async fn a_result_that_nobody_approved_does_not_count_when_its_step_is_skipped(kind) {
        let world = World::with_auth(kind).await;
        let (run, key) = begun(&world, &work("AGENT", json!({}))).await;
        let (mine, status) = done(&world, &key, "good").await;
        assert_eq!(status, "AWAITING_APPROVAL");
        world.act("skipStep", "step", json!({ "id": mine["id"], "reason": "not needed" })).await;
        world.until_step(&run, "next", "SKIPPED").await;
        let write = step(&world, &run, "write").await;
        assert_eq!((&write["status"], &write["result"]), (&json!("SKIPPED"), &Value::Null));
        world.end().await;
    }
}

both! {
    async fn in_a_cancelled_run_work_that_nobody_can_approve_is_skipped(kind) {
        let world = World::with_auth(kind).await;
        let (run, key) = begun(&world, &work("AGENT", json!({ "needed": 1 }))).await;
        let mine = world.claim(&key, 1).await.remove(0);
        world.act("cancelRun", "run", json!({ "id": run })).await;
        let end = json!({ "id": mine["id"], "token": mine["token"], "result": { "text": "good" } });
        let settled = world.post_as(&key, SETTLE, json!({ "steps": [end] })).await.1;
        assert_eq!(settled["data"]["settleSteps"]["steps"][0]["status"], "SKIPPED", "{settled:#}");
        let write = step(&world, &run, "write").await;
        assert_eq!((&write["reasonCode"], &write["result"]), (&json!("RUN_CANCELLED"), &Value::Null));
        world.until_run(&run, "CANCELLED").await;
        world.until_step(&run, "next", "SKIPPED").await;
        world.end().await;
    }
}

both! {
    async fn a_claim_that_is_given_back_keeps_the_rejection(kind) {
        let world = World::with_auth(kind).await;
        let (run, key) = begun(&world, &work("AGENT", json!({}))).await;
        let (mine, _) = done(&world, &key, "bad").await;
        world.act("rejectStep", "step", json!({ "id": mine["id"], "reason": "too long" })).await;
        let agent = sortie::domain::plan::agent::by_name(world.db.read(), &world.viewer, "writer").await.unwrap();
        let again = world.claim(&key, 1).await.remove(0);
        let (id, token) = (again["id"].as_str().unwrap().parse().unwrap(), again["token"].as_str().unwrap().to_owned());
        let held = sortie::domain::worker::renew::HeldStep { id, token };
        sortie::domain::worker::settle::give_back(&world.db, &agent, vec![held]).await;
        let write = step(&world, &run, "write").await;
        assert_eq!((&write["status"], &write["reasonCode"]), (&json!("QUEUED"), &json!("REJECTED")));
        let (last, status) = done(&world, &key, "good").await;
        assert_eq!((&last["context"]["error"], status), (&json!("too long"), json!("AWAITING_APPROVAL")), "{last:#}");
        world.act("approveStep", "step", json!({ "id": mine["id"] })).await;
        world.until_run(&run, "COMPLETED").await;
        world.end().await;
    }
}

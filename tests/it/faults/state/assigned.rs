//! Steps that a structure assigns by name stay with the agent or member of the launch, whatever their
//! names become, and are anybody's once that one is deleted.

use serde_json::{Value, json};

use crate::harness::{Kind, World};

/// A person's step, and after it work for an agent and for a member on each record.
fn structure() -> Value {
    let step = |key: &str, who: Value| {
        let mut step = json!({ "key": key, "name": key, "type": key });
        step.as_object_mut().unwrap().extend(who.as_object().unwrap().clone());
        step
    };
    let first = json!({ "key": "first", "steps": [step("first", json!({ "assignedTo": "HUMAN" }))] });
    let look = step("look", json!({ "assignedTo": "AGENT", "agent": "bot", "maxAttempts": 1 }));
    let ask = step("ask", json!({ "assignedTo": "HUMAN", "assignee": "mia@example.com" }));
    let each = |key: &str, step: Value| json!({ "key": key, "fanOut": true, "failWhen": "ANY", "steps": [step] });
    let phases = json!([
        { "key": "before", "autonomous": false, "tasks": [first] },
        { "key": "later", "autonomous": false, "tasks": [each("look", look), each("ask", ask)] },
    ]);
    json!({ "agents": [{ "name": "bot" }], "runTemplates": [{ "key": "named", "name": "Named", "phases": phases }] })
}

/// A run in its first phase; and the ids of the agent and the member that its later steps name.
async fn launched(kind: Kind) -> (World, String, String, String) {
    let world = World::without_server(kind, None).await;
    let member = world.create("member", json!({ "name": "Mia", "email": "mia@example.com", "role": "OPERATOR" })).await;
    world.apply(&structure().to_string()).await;
    world.leads(1).await;
    let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
    let run = world.fly("named", json!({ "segmentId": segment })).await;
    world.tick(false).await;
    let agent = world.id_of("agents", "name", "bot").await;
    (world, run, agent, member)
}

async fn go_on(world: &World, run: &str) {
    let query = "query($run: ID!) { steps(first: 1, filter: { runIds: [$run], types: [\"first\"] }) { nodes { id } } }";
    let first = world.ask(query, json!({ "run": run })).await["steps"]["nodes"][0]["id"].as_str().unwrap().to_owned();
    for verb in ["startStep", "completeStep"] {
        world.step_act(verb, &first, json!({})).await;
    }
    world.tick(false).await;
}

async fn claim(world: &World, agent: &str) -> Vec<Value> {
    let query = "mutation($agent: String!) { claimSteps(input: { agent: $agent, worker: \"w\", limit: 10, leaseSeconds: 60 }) { steps { id token } } }";
    world.ask(query, json!({ "agent": agent })).await["claimSteps"]["steps"].as_array().unwrap().clone()
}

/// The name of the assignee of each later step, by key.
async fn assignees(world: &World) -> Vec<[String; 2]> {
    let query = "{ steps(first: 10, filter: { types: [\"look\", \"ask\"] }) { nodes { key assignee { name } } } }";
    let found = world.ask(query, json!({})).await["steps"]["nodes"].clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all: Vec<[String; 2]> =
        found.as_array().unwrap().iter().map(|step| [text(&step["key"]), text(&step["assignee"]["name"])]).collect();
    all.sort();
    all
}

async fn is_sound(world: &World) {
    let found = sortie::app::check::check(&world.db).await.unwrap();
    assert!(found.iter().all(|one| one.wrong == 0), "{found:#?}");
}

const DELETE_AGENT: &str = "mutation($id: ID!) { deleteAgent(input: { id: $id }) { deletedId } }";
const DELETE_MEMBER: &str = "mutation($id: ID!) { deleteMember(input: { id: $id }) { deletedId } }";

both! {
    async fn later_steps_are_assigned_to_those_whom_the_launch_named(kind) {
        let (world, run, agent, member) = launched(kind).await;
        world.ask("mutation($id: ID!) { updateAgent(input: { id: $id, name: \"robot\" }) { agent { id } } }", json!({ "id": agent })).await;
        world.create("agent", json!({ "name": "bot" })).await;
        let change = "mutation($id: ID!) { updateMember(input: { id: $id, email: \"mia@example.org\" }) { member { id } } }";
        world.ask(change, json!({ "id": member })).await;
        go_on(&world, &run).await;
        assert_eq!(assignees(&world).await, [["ask", "Mia"], ["look", "robot"]]);
        assert_eq!((claim(&world, "bot").await.len(), claim(&world, "robot").await.len()), (0, 1));
        world.end().await;
    }
}

both! {
    async fn who_has_open_steps_is_not_deleted(kind) {
        let (world, run, agent, member) = launched(kind).await;
        go_on(&world, &run).await;
        for (query, id, step) in [(DELETE_AGENT, &agent, "look"), (DELETE_MEMBER, &member, "ask")] {
            let told = world.post(query, json!({ "id": id })).await["errors"][0]["extensions"].clone();
            let user = &told["usedBy"][0];
            assert_eq!((&told["code"], &user["noun"], &user["name"]), (&json!("CONFLICT"), &json!("step"), &json!(step)));
        }
        world.act("cancelRun", "run", json!({ "id": run })).await;
        world.tick(false).await;
        for (query, id) in [(DELETE_AGENT, &agent), (DELETE_MEMBER, &member)] {
            world.ask(query, json!({ "id": id })).await;
        }
        is_sound(&world).await;
        world.end().await;
    }
}

both! {
    async fn steps_made_after_a_deletion_are_anybodys(kind) {
        let (world, run, agent, member) = launched(kind).await;
        for (query, id) in [(DELETE_AGENT, &agent), (DELETE_MEMBER, &member)] {
            world.ask(query, json!({ "id": id })).await;
        }
        world.create("agent", json!({ "name": "other" })).await;
        go_on(&world, &run).await;
        assert_eq!(assignees(&world).await, [["ask", ""], ["look", ""]]);
        assert_eq!(claim(&world, "other").await.len(), 1);
        is_sound(&world).await;
        world.end().await;
    }
}

both! {
    async fn a_failed_step_is_anybodys_when_it_is_retried_after_a_deletion(kind) {
        let (world, run, agent, _) = launched(kind).await;
        go_on(&world, &run).await;
        let held = claim(&world, "bot").await[0].clone();
        let settle = "mutation($steps: [SettleStepInput!]!) { settleSteps(input: { steps: $steps }) { steps { status } } }";
        let failed = json!([{ "id": held["id"], "token": held["token"], "error": "no", "retryable": false }]);
        world.ask(settle, json!({ "steps": failed })).await;
        world.until_run(&run, "FAILED").await;
        world.ask(DELETE_AGENT, json!({ "id": agent })).await;
        world.create("agent", json!({ "name": "other" })).await;
        world.act("retryRun", "run", json!({ "id": run })).await;
        world.tick(false).await;
        assert_eq!(claim(&world, "other").await.len(), 1);
        is_sound(&world).await;
        world.end().await;
    }
}

both! {
    async fn the_checker_finds_a_step_of_somebody_who_is_gone(kind) {
        let (world, run, _, _) = launched(kind).await;
        go_on(&world, &run).await;
        is_sound(&world).await;
        world.force("DELETE FROM agent WHERE name = 'bot'").await;
        let found = sortie::app::check::check(&world.db).await.unwrap();
        let wrong: Vec<&str> = found.iter().filter(|one| one.wrong > 0).map(|one| one.what).collect();
        assert_eq!(wrong, ["an open step is assigned to a member or agent that exists, or to nobody"]);
        world.force("UPDATE step SET assignee_id = NULL WHERE key = 'look'").await;
        world.end().await;
    }
}

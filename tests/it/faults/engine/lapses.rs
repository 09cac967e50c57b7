//! Expired leases: the reason fits the holder, which is one of our processes (also as a built-in
//! agent) or an external worker.

use std::time::Duration;

use sea_orm::{EntityTrait, QueryFilter};
use serde_json::{Value, json};
use sortie::domain::worker::claim::{self, ClaimRequest};
use sortie::engine::rescue;

use crate::harness::World;

/// A run with one step each for some of: a built-in agent, an external agent, an external function.
async fn working(world: &World, keys: &[&str]) -> String {
    let step = |key: &str| {
        let who = if key == "counter" { "WORKFLOW" } else { "AGENT" };
        json!({ "key": key, "steps": [{ "key": key, "type": key, "assignedTo": who }] })
    };
    let tasks: Vec<Value> = keys.iter().map(|key| step(key)).collect();
    let name = keys.join("_");
    let manifest = json!({
        "agents": [
            { "name": "ghost", "kind": "BUILT_IN", "instructions": "You write.", "filter": "step.type == 'ghost'" },
            { "name": "looker", "filter": "step.type == 'looker'" },
        ],
        "functions": [{ "name": "counter", "filter": "step.type == 'counter'" }],
        "runTemplates": [{ "key": name, "name": name, "phases": [{ "key": "all", "autonomous": true, "tasks": tasks }] }],
    });
    world.apply(&manifest.to_string()).await;
    let lead = world.create("record", json!({ "kind": "lead", "name": name })).await;
    let run = world.fly(&name, json!({ "recordId": lead })).await;
    world.tick(false).await;
    run
}

/// Claims an agent's step with a worker name that is never used again.
async fn take(world: &World, agent: &str, worker: &str) {
    let found = entity::agent::Entity::find().filter(entity::agent::COLUMN.name.eq(agent));
    let agent = found.one(world.db.read()).await.unwrap().unwrap();
    let wanted =
        ClaimRequest { worker: worker.into(), limit: 10, lease: Duration::from_secs(60), ..ClaimRequest::default() };
    assert_eq!(claim::claim(&world.db.write(), &agent, &wanted).await.unwrap().len(), 1);
}

both! {
    async fn a_step_ends_with_the_reason_of_who_held_it(kind) {
        let world = World::without_server(kind, None).await;
        let step = async |run: &str, key: &str| {
            let query = "query($run: ID!) { steps(filter: { runIds: [$run] }) { nodes { key status reasonCode error } } }";
            let data = world.ask(query, json!({ "run": run })).await;
            let found: Option<Value> = data["steps"]["nodes"].as_array().unwrap().iter().find(|step| step["key"] == key).cloned();
            found.unwrap()
        };
        for (key, lives, reason) in [("ghost", 5, "POISONED"), ("looker", 20, "LEASE_LOST"), ("counter", 20, "LEASE_LOST")] {
            let run = working(&world, &[key]).await;
            for life in 1..=lives {
                assert_eq!(step(&run, key).await["status"], "QUEUED", "{key}, life {life}");
                take(&world, key, "still").await;
                world.clock.set(world.clock.now() + chrono::Duration::seconds(61));
                world.rescue().await;
            }
            let ended = step(&run, key).await;
            assert_eq!((&ended["status"], &ended["reasonCode"]), (&json!("FAILED"), &json!(reason)), "{ended}");
        }
        world.end().await;
    }
}

both! {
    async fn a_server_that_stops_gives_back_what_its_built_in_agents_hold(kind) {
        let world = World::without_server(kind, None).await;
        let run = working(&world, &["ghost", "looker", "counter"]).await;
        // An external worker may use the server's own name.
        for agent in ["ghost", "looker"] {
            take(&world, agent, "still").await;
        }
        take(&world, "counter", "elsewhere").await;
        assert_eq!(rescue::release_leases(world.engine_context()).await.unwrap(), 1);
        let states = world.sql("SELECT key, status, COALESCE(reason, '-'), lapse_count FROM step ORDER BY key").await;
        assert_eq!(states, [["counter", "IN_PROGRESS", "-", "0"], ["ghost", "QUEUED", "WORKER_STOPPED", "0"], ["looker", "IN_PROGRESS", "-", "0"]]);
        world.act("cancelRun", "run", json!({ "id": run })).await;
        world.tick(false).await;
        world.clock.set(world.clock.now() + chrono::Duration::seconds(61));
        world.rescue().await;
        world.tick(false).await;
        world.end().await;
    }
}

//! Expired leases: the reason fits the holder, which is one of our processes (also as a built-in
//! agent) or an external worker.

use std::time::Duration;

use entity::{run, step};
use sea_orm::sea_query::Expr;
use sea_orm::{EntityTrait, QueryFilter};
use serde_json::{Value, json};
use sortie::channel::pause::ChannelAllowance;
use sortie::domain::worker::claim::{self, ClaimRequest};
use sortie::engine::rescue;
use sortie::kernel::db::{Db, Tx, WriteContext};
use sortie::kernel::error::Result;
use sortie::step_kind::wait::Wait;
use sortie::step_kind::{Claimed, Outcome, Work};

use super::template;
use crate::harness::{World, noon};

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

/// A worker of `wait` steps. Between its search and its claim another node claims the steps and
/// returns them for ten minutes.
struct Overtaken;

impl Work for Overtaken {
    type Outcome = ();
    const KIND: &'static str = Wait::KIND;

    fn batch(&self) -> u64 {
        10
    }

    async fn allowance(&self, db: &Db) -> Result<ChannelAllowance> {
        let later = db.now() + chrono::Duration::minutes(10);
        sortie::transact!(db.write(), |tx| {
            let put_off = step::Entity::update_many().col_expr(step::Column::AvailableAt, Expr::value(later));
            put_off.filter(step::COLUMN.kind.eq(Self::KIND)).exec(tx.db()).await?;
            Ok(())
        })?;
        Ok(ChannelAllowance { count: 10, latest_first: false })
    }

    async fn perform(&self, _: &WriteContext, claimed: &[Claimed]) -> Result<Vec<Outcome<()>>> {
        panic!("claimed before their time: {claimed:?}")
    }

    async fn record(&self, _: &Tx, _: &run::Model, _: &[(step::Model, &Outcome<()>)]) -> Result<()> {
        Ok(())
    }
}

both! {
    async fn a_step_that_was_returned_for_later_meanwhile_is_not_claimed(kind) {
        let world = World::without_server(kind, None).await;
        let wait = json!({ "type": "wait", "assignedTo": "WORKFLOW", "config": { "until": "2026-11-02T11:00:00Z" } });
        world.apply(&template("waits", false, &[("wait", wait)])).await;
        let lead = world.create("record", json!({ "kind": "lead", "name": "a" })).await;
        let run = world.fly("waits", json!({ "recordId": lead })).await;
        world.tick(false).await;
        assert_eq!(world.perform_once(&Overtaken).await, 0);
        assert_eq!(world.sql("SELECT status, attempt_count FROM step").await, [["QUEUED", "0"]]);
        assert_eq!(world.perform_once(&Wait).await, 0);
        world.clock.set(noon() + chrono::Duration::minutes(10));
        assert_eq!(world.perform_once(&Wait).await, 1);
        world.tick(false).await;
        world.until_run(&run, "COMPLETED").await;
        world.end().await;
    }
}

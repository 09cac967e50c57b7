//! Work that can't proceed is visible, backs off and is isolated; what a run waits for, and why it
//! ended as it did.

mod closing;
mod halves;
mod hangs;
mod lapses;
mod mail;
mod outage;
mod settle;
mod stuck;
mod turns;
mod waiting;

use serde_json::{Value, json};

use crate::harness::{Kind, World};

/// A template of one phase with one task for each of these steps, per record or single.
fn template(key: &str, fan_out: bool, steps: &[(&str, Value)]) -> String {
    let tasks = steps.iter().map(|(name, step)| {
        let mut step = step.clone();
        step["key"] = json!(name);
        json!({ "key": format!("t_{name}"), "name": name, "fanOut": fan_out, "failWhen": "PERCENT(100)", "steps": [step] })
    });
    let phases = json!([{ "key": "all", "name": "All", "autonomous": true, "tasks": tasks.collect::<Vec<_>>() }]);
    json!({ "runTemplates": [{ "key": key, "name": key, "phases": phases }] }).to_string()
}

/// A step of a built-in kind.
fn step(kind: &str, config: Value) -> Value {
    json!({ "type": kind, "assignedTo": "WORKFLOW", "config": config })
}

/// Installs a trigger that rejects an operation on a table for rows that meet a condition.
pub async fn refuse(world: &World, kind: Kind, name: &str, operation: &str, table: &str, when: &str) {
    match kind {
        Kind::Sqlite => {
            let sql = format!(
                "CREATE TRIGGER {name} BEFORE {operation} ON {table} WHEN {when} BEGIN SELECT RAISE(ABORT, 'not this'); END"
            );
            world.force(&sql).await;
        }
        Kind::Postgres => {
            let body = "BEGIN RAISE EXCEPTION 'not this' USING ERRCODE = '22000'; END";
            world
                .force(&format!(
                    "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $refusal$ {body} $refusal$"
                ))
                .await;
            world
                .force(&format!(
                    "CREATE TRIGGER {name} BEFORE {operation} ON {table} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION {name}()"
                ))
                .await;
        }
    }
}

/// Removes that trigger.
pub async fn take_again(world: &World, kind: Kind, name: &str, table: &str) {
    match kind {
        Kind::Sqlite => world.force(&format!("DROP TRIGGER {name}")).await,
        Kind::Postgres => world.force(&format!("DROP TRIGGER {name} ON {table}")).await,
    }
}

/// Returns the `waitingFor` list of a run.
async fn waits(world: &World, run: &str) -> Vec<Value> {
    let query = "query($id: ID!) { run(id: $id) { waitingFor { code message steps until roles who { kind name } step { key } } } }";
    world.ask(query, json!({ "id": run })).await["run"]["waitingFor"].as_array().unwrap().clone()
}

/// The codes of the run's `waitingFor` list.
async fn codes(world: &World, run: &str) -> Vec<String> {
    waits(world, run).await.iter().map(|one| one["code"].as_str().unwrap().to_owned()).collect()
}

/// The only `waitingFor` entry with a code.
async fn reason(world: &World, run: &str, code: &str) -> Value {
    let all = waits(world, run).await;
    let mine: Vec<&Value> = all.iter().filter(|one| one["code"] == code).collect();
    assert_eq!(mine.len(), 1, "{code}: {all:#?}");
    mine[0].clone()
}

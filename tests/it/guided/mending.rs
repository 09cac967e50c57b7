//! Runs that people mend: a new name, further steps, another order, a corrected outcome; and what of
//! it is refused, raced and killed.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use sortie::domain::run::guided::outcome;
use sortie::domain::run::update;

use crate::harness::World;

mod at_once;
mod new_steps;
mod order_of_steps;
mod who_may;
mod words;

const UPDATE: &str =
    "mutation($input: UpdateRunInput!) { updateRun(input: $input) { run { id name description revision } } }";
const ADD: &str = "mutation($input: AddRunStepInput!) { addRunStep(input: $input) { step {
    id key name type status sequence description config dueAt assigneeRole assignee { memberId }
    task { id status progress { total pending } } run { id revision } } } }";
const REORDER: &str =
    "mutation($input: ReorderRunStepsInput!) { reorderRunSteps(input: $input) { run { id revision } } }";
const OUTCOME: &str = "mutation($input: UpdateRunOutcomeInput!) { updateRunOutcome(input: $input) { run { id status outcome revision } } }";
const RUN: &str =
    "query($id: ID!) { run(id: $id) { status revision outcome definition { phases { tasks { key steps { key } } } }
    phases { tasks { id key status progress { total pending completed } steps(first: 100) { nodes { key } } } } progress { fraction }
    availableActions { action allowed blockedBecause }
    steps(first: 100) { nodes { id key sequence status revision task { key } } } } }";

/// A step as a request declares it.
fn declared(key: &str, kind: &str, more: Value) -> Value {
    let mut step = json!({ "key": key, "name": format!("Step {key}"), "type": kind, "assignedTo": "HUMAN" });
    step.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    json!({ "definition": step })
}

async fn read(world: &World, run: &str) -> Value {
    world.ask(RUN, json!({ "id": run })).await["run"].clone()
}

/// The id of the run's first task.
async fn task(world: &World, run: &str) -> String {
    read(world, run).await["phases"][0]["tasks"][0]["id"].as_str().unwrap().to_owned()
}

/// The keys of a run's steps in display order, which is that of its structure; its places have no
/// gap.
async fn order(world: &World, run: &str) -> Vec<String> {
    let run = read(world, run).await;
    let mut all = Vec::new();
    for task in run["definition"]["phases"][0]["tasks"].as_array().unwrap() {
        let of_task =
            run["steps"]["nodes"].as_array().unwrap().iter().filter(|step| step["task"]["key"] == task["key"]);
        let mut mine: Vec<(i64, &str)> =
            of_task.map(|step| (step["sequence"].as_i64().unwrap(), step["key"].as_str().unwrap())).collect();
        mine.sort_unstable();
        let (places, mine): (Vec<i64>, Vec<&str>) = mine.into_iter().unzip();
        assert!(places.iter().copied().eq(0..places.len() as i64), "{places:?}");
        let structure: Vec<&str> =
            task["steps"].as_array().unwrap().iter().map(|step| step["key"].as_str().unwrap()).collect();
        assert_eq!(mine, structure);
        let tasks = run["phases"][0]["tasks"].as_array().unwrap();
        let listed = tasks.iter().find(|one| one["key"] == task["key"]).unwrap()["steps"]["nodes"].as_array().unwrap();
        let listed: Vec<&str> = listed.iter().map(|step| step["key"].as_str().unwrap()).collect();
        assert_eq!(mine, listed, "the task's list is in its order");
        all.extend(mine.into_iter().map(str::to_owned));
    }
    all
}

async fn add(world: &World, run: &str, step: Value, more: Value) -> Value {
    let mut input = json!({ "runId": run, "step": step });
    input.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    world.ask(ADD, json!({ "input": input })).await["addRunStep"]["step"].clone()
}

/// Extensions of the first error, with its message.
async fn refused(world: &World, query: &str, input: Value) -> Value {
    let answer = world.post(query, json!({ "input": input })).await;
    assert!(answer["errors"][0].is_object(), "{input} was not refused: {answer:#}");
    let mut told = answer["errors"][0]["extensions"].clone();
    told["message"] = answer["errors"][0]["message"].clone();
    told
}

async fn number_of(world: &World, kind: &str) -> i64 {
    world.number(&format!("SELECT COUNT(*) FROM event WHERE kind = '{kind}'")).await
}

/// Payloads of the events of a kind, oldest first.
async fn payloads(world: &World, kind: &str) -> Vec<Value> {
    let all = world.ask_all_events().await;
    all.into_iter().filter(|event| event["kind"] == kind).map(|event| event["payload"].clone()).collect()
}

/// Ends all steps of a run and completes it.
async fn finish(world: &World, run: &str, outcome: &str) {
    for step in read(world, run).await["steps"]["nodes"].as_array().unwrap() {
        if step["status"] == "PENDING" {
            world.step_act("skipStep", step["id"].as_str().unwrap(), json!({})).await;
        }
    }
    let done = world.complete_run(run, outcome).await;
    assert_eq!(done["data"]["completeRun"]["run"]["status"], "COMPLETED", "{done:#}");
}

fn allowed(run: &Value, action: &str) -> bool {
    let all = run["availableActions"].as_array().unwrap();
    let one = all.iter().find(|one| one["action"] == action).unwrap();
    assert_eq!(one["allowed"] == true, one["blockedBecause"].is_null(), "{one}");
    one["allowed"] == true
}

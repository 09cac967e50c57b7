//! Bulk actions: any number of targets, each with the result of the single mutation; stopped, taken
//! over from a killed process, and invisible to other orgs.

use std::collections::BTreeSet;
use std::time::Duration;

use entity::id::OrgId;
use serde_json::{Value, json};
use sortie::engine::bulk_actions;
use sortie::graphql::role;

use crate::harness::{World, noon};

mod progress;
mod requests;
mod verbs;
mod who_may;

const START: &str = "mutation($input: StartBulkActionInput!) { startBulkAction(input: $input) {
    bulkAction { id verb status matched notDone createdBy { name } results { totalCount } }
    dryRun { matched checked wouldDo refused sample { targetId code message } } } }";
const STOP: &str = "mutation($id: ID!) { stopBulkAction(input: { id: $id }) { bulkAction { status endedAt } } }";
const SHOW: &str = "query($id: ID!, $after: String) { bulkAction(id: $id) {
    verb status matched done refused failed notDone reason filter startedAt endedAt revision
    assignee { id } availableActions { action allowed }
    results(first: 500, after: $after) { totalCount pageInfo { hasNextPage endCursor }
        nodes { sequence targetId status code message run { id } step { id } } } } }";

/// Starts a bulk action; returns its id.
async fn start(world: &World, input: Value) -> String {
    let started = world.ask(START, json!({ "input": input })).await["startBulkAction"].clone();
    assert_eq!(
        (&started["bulkAction"]["status"], &started["dryRun"]),
        (&json!("PENDING"), &Value::Null),
        "{started:#}"
    );
    assert_eq!(started["bulkAction"]["matched"], started["bulkAction"]["results"]["totalCount"]);
    started["bulkAction"]["id"].as_str().unwrap().to_owned()
}

async fn dry(world: &World, mut input: Value) -> Value {
    input["dryRun"] = json!(true);
    let events = world.ask_all_events().await.len();
    let found = world.ask(START, json!({ "input": input })).await["startBulkAction"].clone();
    assert_eq!(found["bulkAction"], Value::Null);
    assert_eq!(world.ask_all_events().await.len(), events, "a dry run changes nothing");
    found["dryRun"].clone()
}

/// A bulk action, and all its results.
async fn show(world: &World, id: &str) -> (Value, Vec<Value>) {
    let (mut results, mut after) = (Vec::new(), Value::Null);
    loop {
        let mut found = world.ask(SHOW, json!({ "id": id, "after": after })).await["bulkAction"].clone();
        let page = found["results"].take();
        results.extend(page["nodes"].as_array().unwrap().iter().cloned());
        if page["pageInfo"]["hasNextPage"] != true {
            assert_eq!(page["totalCount"], results.len());
            return (found, results);
        }
        after = page["pageInfo"]["endCursor"].clone();
    }
}

/// Performs a bulk action to its end: its results are what a dry run says.
async fn finish(world: &World, input: Value) -> (Value, Vec<Value>) {
    let expected = dry(world, input.clone()).await;
    let id = start(world, input).await;
    world.tick(false).await;
    let (found, results) = show(world, &id).await;
    assert_eq!((&found["status"], &found["notDone"]), (&json!("COMPLETED"), &json!(0)), "{found:#}");
    let counts = [&found["matched"], &found["done"], &found["refused"], &found["failed"]];
    assert_eq!(counts, [&expected["matched"], &expected["wouldDo"], &expected["refused"], &json!(0)], "{results:#?}");
    let refused: Vec<_> = results.iter().filter(|one| one["status"] == "REFUSED").take(20).collect();
    let sample: Vec<_> = expected["sample"].as_array().unwrap().iter().collect();
    let plain = |all: &[&Value]| -> Vec<(Value, Value)> {
        all.iter().map(|one| (one["targetId"].clone(), one["code"].clone())).collect()
    };
    assert_eq!(plain(&refused), plain(&sample));
    (found, results)
}

/// Starts guided runs of one step; returns the ids of the runs and of the steps, in order.
async fn sessions(world: &World, count: usize) -> (Vec<String>, Vec<String>) {
    let mut all = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (run, steps) = world.own_run(&[("a", "custom", json!({}))], json!({})).await;
        all.0.push(run);
        all.1.extend(steps);
    }
    all
}

async fn runs_in(world: &World, status: &str) -> i64 {
    world.number(&format!("SELECT COUNT(*) FROM run WHERE status = '{status}'")).await
}

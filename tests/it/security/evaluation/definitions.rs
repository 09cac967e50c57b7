//! Definitions with many conditions, templates and schemas are validated before the transaction
//! that stores them, within one time limit: no other writer waits for that.

use std::time::{Duration, Instant};

use entity::member::Role;
use serde_json::{Value, json};

use crate::harness::World;

/// A schema that is slow to compile, different each time.
pub(in crate::security) fn slow(seed: usize) -> Value {
    let patterns: Vec<Value> =
        (0..20).map(|i| json!({ "pattern": format!(r"(\p{{L}}|\p{{N}}|{seed}x{i})\p{{Lu}}") })).collect();
    json!({ "anyOf": patterns })
}

pub(in crate::security) fn phases(schemas: Vec<Value>) -> Value {
    let steps: Vec<Value> = schemas
        .into_iter()
        .enumerate()
        .map(|(i, schema)| json!({ "key": format!("s{i}"), "type": "look", "assignedTo": "AGENT", "resultSchema": schema }))
        .collect();
    json!([{ "key": "p", "tasks": [{ "key": "t", "steps": steps }] }])
}

pub(in crate::security) const CREATE: &str = "mutation($key: String, $name: String!, $yaml: String) { createRunTemplate(input: { key: $key, name: $name, yaml: $yaml }) { runTemplate { id } } }";
pub(in crate::security) const AGENT: &str = "mutation($name: String!, $schema: JSON) { createAgent(input: { name: $name, outputSchema: $schema }) { agent { id } } }";
pub(in crate::security) const APPLY: &str = "mutation($yaml: String!) { applyManifest(input: { yaml: $yaml, dryRun: true }) { applied problems { path message } } }";
pub(in crate::security) const START: &str =
    "mutation($input: StartGuidedRunInput!) { startGuidedRun(input: $input) { run { id } } }";
const RECORD: &str = "mutation { createRecord(input: { kind: \"lead\", name: \"G\" }) { record { id } } }";

both! {
    async fn what_takes_long_to_be_judged_holds_up_no_other_write(kind) {
        let world = World::with_auth(kind).await;
        let (manager, operator) = (world.key(Role::Manager).await, world.key(Role::Operator).await);
        let (_, other) = world.tenant("other").await;
        let yaml = json!({ "phases": phases((0..6).map(slow).collect()) }).to_string();
        let manifest = json!({ "runTemplates": [{ "key": "slower", "name": "slower", "phases": phases((10..16).map(slow).collect()) }] }).to_string();
        let steps: Vec<Value> = (20..26)
            .map(|seed| json!({ "definition": { "key": format!("s{seed}"), "name": "s", "type": "custom", "assignedTo": "HUMAN", "resultSchema": slow(seed) } }))
            .collect();
        let attacks = [
            (&manager, CREATE, json!({ "key": "slow", "name": "slow", "yaml": yaml })),
            (&manager, APPLY, json!({ "yaml": manifest })),
            (&operator, START, json!({ "input": { "name": "slow", "steps": steps } })),
            (&manager, AGENT, json!({ "name": "slow", "schema": slow(30) })),
        ];
        for (key, query, variables) in attacks {
            let (mut tries, mut longest) = (0, Duration::ZERO);
            loop {
                let asked = world.post_as(key, query, variables.clone());
                let mut asked = std::pin::pin!(asked);
                let answer = loop {
                    let begun = Instant::now();
                    let write = world.post_as(&other, RECORD, json!({}));
                    let mut write = std::pin::pin!(write);
                    tokio::select! {
                        answer = &mut asked => break answer.1,
                        _ = &mut write => longest = longest.max(begun.elapsed()),
                    }
                };
                tries += 1;
                // A timeout is reported with the field; a repeated request continues from there.
                let error = &answer["errors"][0]["extensions"];
                if error.is_null() {
                    assert!(query != APPLY || answer["data"]["applyManifest"]["problems"] == json!([]), "{answer:#}");
                    break;
                }
                assert_eq!(error["code"], "LIMIT_EXCEEDED", "{answer:#}");
                assert!(error["retryAfterSeconds"].is_number() && error["field"].as_str().unwrap().contains(".s"), "{answer:#}");
                assert!(tries < 30, "it is never judged to its end");
            }
            println!("{kind:?}: {} tries, the longest write of another took {longest:?}", tries);
            assert!(longest < Duration::from_secs(3), "another's write took {longest:?}");
        }
        world.end().await;
    }
}

both! {
    async fn a_definition_has_so_many_schemas_and_texts(kind) {
        let world = World::without_server(kind, None).await;
        let many = json!({ "phases": phases((0..201).map(|i| json!({ "const": i })).collect()) }).to_string();
        let (code, told) = world.refused(CREATE, json!({ "name": "many", "yaml": many })).await;
        assert!(code == "BAD_USER_INPUT" && told.contains("at most 200"), "{code} {told}");
        let body = vec!["the same"; 6_000];
        let call = json!({ "key": "c", "type": "api_call", "assignedTo": "WORKFLOW", "config": { "url": "https://a.example", "method": "POST", "body": body } });
        let many = json!({ "phases": [{ "key": "p", "tasks": [{ "key": "t", "steps": [call] }] }] }).to_string();
        let (code, told) = world.refused(CREATE, json!({ "name": "many", "yaml": many })).await;
        assert!(code == "BAD_USER_INPUT" && told.contains("at most 5000") && told.contains("body.4"), "{code} {told}");
        let few = json!({ "phases": phases((0..200).map(|i| json!({ "const": i })).collect()) }).to_string();
        world.ask(CREATE, json!({ "name": "few", "yaml": few })).await;
        world.end().await;
    }
}

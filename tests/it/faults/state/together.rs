//! A delete and an update of one object at the same moment: a deleted object is NOT_FOUND, on both
//! databases.

use serde_json::{Value, json};

use crate::harness::World;

/// Nouns, each with the input that creates one and the fields of an update.
fn nouns() -> Vec<(&'static str, Value, Vec<Value>)> {
    let plain = || vec![json!({ "name": "Other" })];
    let filter = json!({ "all": true });
    vec![
        (
            "record",
            json!({ "kind": "lead", "name": "Ann", "email": "ann@example.com" }),
            vec![
                json!({ "name": "Other" }),
                json!({ "unsubscribed": true }),
                json!({ "stage": "Won", "attributes": { "a": 1 } }),
            ],
        ),
        ("goal", json!({ "name": "G" }), plain()),
        ("writer", json!({ "name": "W", "body": "B" }), vec![json!({ "body": "Other" })]),
        ("reviewer", json!({ "name": "R" }), plain()),
        ("messageTemplate", json!({ "name": "T", "subject": "S", "body": "B" }), vec![json!({ "body": "Other" })]),
        ("segment", json!({ "name": "S", "filter": filter }), plain()),
        ("campaign", json!({ "name": "C" }), vec![json!({ "name": "Other" }), json!({ "variables": { "a": "b" } })]),
        ("agent", json!({ "name": "a", "filter": "true" }), vec![json!({ "filter": "false" })]),
    ]
}

fn code(answer: &Value) -> String {
    answer["errors"][0]["extensions"]["code"].as_str().unwrap_or("done").to_owned()
}

/// Deletes and updates at the same moment; returns both responses.
async fn at_once(world: &World, noun: &str, id: &str, change: &Value) -> (String, String) {
    let upper = format!("{}{}", noun[..1].to_uppercase(), &noun[1..]);
    let update =
        format!("mutation($input: Update{upper}Input!) {{ update{upper}(input: $input) {{ {noun} {{ id }} }} }}");
    let delete = format!("mutation($input: DeleteInput!) {{ delete{upper}(input: $input) {{ __typename }} }}");
    let mut input = json!({ "id": id });
    input.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let (deleted, updated) = tokio::join!(
        world.post(&delete, json!({ "input": { "id": id } })),
        world.post(&update, json!({ "input": input })),
    );
    (code(&deleted), code(&updated))
}

both! {
    async fn what_was_deleted_meanwhile_is_not_found(kind) {
        let world = World::without_server(kind, None).await;
        // A run whose audience is still being loaded is notified of all changes of records.
        world.leads(520).await;
        let on = |key: &str, event: &str| json!({ "key": key, "name": key, "fanOut": true, "steps": [{ "key": key, "type": "custom", "assignedTo": "HUMAN", "trigger": format!("event:{event}") }] });
        let tasks = json!([on("u", "record.updated"), on("s", "record.stage_changed"), on("g", "record.unsubscribed")]);
        let phase = json!({ "key": "p", "name": "P", "autonomous": true, "interruptEvents": ["record.unsubscribed"], "tasks": tasks });
        world.apply(&json!({ "runTemplates": [{ "key": "hears", "name": "Hears", "phases": [phase] }] }).to_string()).await;
        let segment = world.create("segment", json!({ "name": "All leads", "filter": { "all": true } })).await;
        world.fly("hears", json!({ "segmentId": segment, "channel": "EMAIL" })).await;
        world.tick_once().await;
        assert_eq!(world.number("SELECT COUNT(*) FROM run WHERE audience_done").await, 0);
        let mut seen = std::collections::BTreeSet::new();
        for (noun, made, changes) in nouns() {
            for change in changes {
                for _ in 0..12 {
                    let id = world.create(noun, made.clone()).await;
                    let (deleted, updated) = at_once(&world, noun, &id, &change).await;
                    assert_eq!(deleted, "done", "{noun} {change}");
                    assert!(["done", "NOT_FOUND"].contains(&updated.as_str()), "{noun} {change}: {updated}");
                    seen.insert(updated);
                    let (deleted, updated) = at_once(&world, noun, &id, &change).await;
                    assert_eq!((deleted.as_str(), updated.as_str()), ("NOT_FOUND", "NOT_FOUND"), "{noun} {change}");
                }
            }
        }
        assert!(seen.contains("NOT_FOUND"), "{seen:?}");
        world.tick(false).await;
        world.end().await;
    }
}

both! {
    async fn what_refers_to_what_was_deleted_meanwhile_is_told_so(kind) {
        let world = World::without_server(kind, None).await;
        for round in 0..25 {
            let goal = world.create("goal", json!({ "name": format!("G{round}") })).await;
            let campaign = "mutation($goal: ID!, $name: String!) { createCampaign(input: { name: $name, goalId: $goal }) { campaign { id } } }";
            let delete = "mutation($id: ID!) { deleteGoal(input: { id: $id }) { __typename } }";
            let (made, deleted) = tokio::join!(
                world.post(campaign, json!({ "goal": goal, "name": format!("C{round}") })),
                world.post(delete, json!({ "id": goal })),
            );
            // Whichever was first, the other gets a specific error, never an unspecified conflict.
            match (code(&made).as_str(), code(&deleted).as_str()) {
                ("done", "CONFLICT") => assert!(deleted.to_string().contains(&format!("C{round}")), "{deleted}"),
                ("NOT_FOUND", "done") => {}
                other => panic!("{other:?}: {made} {deleted}"),
            }
        }
        world.end().await;
    }
}

//! The record list of a guided step: live before its start, fixed from the start on, until somebody
//! refreshes it.

use serde_json::{Value, json};

use super::{person, update};
use crate::harness::{World, noon};

const STEP: &str = "query($id: ID!) { step(id: $id) { recordsTakenAt records { totalCount nodes { name stage } } suggestions { record { name } } recordsDone { recordId kinds at } } }";

async fn step(world: &World, id: &str) -> Value {
    world.ask(STEP, json!({ "id": id })).await["step"].clone()
}

fn names(step: &Value) -> Vec<String> {
    step["records"]["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect()
}

both! {
    async fn it_stays_while_one_works_in_it(kind) {
        let world = World::without_server(kind, None).await;
        let mut ids = Vec::new();
        for (i, name) in ["A", "B", "C", "D", "E"].iter().enumerate() {
            let id = person(&world, name, &format!("{name}@example.com")).await;
            update(&world, &id, json!({ "lastContactedAt": format!("2026-10-0{}T00:00:00Z", i + 1) })).await;
            ids.push(id);
        }
        // The three records with the longest wait.
        let config = json!({
            "records": { "filter": { "kind": { "eq": "lead" } }, "orderBy": { "field": "LAST_CONTACTED_AT", "descending": false }, "limit": 3 },
            "subject": "Hello {{ name }}", "body": "Dear {{ name }}",
        });
        let (_, steps) = world.own_run(&[("write", "email", config), ("none", "note", json!({}))], json!({})).await;
        let id = &steps[0];
        let before = step(&world, id).await;
        assert_eq!((names(&before), &before["recordsTakenAt"]), (vec!["A".into(), "B".into(), "C".into()], &Value::Null));
        // Before its start it is live.
        update(&world, &ids[0], json!({ "lastContactedAt": "2026-11-01T00:00:00Z" })).await;
        assert_eq!(names(&step(&world, id).await), ["B", "C", "D"]);
        world.step_act("startStep", id, json!({})).await;
        let send = "mutation($input: StepEmailInput!) { sendStepEmail(input: $input) { communications { id } } }";
        world.ask(send, json!({ "input": { "stepId": id, "recordIds": [ids[1]] } })).await;
        world.clock.set(noon() + chrono::Duration::minutes(1));
        world.tick(true).await;
        // The contacted record is still on the list, in its current state, and marked.
        update(&world, &ids[2], json!({ "stage": "Moved", "lastContactedAt": "2026-11-02T00:00:00Z" })).await;
        let now = step(&world, id).await;
        assert_eq!((names(&now), &now["recordsTakenAt"], &now["records"]["totalCount"]), (vec!["B".into(), "C".into(), "D".into()], &json!("2026-11-02T12:00:00+00:00"), &json!(3)));
        assert_eq!(now["records"]["nodes"][1]["stage"], "Moved");
        assert_eq!(now["recordsDone"], json!([{ "recordId": ids[1], "kinds": ["EMAIL_SENT"], "at": "2026-11-02T12:01:00+00:00" }]));
        assert_eq!(now["suggestions"].as_array().unwrap().iter().map(|one| one["record"]["name"].as_str().unwrap()).collect::<Vec<_>>(), ["B", "C", "D"]);
        // Refreshed, it is the current list.
        let look = "mutation($id: ID!) { refreshStepRecords(input: { stepId: $id }) { step { recordsTakenAt records { nodes { name } } } } }";
        let fresh = world.ask(look, json!({ "id": id })).await["refreshStepRecords"]["step"].clone();
        assert_eq!((names(&fresh), &fresh["recordsTakenAt"]), (vec!["D".into(), "E".into(), "A".into()], &json!("2026-11-02T12:01:00+00:00")));
        // A deleted record is on no list; a step without records can't be refreshed; a step that is
        // reset is live again.
        world.ask("mutation($id: ID!) { deleteRecord(input: { id: $id }) { deletedId } }", json!({ "id": ids[4] })).await;
        assert_eq!(names(&step(&world, id).await), ["D", "A"]);
        assert_eq!(world.refused(look, json!({ "id": steps[1] })).await.0, "CONFLICT");
        world.step_act("startStep", &steps[1], json!({})).await;
        let (code, told) = world.refused(look, json!({ "id": steps[1] })).await;
        assert!(code == "CONFLICT" && told.contains("no records"), "{told}");
        world.step_act("completeStep", id, json!({})).await;
        assert_eq!(names(&step(&world, id).await), ["D", "A"]);
        assert_eq!(world.refused(look, json!({ "id": id })).await.0, "CONFLICT");
        world.step_act("resetStep", id, json!({})).await;
        let live = step(&world, id).await;
        assert_eq!((names(&live), &live["recordsTakenAt"]), (vec!["D".into(), "A".into(), "C".into()], &Value::Null));
        world.end().await;
    }
}

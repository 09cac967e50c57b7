//! 7.8: a stage is checked against its kind's pipeline everywhere that sets one.

use serde_json::{Value, json};

use crate::harness::World;

const CREATE: &str = "mutation($stage: String, $kind: String!) { createRecord(input: { kind: $kind, name: \"N\", email: \"n@example.com\", stage: $stage }) { record { id stage } } }";
const UPDATE: &str =
    "mutation($id: ID!, $stage: String) { updateRecord(input: { id: $id, stage: $stage }) { record { stage } } }";

async fn no_stage(world: &World, query: &str, variables: Value, field: &str) {
    let answer = world.post(query, variables).await;
    let extensions = &answer["errors"][0]["extensions"];
    assert_eq!((&extensions["code"], &extensions["field"]), (&json!("BAD_USER_INPUT"), &json!(field)), "{answer:#}");
    assert_eq!(extensions["allowed"], json!(["One", "Zwei é"]), "{answer:#}");
}

both! {
    async fn a_stage_is_of_its_pipeline_wherever_it_is_set(kind) {
        let world = World::new(kind).await;
        let set = "mutation($stages: [String!]!) { setStages(input: { recordKind: \"order\", stages: $stages }) { __typename } }";
        world.ask(set, json!({ "stages": ["One", "Zwei é"] })).await;
        // Created: in an existing stage or in none, else rejected; any stage for a kind without a
        // pipeline.
        for stage in ["Three", "one", "One.", "Zwei"] {
            no_stage(&world, CREATE, json!({ "kind": "order", "stage": stage }), "stage").await;
        }
        let id = world.ask(CREATE, json!({ "kind": "order", "stage": "One" })).await["createRecord"]["record"]["id"].clone();
        world.ask(CREATE, json!({ "kind": "order", "stage": null })).await;
        world.ask(CREATE, json!({ "kind": "ticket", "stage": "Anywhere" })).await;
        // Changed.
        no_stage(&world, UPDATE, json!({ "id": id, "stage": "Three" }), "stage").await;
        assert_eq!(world.ask(UPDATE, json!({ "id": id, "stage": "Zwei é" })).await["updateRecord"]["record"]["stage"], "Zwei é");
        // By a step of a run: with a constant, and with a placeholder that renders to no stage.
        world.apply(&json!({ "runTemplates": [{ "key": "mark", "name": "Mark", "phases": [{ "key": "p", "name": "P", "autonomous": true, "tasks": [
            { "key": "right", "name": "R", "steps": [{ "key": "right", "name": "R", "type": "update_record", "assignedTo": "WORKFLOW", "config": { "stage": "One" } }] },
            { "key": "wrong", "name": "W", "dependsOn": ["right"], "steps": [{ "key": "wrong", "name": "W", "type": "update_record", "assignedTo": "WORKFLOW", "config": { "stage": "{{ record.name }}" } }] },
        ] }] }] }).to_string()).await;
        let template = world.id_of("runTemplates", "key", "mark").await;
        let goal = world.create("goal", json!({ "name": "G" })).await;
        let writer = world.create("writer", json!({ "name": "W", "body": "b" })).await;
        let campaign = world.create("campaign", json!({ "name": "C", "goalId": goal, "writerId": writer, "recordId": id, "runTemplateId": template })).await;
        for verb in ["submitCampaign", "approveCampaign"] {
            let query = format!("mutation($id: ID!) {{ {verb}(input: {{ id: $id }}) {{ preflight {{ ready checks {{ status message }} }} }} }}");
            let done = world.ask(&query, json!({ "id": campaign })).await;
            assert_eq!(done[verb]["preflight"]["ready"], true, "{done:#}");
        }
        let run = world.ask("mutation($id: ID!) { runCampaign(input: { campaignId: $id }) { run { id } } }", json!({ "id": campaign })).await["runCampaign"]["run"]["id"].clone();
        world.until_run(run.as_str().unwrap(), "FAILED").await;
        let steps = world.ask("query($id: ID!) { run(id: $id) { steps { nodes { key status error } } } }", json!({ "id": run })).await;
        let steps = &steps["run"]["steps"]["nodes"];
        assert_eq!((&steps[0]["status"], &steps[1]["status"]), (&json!("COMPLETED"), &json!("FAILED")), "{steps:#}");
        assert_eq!(steps[1]["error"], "stage: a order has no stage `N`; there is One, Zwei é");
        // From within a guided step.
        let (_, steps) = world.own_run(&[("move", "update_stage", json!({}))], json!({})).await;
        world.step_act("startStep", &steps[0], json!({})).await;
        let change = "mutation($s: ID!, $id: ID!, $stage: String!) { updateStepStage(input: { stepId: $s, changes: [{ recordId: $id, stage: $stage }] }) { records { stage } } }";
        no_stage(&world, change, json!({ "s": steps[0], "id": id, "stage": "Three" }), "changes[0].stage").await;
        world.ask(change, json!({ "s": steps[0], "id": id, "stage": "Zwei é" })).await;
        // A pipeline loses a stage: the record keeps it, also when saved again, but can't return to
        // it.
        world.ask(set, json!({ "stages": ["One"] })).await;
        let kept = world.ask(UPDATE, json!({ "id": id, "stage": "Zwei é" })).await;
        assert_eq!(kept["updateRecord"]["record"]["stage"], "Zwei é");
        world.ask(UPDATE, json!({ "id": id, "stage": "One" })).await;
        assert_eq!(world.refused(UPDATE, json!({ "id": id, "stage": "Zwei é" })).await.0, "BAD_USER_INPUT");
        world.end().await;
    }
}

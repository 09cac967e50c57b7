//! People's steps in campaigns' runs: their records and suggestions, and the actions within them, which
//! guided work has, too; `run::people_mail` has their mail.

use std::collections::HashMap;

use chrono::Duration;
use serde_json::{Value, json};

use crate::harness::plan::Plan;
use crate::harness::{World, noon};

/// A structure with a step per record, one for the whole run, and one of a worker.
fn structure() -> Value {
    let about = json!({ "records": { "linked": true, "orderBy": { "field": "NAME", "descending": false } }, "own": 1 });
    json!([{ "key": "work", "name": "Work", "tasks": [
        { "key": "each", "name": "Each", "fanOut": true, "steps": [
            { "key": "qualify", "name": "Qualify", "type": "update_stage", "assignedTo": "HUMAN", "config": { "to": "Qualified", "own": true } },
        ] },
        { "key": "whole", "name": "Whole", "steps": [
            { "key": "write", "name": "Write", "type": "write", "assignedTo": "HUMAN", "config": about },
        ] },
    ] }])
}

/// Launches a campaign over leads with this structure.
async fn launched(world: &World, leads: usize) -> (Plan, String) {
    world
        .apply(&json!({ "runTemplates": [{ "key": "hands", "name": "Hands", "phases": structure() }] }).to_string())
        .await;
    let plan = world.plan("EMAIL", leads).await;
    let template = world.id_of("runTemplates", "key", "hands").await;
    let change =
        "mutation($id: ID!, $to: ID!) { updateCampaign(input: { id: $id, runTemplateId: $to }) { campaign { id } } }";
    world.ask(change, json!({ "id": plan.campaign, "to": template })).await;
    world.activate(&plan).await;
    let run = world.launch(&plan).await;
    world.tick(true).await;
    (plan, run)
}

/// The ids of a run's steps, by key and record.
async fn steps(world: &World, run: &str) -> HashMap<(String, Option<String>), String> {
    let query = "query($id: ID!) { steps(filter: { runIds: [$id] }, first: 100) { nodes { id key record { id } } } }";
    let found = world.ask(query, json!({ "id": run })).await;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let each = found["steps"]["nodes"].as_array().unwrap().iter();
    each.map(|step| ((text(&step["key"]).unwrap(), text(&step["record"]["id"])), text(&step["id"]).unwrap())).collect()
}

const SEND: &str = "mutation($input: StepEmailInput!) { sendStepEmail(input: $input) { communications { id } } }";
const BOOK: &str =
    "mutation($input: ScheduleStepMeetingInput!) { scheduleStepMeeting(input: $input) { meeting { id } } }";
const NOTE: &str = "mutation($input: AddStepNoteInput!) { addStepNote(input: $input) { activities { id } } }";
const MOVE: &str =
    "mutation($input: UpdateStepStageInput!) { updateStepStage(input: $input) { records { stage } step { result } } }";
const FOLLOW: &str =
    "mutation($input: CreateStepFollowUpInput!) { createStepFollowUp(input: $input) { followUp { id } } }";

both! {
    async fn actions_within_a_persons_step_of_a_campaign(kind) {
        let world = World::without_server(kind, None).await;
        let (plan, run) = launched(&world, 3).await;
        let all = steps(&world, &run).await;
        assert_eq!(all.len(), 4);
        let whole = all[&("write".to_owned(), None)].clone();
        let own = all[&("qualify".to_owned(), Some(plan.records[1].clone()))].clone();
        // What the steps are about: the whole audience in the given order, or the step's own record.
        let about = "query($id: ID!) { step(id: $id) { recordsTakenAt records { totalCount nodes { id } } suggestions { record { id } stage mail { subject } } } }";
        let shown = world.ask(about, json!({ "id": own })).await["step"].clone();
        assert_eq!(shown["records"], json!({ "totalCount": 1, "nodes": [{ "id": plan.records[1] }] }));
        assert_eq!(shown["suggestions"], json!([{ "record": { "id": plan.records[1] }, "stage": "Qualified", "mail": null }]));
        let shown = world.ask(about, json!({ "id": whole })).await["step"].clone();
        let listed: Vec<&Value> = shown["records"]["nodes"].as_array().unwrap().iter().map(|record| &record["id"]).collect();
        assert_eq!((listed, &shown["recordsTakenAt"]), (plan.records.iter().map(|id| json!(id)).collect::<Vec<_>>().iter().collect(), &Value::Null));
        let (code, why) = world.refused(NOTE, json!({ "input": { "stepId": whole, "text": "x" } })).await;
        assert!(code == "CONFLICT" && why.contains("start it first"), "{why}");
        for step in [&whole, &own] {
            world.step_act("startStep", step, json!({})).await;
        }
        assert!(world.ask(about, json!({ "id": whole })).await["step"]["recordsTakenAt"].is_string());
        assert!(world.ask(about, json!({ "id": own })).await["step"]["recordsTakenAt"].is_null());
        // Mail and invitations go to the audience alone.
        let other = world.create("record", json!({ "kind": "order", "name": "Order 7", "email": "order@example.com" })).await;
        let at = noon() + Duration::days(1);
        for (query, input) in [
            (SEND, json!({ "stepId": whole, "recordIds": [other], "subject": "s", "body": "b" })),
            (BOOK, json!({ "stepId": own, "title": "Call", "startsAt": at, "attendees": [{ "recordId": other }] })),
        ] {
            let (code, why) = world.refused(query, json!({ "input": input })).await;
            assert!(code == "BAD_USER_INPUT" && why.contains("from guided work"), "{why}");
        }
        assert_eq!(world.number("SELECT COUNT(*) FROM communication").await + world.number("SELECT COUNT(*) FROM meeting").await, 0);
        world.act("pauseCampaign", "campaign", json!({ "id": plan.campaign })).await;
        let (code, why) = world.refused(NOTE, json!({ "input": { "stepId": whole, "text": "x" } })).await;
        assert!(code == "CONFLICT" && why.contains("paused"), "{why}");
        world.act("resumeCampaign", "campaign", json!({ "id": plan.campaign })).await;
        // All other actions, also about a record that is not in the audience.
        world.ask(FOLLOW, json!({ "input": { "stepId": own, "title": "Ring", "recordId": other } })).await;
        world.ask(NOTE, json!({ "input": { "stepId": own, "text": "Well", "recordIds": [plan.records[1], other] } })).await;
        let moved = world.ask(MOVE, json!({ "input": { "stepId": own, "changes": [{ "recordId": plan.records[1], "stage": "Qualified" }] } })).await;
        assert_eq!(moved["updateStepStage"]["records"], json!([{ "stage": "Qualified" }]));
        // The result is what the person gives.
        let done = world.ask("mutation($id: ID!) { completeStep(input: { id: $id, result: { notesAdded: 9, mood: \"good\" } }) { step { result } } }", json!({ "id": own })).await;
        assert_eq!(done["completeStep"]["step"]["result"], json!({ "notesAdded": 9, "mood": "good" }));
        let acts = world.ask("query($id: ID!) { step(id: $id) { recordsDone { recordId kinds } activities { totalCount } } }", json!({ "id": own })).await["step"].clone();
        assert_eq!(acts["activities"]["totalCount"], 4);
        let kinds = acts["recordsDone"].as_array().unwrap().iter().find(|done| done["recordId"] == json!(plan.records[1])).unwrap();
        assert_eq!(kinds["kinds"], json!(["NOTE", "STAGE_CHANGED"]));
        world.step_act("completeStep", &whole, json!({})).await;
        for ((key, _), step) in steps(&world, &run).await {
            if key == "qualify" && step != own {
                world.step_act("skipStep", &step, json!({})).await;
            }
        }
        world.tick(true).await;
        let ended = world.ask("query($id: ID!) { run(id: $id) { status audienceCount } }", json!({ "id": run })).await["run"].clone();
        assert_eq!(ended, json!({ "status": "COMPLETED", "audienceCount": 3 }));
        world.end().await;
    }
}

both! {
    async fn a_test_run_acts_on_nobody(kind) {
        let world = World::without_server(kind, None).await;
        let (plan, _) = launched(&world, 2).await;
        let query = "mutation($id: ID!) { testRunCampaign(input: { campaignId: $id, recipients: [\"me@example.com\"] }) { run { id } preflight { checks { status message } } } }";
        let test = world.ask(query, json!({ "id": plan.campaign })).await;
        let test = test["testRunCampaign"]["run"]["id"].as_str().unwrap_or_else(|| panic!("{test:#}")).to_owned();
        world.tick(true).await;
        let whole = steps(&world, &test).await[&("write".to_owned(), None)].clone();
        world.step_act("startStep", &whole, json!({})).await;
        let (code, why) = world.refused(NOTE, json!({ "input": { "stepId": whole, "text": "x" } })).await;
        assert!(code == "CONFLICT" && why.contains("test run"), "{why}");
        world.end().await;
    }
}

both! {
    /// A selection of records is checked with the structure; other fields of a person's step are free.
    async fn a_selection_of_records_is_checked_with_its_template(kind) {
        let world = World::without_server(kind, None).await;
        let problems = async |config: Value| {
            let steps = json!([{ "key": "look", "name": "Look", "type": "look", "assignedTo": "HUMAN", "config": config }]);
            let phases = json!([{ "key": "work", "name": "Work", "tasks": [{ "key": "t", "name": "T", "steps": steps }] }]);
            let query = "mutation($input: CreateRunTemplateInput!) { createRunTemplate(input: $input) { runTemplate { id } } }";
            let name = format!("T {config}").chars().take(60).collect::<String>();
            world.post(query, json!({ "input": { "name": name, "yaml": json!({ "phases": phases }).to_string() } })).await
        };
        assert!(problems(json!({ "title": 5, "to": ["x"] })).await["errors"].is_null(), "not settings of records");
        for (config, path) in [
            (json!({ "records": {} }), "steps.look.config.records.filter"),
            (json!({ "records": { "linked": true, "limit": 0 } }), "steps.look.config.records.limit"),
            (json!({ "records": { "linked": true }, "from": "25:00" }), "steps.look.config.from"),
            (json!({ "records": { "filter": { "nonsense": 1 } } }), "steps.look.config"),
        ] {
            let answer = problems(config.clone()).await;
            assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{config}: {answer:#}");
            assert!(answer["errors"][0].to_string().contains(path), "{config}: {answer:#}");
        }
        world.end().await;
    }
}

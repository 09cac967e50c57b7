//! People's steps in campaigns' runs: their records and suggestions, and the actions within them, which
//! guided work has, too.

use std::collections::HashMap;

use chrono::Duration;
use serde_json::{Value, json};

use crate::harness::plan::Plan;
use crate::harness::{World, noon};

/// A structure with a step per record, one for the whole run, and one of a worker.
fn structure() -> Value {
    let mail = json!({ "subject": "Hello {{ name }}", "body": "Dear {{ first_name }}", "records": { "linked": true, "orderBy": { "field": "NAME", "descending": false } } });
    json!([{ "key": "work", "name": "Work", "tasks": [
        { "key": "each", "name": "Each", "fanOut": true, "steps": [
            { "key": "qualify", "name": "Qualify", "type": "update_stage", "assignedTo": "HUMAN", "config": { "to": "Qualified", "own": true } },
        ] },
        { "key": "whole", "name": "Whole", "steps": [
            { "key": "write", "name": "Write", "type": "write", "assignedTo": "HUMAN", "config": mail },
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
        let about = "query($id: ID!) { step(id: $id) { recordsTakenAt records { totalCount nodes { id } } suggestions { record { id } stage mail { subject to } } } }";
        let shown = world.ask(about, json!({ "id": own })).await["step"].clone();
        assert_eq!(shown["records"], json!({ "totalCount": 1, "nodes": [{ "id": plan.records[1] }] }));
        assert_eq!(shown["suggestions"], json!([{ "record": { "id": plan.records[1] }, "stage": "Qualified", "mail": null }]));
        let shown = world.ask(about, json!({ "id": whole })).await["step"].clone();
        assert_eq!((&shown["records"]["totalCount"], &shown["recordsTakenAt"]), (&json!(3), &Value::Null));
        assert_eq!(shown["suggestions"][2]["mail"], json!({ "subject": "Hello Lead 2", "to": "lead2@example.com" }));
        let (code, why) = world.refused(NOTE, json!({ "input": { "stepId": whole, "text": "x" } })).await;
        assert!(code == "CONFLICT" && why.contains("start it first"), "{why}");
        for step in [&whole, &own] {
            world.step_act("startStep", step, json!({})).await;
        }
        assert!(world.ask(about, json!({ "id": whole })).await["step"]["recordsTakenAt"].is_string());
        // Only the audience is written to or invited.
        let other = world.create("record", json!({ "kind": "lead", "name": "Late", "email": "late@example.com" })).await;
        let at = noon() + Duration::days(1);
        let meeting = |attendee: Value| json!({ "stepId": own, "title": "Call", "startsAt": at, "attendees": [attendee] });
        let outside = [
            (SEND, json!({ "stepId": whole, "recordIds": [plan.records[0], other], "subject": "s", "body": "b" }), "recordIds[1]"),
            (BOOK, meeting(json!({ "recordId": other })), "attendees[0].recordId"),
            (BOOK, meeting(json!({ "email": "boss@example.com" })), "attendees[0].email"),
        ];
        for (query, input, field) in outside {
            let answer = world.post(query, json!({ "input": input })).await;
            let error = &answer["errors"][0]["extensions"];
            assert_eq!((&error["code"], &error["field"]), (&json!("CONFLICT"), &json!(field)), "{answer:#}");
        }
        // Mail of a paused campaign waits, and its steps take no actions.
        world.ask(SEND, json!({ "input": { "stepId": whole, "recordIds": [plan.records[0], plan.records[2]] } })).await;
        for mutation in ["completeStep", "skipStep"] {
            let query = format!("mutation($id: ID!) {{ {mutation}(input: {{ id: $id }}) {{ step {{ id }} }} }}");
            let (code, why) = world.refused(&query, json!({ "id": whole })).await;
            assert!(code == "CONFLICT" && why.contains("2 of its messages are in flight"), "{why}");
        }
        world.act("pauseCampaign", "campaign", json!({ "id": plan.campaign })).await;
        world.tick(true).await;
        assert_eq!(world.outbox().len(), 0);
        let (code, why) = world.refused(NOTE, json!({ "input": { "stepId": whole, "text": "x" } })).await;
        assert!(code == "CONFLICT" && why.contains("paused"), "{why}");
        world.act("resumeCampaign", "campaign", json!({ "id": plan.campaign })).await;
        world.tick(true).await;
        assert_eq!(world.outbox().len(), 2);
        // All other actions, each counted.
        world.ask(BOOK, json!({ "input": meeting(json!({ "recordId": plan.records[1] })) })).await;
        world.ask(FOLLOW, json!({ "input": { "stepId": own, "title": "Ring", "recordId": other } })).await;
        world.ask(NOTE, json!({ "input": { "stepId": own, "text": "Well", "recordIds": [plan.records[1], other] } })).await;
        let moved = world.ask(MOVE, json!({ "input": { "stepId": own, "changes": [{ "recordId": plan.records[1], "stage": "Qualified" }] } })).await;
        assert_eq!(moved["updateStepStage"]["records"], json!([{ "stage": "Qualified" }]));
        world.tick(true).await;
        // The counts stay in the result whatever else the person gives.
        let done = world.ask("mutation($id: ID!) { completeStep(input: { id: $id, result: { emailsSent: 9, mood: \"good\" } }) { step { result } } }", json!({ "id": whole })).await;
        assert_eq!(done["completeStep"]["step"]["result"], json!({ "emailsSent": 2, "mood": "good" }));
        world.step_act("completeStep", &own, json!({})).await;
        let result = world.ask("query($id: ID!) { step(id: $id) { result recordsDone { recordId kinds } activities { totalCount } } }", json!({ "id": own })).await["step"].clone();
        assert_eq!(result["result"], json!({ "meetingsBooked": 1, "invitationsSent": 1, "followUpsCreated": 1, "notesAdded": 1, "leadsUpdated": 1 }));
        for ((key, _), step) in steps(&world, &run).await {
            if key == "qualify" && step != own {
                world.step_act("skipStep", &step, json!({})).await;
            }
        }
        world.tick(true).await;
        let ended = world.ask("query($id: ID!) { run(id: $id) { status audienceCount messagesOnWay records { nodes { record { id } outcome } } } }", json!({ "id": run })).await["run"].clone();
        assert_eq!((&ended["status"], &ended["audienceCount"], &ended["messagesOnWay"]), (&json!("COMPLETED"), &json!(3), &json!(0)), "{ended:#}");
        for recipient in ended["records"]["nodes"].as_array().unwrap() {
            assert_eq!(recipient["outcome"], "SENT", "by mail or an invitation: {ended:#}");
        }
        world.end().await;
    }
}

both! {
    /// What is cancelled is not sent, and nothing of it stays on its way.
    async fn mail_of_a_cancelled_run_does_not_go_out(kind) {
        let world = World::without_server(kind, None).await;
        let (plan, run) = launched(&world, 2).await;
        let whole = steps(&world, &run).await[&("write".to_owned(), None)].clone();
        world.step_act("startStep", &whole, json!({})).await;
        world.ask(SEND, json!({ "input": { "stepId": whole, "recordIds": plan.records } })).await;
        world.act("cancelRun", "run", json!({ "id": run })).await;
        world.tick(true).await;
        let ended = world.ask("query($id: ID!) { run(id: $id) { status messagesOnWay communications { nodes { status } } } }", json!({ "id": run })).await["run"].clone();
        assert_eq!(ended, json!({ "status": "CANCELLED", "messagesOnWay": 0, "communications": { "nodes": [{ "status": "CANCELLED" }, { "status": "CANCELLED" }] } }));
        assert_eq!(world.outbox().len(), 0);
        // A test run acts on nobody, and shows what it would.
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

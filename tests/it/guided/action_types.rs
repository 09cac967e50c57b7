//! "Action Types" and "Interactive Step Components" (docs/reference/guided-runs.txt): one test per
//! sentence, in the source's words.

use chrono::Duration;
use serde_json::{Value, json};

use crate::harness::{World, noon};

async fn step_query(world: &World, step: &str, fields: &str) -> Value {
    world.ask(&format!("query($id: ID!) {{ step(id: $id) {{ {fields} }} }}"), json!({ "id": step })).await["step"]
        .clone()
}

/// Starts a run of a template, and one of its steps; returns both.
async fn begun(world: &World, run: &str, key: &str) -> String {
    let step = world.guided_step(run, key).await;
    world.step_act("startStep", &step, json!({})).await;
    step
}

/// Partnerships: name, stage, priority, days since the last contact.
async fn partnerships(world: &World) -> Vec<String> {
    let mut ids = Vec::new();
    for (name, stage, priority, ago) in [
        ("Oak", "MOU Sent", 9, 20),
        ("Pine", "Conversation Active", 5, 15),
        ("Rowan", "New Lead", 7, 30),
        ("Spruce", "New Lead", 8, 8),
        ("Thorn", "Active Partner", 10, 2),
    ] {
        let input = json!({ "kind": "partnership", "name": name, "stage": stage, "email": format!("{}@p.example", name.to_lowercase()),
            "lastContactedAt": noon() - Duration::days(ago), "attributes": { "priority": priority } });
        ids.push(world.create("record", input).await);
    }
    ids
}

fn names(list: &Value) -> Vec<&str> {
    list["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect()
}

both! {
    async fn each_run_has_multiple_steps_with_different_action_types(kind) {
        let world = World::without_server(kind, None).await;
        let ids = partnerships(&world).await;
        let run = world.guided("weekly-pipeline-review", json!({})).await;
        // "Each run has multiple steps with different action types:"
        let steps = world.guided_run(&run).await["steps"]["nodes"].clone();
        let types: Vec<&str> = steps.as_array().unwrap().iter().map(|step| step["type"].as_str().unwrap()).collect();
        assert_eq!(types, ["review", "review", "email", "update_stage", "schedule"]);

        // "`email` - Compose and send emails": "Opens email composer": the draft for each is there
        // to be changed. 'Example: "Draft follow-up emails" for top 3 priority partnerships': those
        // without mail for a week.
        let email = begun(&world, &run, "draft_follow_up_emails").await;
        let composer = step_query(&world, &email, "suggestions { record { name } mail { to subject body problem } }").await["suggestions"].clone();
        let drafted: Vec<&str> = composer.as_array().unwrap().iter().map(|one| one["record"]["name"].as_str().unwrap()).collect();
        assert_eq!(drafted, ["Oak", "Spruce", "Rowan"]);
        assert!(composer.as_array().unwrap().iter().all(|one| one["mail"]["problem"].is_null() && one["mail"]["body"].as_str().unwrap().len() > 50));
        // "Can link to partnerships": the mail is the partnership's.
        let send = "mutation($step: ID!, $ids: [ID!]!) { sendStepEmail(input: { stepId: $step, recordIds: $ids, subject: \"Hello {{ name }}\", body: \"Still there?\" }) { communications { record { name } toAddress } } }";
        let sent = world.ask(send, json!({ "step": email, "ids": [ids[2]] })).await["sendStepEmail"]["communications"].clone();
        assert_eq!(sent, json!([{ "record": { "name": "Rowan" }, "toAddress": "rowan@p.example" }]));
        world.tick(true).await;
        let mail = world.ask("query($id: ID!) { record(id: $id) { communications(first: 1) { nodes { id } } } }", json!({ "id": ids[2] })).await["record"]["communications"]["nodes"][0]["id"].clone();
        world.ask("mutation($id: ID!) { recordReply(input: { communicationId: $id, body: \"Yes, let us talk\" }) { reply { id } } }", json!({ "id": mail })).await;

        // "`review` - Review data (partnerships, emails, etc.)": "Shows relevant data to review".
        // 'Example: "Review at-risk partnerships" shows partnerships with no contact in 14+ days'.
        // "Review steps → Show actual data (partnerships, emails, etc.)"
        // 'Example: "Review at-risk partnerships" automatically loads partnerships with 14+ days since contact'
        let review = begun(&world, &run, "review_at_risk").await;
        let shows = "records { nodes { name communications { nodes { subject } } replies { nodes { body } } followUps { nodes { id } } activities { nodes { kind } } } }";
        let at_risk = step_query(&world, &review, shows).await["records"].clone();
        assert_eq!(names(&at_risk), ["Oak", "Pine"], "Rowan was written to a moment ago");
        // With the emails of each: Rowan's, from a step that shows those with an open MOU, or from
        // an ad-hoc step.
        let (_, own) = world.own_run(&[("look", "review", json!({ "records": { "ids": [ids[2]] } }))], json!({})).await;
        let shown = step_query(&world, &own[0], shows).await["records"]["nodes"][0].clone();
        assert_eq!(shown, json!({ "name": "Rowan", "communications": { "nodes": [{ "subject": "Hello Rowan" }] }, "replies": { "nodes": [{ "body": "Yes, let us talk" }] }, "followUps": { "nodes": [] }, "activities": { "nodes": [{ "kind": "EMAIL_SENT" }] } }));

        // "`update_stage` - Update partnership stages": "Shows partnerships that need stage updates".
        // 'Example: "Update pipeline stages" based on latest activity': the one that has replied.
        let update = begun(&world, &run, "update_pipeline_stages").await;
        let found = step_query(&world, &update, "records { nodes { name } } suggestions { stage }").await;
        assert_eq!((names(&found["records"]), &found["suggestions"]), (vec!["Rowan"], &json!([{ "stage": "Conversation Active" }])));
        // "Allows changing stages directly": to the one that is suggested, or any other of the pipeline.
        let change = "mutation($step: ID!, $id: ID!) { updateStepStage(input: { stepId: $step, changes: [{ recordId: $id, stage: \"MOU Drafted\" }] }) { records { stage } } }";
        let changed = world.ask(change, json!({ "step": update, "id": ids[2] })).await["updateStepStage"]["records"].clone();
        assert_eq!(changed, json!([{ "stage": "MOU Drafted" }]));

        // "`schedule` - Schedule meetings/calls": "Opens calendar/scheduling interface": free
        // slots, and what is booked. 'Example: "Schedule weekly calls" for this week's partners':
        // active ones without a contact this week.
        let schedule = begun(&world, &run, "schedule_weekly_calls").await;
        let found = step_query(&world, &schedule, "records { nodes { name } } suggestions { title slot { startsAt endsAt timezone } }").await;
        assert_eq!(names(&found["records"]), ["Oak", "Pine"]);
        let slot = &found["suggestions"][0]["slot"];
        assert_eq!((slot["startsAt"].as_str(), slot["endsAt"].as_str(), &found["suggestions"][0]["title"]), (Some("2026-11-02T12:30:00+00:00"), Some("2026-11-02T13:00:00+00:00"), &json!("Call with Oak")));
        let book = "mutation($step: ID!, $id: ID!, $at: DateTime!) { scheduleStepMeeting(input: { stepId: $step, title: \"Call with Oak\", startsAt: $at, attendees: [{ recordId: $id }] }) { meeting { status } } }";
        world.ask(book, json!({ "step": schedule, "id": ids[0], "at": "2026-11-02T14:00:00Z" })).await;
        let calendar = world.ask("{ meetings { nodes { title startsAt attendees { record { name } email } } } }", json!({})).await["meetings"]["nodes"].clone();
        assert_eq!(calendar, json!([{ "title": "Call with Oak", "startsAt": "2026-11-02T14:00:00+00:00", "attendees": [{ "record": { "name": "Oak" }, "email": "oak@p.example" }] }]));
        world.end().await;
    }
}

both! {
    async fn tasks_notes_and_custom_steps(kind) {
        let world = World::without_server(kind, None).await;
        let ids = partnerships(&world).await;
        // "`create_task` - Create follow-up tasks": "Create task steps → Task creation form": what it asks for is suggested.
        let run = world.guided("new-lead-intake", json!({})).await;
        let tasks = begun(&world, &run, "set_follow_ups").await;
        let form = step_query(&world, &tasks, "suggestions { record { id name } title dueAt }").await["suggestions"].clone();
        assert_eq!(form.as_array().unwrap().iter().map(|one| one["title"].as_str().unwrap()).collect::<Vec<_>>(), ["First call with Spruce", "First call with Rowan"]);
        let create = "mutation($input: CreateStepFollowUpInput!) { createStepFollowUp(input: $input) { followUp { title note dueAt record { name } createdBy { name } } } }";
        let input = json!({ "stepId": tasks, "title": form[0]["title"], "note": "ask for Ann", "dueAt": form[0]["dueAt"], "recordId": form[0]["record"]["id"] });
        let made = world.ask(create, json!({ "input": input })).await["createStepFollowUp"]["followUp"].clone();
        assert_eq!(made, json!({ "title": "First call with Spruce", "note": "ask for Ann", "dueAt": "2026-11-09T12:00:00+00:00", "record": { "name": "Spruce" }, "createdBy": { "name": "Developer" } }));

        // "`note` - Add notes/documentation": "Text area for adding notes": a text of several lines, kept as it is.
        let notes = begun(&world, &run, "note_sources").await;
        let text = "Ann brought Oak.\n\n  - and promised Pine a call\n";
        let add = "mutation($step: ID!, $text: String!, $ids: [ID!]) { addStepNote(input: { stepId: $step, text: $text, recordIds: $ids }) { activities { summary details } step { result } } }";
        let added = world.ask(add, json!({ "step": notes, "text": text, "ids": [ids[0], ids[1]] })).await["addStepNote"].clone();
        assert_eq!((&added["activities"][1]["details"]["text"], &added["activities"][0]["summary"], &added["step"]["result"]), (&json!(text), &json!("Ann brought Oak."), &json!({ "notesAdded": 1 })));

        // "`custom` - Custom action (varies by template)": "Template-specific actions": here partnerships, there objectives.
        let planning = world.guided("seasonal-planning-check", json!({})).await;
        for (run, key, made) in [(&run, "create_partnerships", "partnership"), (&planning, "adjust_priorities", "objective")] {
            let custom = begun(&world, run, key).await;
            let create = "mutation($step: ID!) { createStepRecords(input: { stepId: $step, records: [{ name: \"New\" }] }) { records { kind } step { result } } }";
            let done = world.ask(create, json!({ "step": custom })).await["createStepRecords"].clone();
            assert_eq!(done, json!({ "records": [{ "kind": made }], "step": { "result": { format!("{made}sCreated"): 1 } } }));
        }
        world.end().await;
    }
}

both! {
    async fn the_workflow_of_a_step_shows_what_its_type_and_config_say(kind) {
        let world = World::without_server(kind, None).await;
        let ids = partnerships(&world).await;
        // "1. Go to Runs page": the list of templates and runs, from which one is started. '2.
        // Click "Start Run" on any template', '4. Click "Create"', "5. You're redirected to the run
        // detail page": one mutation, which answers with the run.
        let page = world.ask("{ runTemplates(filter: { kind: GUIDED }) { nodes { key name description } } runs { totalCount } }", json!({})).await;
        assert_eq!((page["runTemplates"]["nodes"].as_array().unwrap().len(), &page["runs"]["totalCount"]), (4, &json!(0)));
        for template in page["runTemplates"]["nodes"].as_array().unwrap() {
            let start = "mutation($key: String!) { startGuidedRun(input: { templateKey: $key }) { run { id name status steps { totalCount nodes { status } } } } }";
            let detail = world.ask(start, json!({ "key": template["key"] })).await["startGuidedRun"]["run"].clone();
            assert_eq!((&detail["name"], &detail["status"]), (&template["name"], &json!("IN_PROGRESS")));
            // "Each step follows this flow:" it begins as pending.
            assert!(detail["steps"]["nodes"].as_array().unwrap().iter().all(|step| step["status"] == "PENDING"));
        }
        // "2. In Progress → Step is active": "Shows relevant data/interface based on actionType": of each type what it is for,
        // and nothing else. "Steps automatically fetch relevant data based on actionType and config".
        let records = json!({ "ids": [ids[0]] });
        let (run, steps) = world.own_run(&[
            ("a", "review", json!({ "records": records })),
            ("b", "email", json!({ "records": records, "subject": "s", "body": "b" })),
            ("c", "update_stage", json!({ "records": records })),
            ("d", "schedule", json!({ "records": records })),
            ("e", "create_task", json!({ "records": records, "title": "Ring {{ name }}", "dueIn": "1d" })),
            ("f", "note", json!({ "records": records })),
            ("g", "custom", json!({ "records": records })),
        ], json!({})).await;
        let shown = [json!([]), json!(["mail"]), json!(["stage"]), json!(["slot", "title"]), json!(["dueAt", "title"]), json!([]), json!([])];
        for (step, shown) in steps.iter().zip(shown) {
            world.step_act("startStep", step, json!({})).await;
            let found = step_query(&world, step, "status records { nodes { name } } suggestions { mail { subject } stage slot { startsAt } title dueAt }").await;
            assert_eq!((&found["status"], names(&found["records"])), (&json!("IN_PROGRESS"), vec!["Oak"]));
            let given = found["suggestions"][0].as_object().map(|one| one.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key.clone()).collect::<Vec<_>>());
            let mut given = given.unwrap_or_default();
            given.sort();
            assert_eq!(json!(given), shown, "{found:#}");
        }
        // "Perform the action (review data, send email, etc.)": "Steps can actually perform actions (send emails, update stages,
        // create tasks)".
        let act = "mutation($b: ID!, $c: ID!, $e: ID!, $id: ID!) {
            sendStepEmail(input: { stepId: $b, recordIds: [$id] }) { step { id } }
            updateStepStage(input: { stepId: $c, changes: [{ recordId: $id, stage: \"MOU Signed\" }] }) { step { id } }
            createStepFollowUp(input: { stepId: $e, recordId: $id, title: \"Ring Oak\" }) { followUp { id } }
        }";
        world.ask(act, json!({ "b": steps[1], "c": steps[2], "e": steps[4], "id": ids[0] })).await;
        world.tick(true).await;
        let oak = world.ask("query($id: ID!) { record(id: $id) { stage communications { nodes { status } } followUps { nodes { title } } } }", json!({ "id": ids[0] })).await["record"].clone();
        assert_eq!(oak, json!({ "stage": "MOU Signed", "communications": { "nodes": [{ "status": "SENT" }] }, "followUps": { "nodes": [{ "title": "Ring Oak" }] } }));
        assert_eq!(world.outbox().len(), 1);
        // "3. Completed → Step finished": each with its result.
        for (step, result) in steps.iter().zip([Value::Null, json!({ "emailsSent": 1 }), json!({ "partnershipsUpdated": 1 }), Value::Null, json!({ "followUpsCreated": 1 }), Value::Null, Value::Null]) {
            let done = world.step_act("completeStep", step, json!({})).await;
            assert_eq!((&done["status"], &done["result"]), (&json!("COMPLETED"), &result));
        }
        // "What We're Adding": all of it counts in the end.
        let done = world.complete_run(&run, "All seven").await;
        assert_eq!(done["data"]["completeRun"]["run"]["outcome"], "All seven");
        world.end().await;
    }
}

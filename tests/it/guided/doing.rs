//! "Action Execution" (docs/reference/guided-runs.txt): actions have real effects; each is logged
//! and saved in the step's result, rejected if the step is not in progress, and visible to
//! everybody in the run.

use chrono::Duration;
use serde_json::{Value, json};

use crate::harness::socket::Socket;
use crate::harness::{World, noon};

/// Every action from within a step: the mutation, its payload, its input for a step and a record;
/// and the step's counter.
fn actions(step: &str, record: &str) -> Vec<(&'static str, &'static str, Value, &'static str, i64)> {
    let at = noon() + Duration::days(1);
    vec![
        (
            "sendStepEmail",
            "StepEmailInput",
            json!({ "stepId": step, "recordIds": [record], "subject": "s", "body": "b" }),
            "emailsSent",
            1,
        ),
        (
            "updateStepStage",
            "UpdateStepStageInput",
            json!({ "stepId": step, "changes": [{ "recordId": record, "stage": "MOU Sent" }] }),
            "partnershipsUpdated",
            1,
        ),
        (
            "scheduleStepMeeting",
            "ScheduleStepMeetingInput",
            json!({ "stepId": step, "title": "Call", "startsAt": at, "attendees": [{ "recordId": record }] }),
            "meetingsBooked",
            1,
        ),
        (
            "createStepFollowUp",
            "CreateStepFollowUpInput",
            json!({ "stepId": step, "title": "Ring", "recordId": record }),
            "followUpsCreated",
            1,
        ),
        (
            "addStepNote",
            "AddStepNoteInput",
            json!({ "stepId": step, "text": "Well", "recordIds": [record] }),
            "notesAdded",
            1,
        ),
        (
            "createStepRecords",
            "CreateStepRecordsInput",
            json!({ "stepId": step, "records": [{ "name": "Another" }] }),
            "partnershipsCreated",
            1,
        ),
    ]
}

fn query(mutation: &str, input: &str) -> String {
    let shown = match mutation {
        "scheduleStepMeeting" => "meeting { id step { id } }",
        "createStepFollowUp" => "followUp { id step { id } }",
        _ => "step { id }",
    };
    format!("mutation($input: {input}!) {{ {mutation}(input: $input) {{ {shown} }} }}")
}

/// Creates a partner, and a run with one `custom` step, from which every action is possible.
async fn begun(world: &World) -> (String, String, String) {
    let record =
        world.create("record", json!({ "kind": "partnership", "name": "Oak", "email": "oak@p.example" })).await;
    let (run, steps) = world.own_run(&[("all", "custom", json!({ "create": "partnership" }))], json!({})).await;
    (record, run, steps[0].clone())
}

/// Row counts of the tables that actions write to.
async fn traces(world: &World) -> Vec<i64> {
    let mut all = Vec::new();
    for table in ["activity", "communication", "follow_up", "meeting", "posting", "record"] {
        all.push(world.number(&format!("SELECT COUNT(*) FROM {table}")).await);
    }
    all
}

both! {
    async fn actions_are_logged_automatically_and_results_are_saved_in_step_result(kind) {
        let world = World::without_server(kind, None).await;
        let (record, run, step) = begun(&world).await;
        world.step_act("startStep", &step, json!({})).await;
        let mut expected = serde_json::Map::new();
        for (i, (mutation, named, mut input, counter, by)) in actions(&step, &record).into_iter().enumerate() {
            input["idempotencyKey"] = json!(mutation);
            let query = query(mutation, named);
            let first = world.ask(&query, json!({ "input": input })).await;
            world.tick(true).await;
            expected.insert(counter.to_owned(), json!(by));
            if mutation == "scheduleStepMeeting" {
                expected.insert("invitationsSent".into(), json!(1));
            }
            let now = world.ask("query($id: ID!) { step(id: $id) { result activities(first: 1) { totalCount nodes { kind actor { name } record { id } } } } }", json!({ "id": step })).await["step"].clone();
            assert_eq!(now["result"], Value::Object(expected.clone()), "{mutation}");
            assert_eq!((&now["activities"]["totalCount"], &now["activities"]["nodes"][0]["actor"]["name"]), (&json!(i + 1), &json!("Developer")), "{mutation}");
            if mutation != "createStepRecords" {
                assert_eq!(now["activities"]["nodes"][0]["record"]["id"], record, "{mutation}");
            }
            // Repeated with the same key, nothing is done twice; another input with that key is
            // rejected.
            let before = traces(&world).await;
            let again = world.ask(&query, json!({ "input": input })).await;
            assert_eq!(again, first, "{mutation}");
            world.tick(true).await;
            assert_eq!(traces(&world).await, before, "{mutation}");
            assert_eq!(world.ask("query($id: ID!) { step(id: $id) { result } }", json!({ "id": step })).await["step"]["result"], now["result"]);
        }
        assert_eq!(world.number("SELECT COUNT(*) FROM event WHERE kind = 'activity.recorded'").await, 6);
        assert_eq!(world.outbox().len(), 2, "a mail and an invitation");
        let contacted = world.ask("query($id: ID!) { record(id: $id) { stage lastContactedAt } }", json!({ "id": record })).await;
        assert_eq!(contacted["record"], json!({ "stage": "MOU Sent", "lastContactedAt": noon() .to_rfc3339() }));
        // "A run's summary: what was done in numbers, per step and in all."
        let summary = world.ask("query($id: ID!) { run(id: $id) { summary { total { emailsSent stagesChanged meetingsBooked followUpsCreated followUpsDone notesAdded recordsCreated } steps { step { key } done { emailsSent } } } activities { totalCount } } }", json!({ "id": run })).await["run"].clone();
        assert_eq!(summary["summary"]["total"], json!({ "emailsSent": 1, "stagesChanged": 1, "meetingsBooked": 1, "followUpsCreated": 1, "followUpsDone": 0, "notesAdded": 1, "recordsCreated": 1 }));
        assert_eq!((&summary["summary"]["steps"], &summary["activities"]["totalCount"]), (&json!([{ "step": { "key": "all" }, "done": { "emailsSent": 1 } }]), &json!(6)));
        world.end().await;
    }
}

both! {
    async fn actions_are_refused_clearly_when_the_step_is_not_in_progress(kind) {
        let world = World::without_server(kind, None).await;
        let (record, run, step) = begun(&world).await;
        // Actions are not allowed in steps that no person does.
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let flown = world.launch(&plan).await;
        world.tick(true).await;
        world.until_review(&flown).await;
        let drafting = world.ask("query($id: ID!) { steps(filter: { runIds: [$id] }, first: 9) { nodes { id assignedTo } } }", json!({ "id": flown })).await;
        let drafting = drafting["steps"]["nodes"].as_array().unwrap().iter().find(|step| step["assignedTo"] == "WORKFLOW");
        let drafting = drafting.and_then(|step| step["id"].as_str()).unwrap().to_owned();
        let refuse = async |what: &str, step: &str, words: &str| {
            let before = traces(&world).await;
            for (mutation, named, input, ..) in actions(step, &record) {
                let (code, told) = world.refused(&query(mutation, named), json!({ "input": input })).await;
                assert!(code == "CONFLICT" && told.contains(words), "{what}, {mutation}: {code}: {told}");
            }
            assert_eq!(traces(&world).await, before, "{what}");
        };
        refuse("pending", &step, "start it first").await;
        refuse("the engine's", &drafting, "done by a worker").await;
        world.step_act("startStep", &step, json!({})).await;
        world.act("pauseRun", "run", json!({ "id": run })).await;
        refuse("paused", &step, "its run is PAUSED").await;
        world.act("resumeRun", "run", json!({ "id": run })).await;
        world.step_act("completeStep", &step, json!({})).await;
        refuse("completed", &step, "it is COMPLETED: reset or restart it").await;
        world.step_act("resetStep", &step, json!({})).await;
        refuse("reset", &step, "start it first").await;
        world.step_act("skipStep", &step, json!({})).await;
        refuse("skipped", &step, "it is SKIPPED").await;
        world.complete_run(&run, "").await;
        refuse("ended", &step, "its run is COMPLETED").await;
        // An unknown step is not found, and one of another kind can't create records.
        let nowhere = entity::id::StepId::new().to_string();
        for (mutation, named, input, ..) in actions(&nowhere, &record) {
            assert_eq!(world.refused(&query(mutation, named), json!({ "input": input })).await.0, "NOT_FOUND", "{mutation}");
        }
        let (_, steps) = world.own_run(&[("look", "review", json!({}))], json!({})).await;
        world.step_act("startStep", &steps[0], json!({})).await;
        let create = actions(&steps[0], &record).pop().unwrap();
        let (code, told) = world.refused(&query(create.0, create.1), json!({ "input": create.2 })).await;
        assert!(code == "CONFLICT" && told.contains("type custom"), "{told}");
        world.end().await;
    }
}

both! {
    async fn bad_input_to_an_action_names_the_field_and_does_nothing(kind) {
        let world = World::without_server(kind, None).await;
        let (record, _, step) = begun(&world).await;
        world.step_act("startStep", &step, json!({})).await;
        let before = traces(&world).await;
        let tomorrow = noon() + Duration::days(1);
        for (mutation, named, more, field) in [
            ("updateStepStage", "UpdateStepStageInput", json!({ "changes": [] }), "changes"),
            ("updateStepStage", "UpdateStepStageInput", json!({ "changes": [{ "recordId": record, "stage": "Cold" }, { "recordId": record, "stage": "Cold" }] }), "changes[1].recordId"),
            ("updateStepStage", "UpdateStepStageInput", json!({ "changes": [{ "recordId": record, "stage": "" }] }), "changes[0].stage"),
            ("updateStepStage", "UpdateStepStageInput", json!({ "changes": [{ "recordId": record, "stage": "Nowhere" }] }), "changes[0].stage"),
            ("scheduleStepMeeting", "ScheduleStepMeetingInput", json!({ "title": "", "startsAt": tomorrow, "attendees": [{ "recordId": record }] }), "title"),
            ("scheduleStepMeeting", "ScheduleStepMeetingInput", json!({ "title": "t", "startsAt": noon() - Duration::days(1), "attendees": [{ "recordId": record }] }), "startsAt"),
            ("scheduleStepMeeting", "ScheduleStepMeetingInput", json!({ "title": "t", "startsAt": tomorrow, "minutes": 0, "attendees": [{ "recordId": record }] }), "minutes"),
            ("scheduleStepMeeting", "ScheduleStepMeetingInput", json!({ "title": "t", "startsAt": tomorrow, "timezone": "Mars/Base", "attendees": [{ "recordId": record }] }), "timezone"),
            ("scheduleStepMeeting", "ScheduleStepMeetingInput", json!({ "title": "t", "startsAt": tomorrow, "attendees": [] }), "attendees"),
            ("scheduleStepMeeting", "ScheduleStepMeetingInput", json!({ "title": "t", "startsAt": tomorrow, "attendees": [{ "email": "nobody" }] }), "attendees[0].email"),
            ("createStepFollowUp", "CreateStepFollowUpInput", json!({ "title": " " }), "title"),
            ("addStepNote", "AddStepNoteInput", json!({ "text": " \n " }), "text"),
            ("createStepRecords", "CreateStepRecordsInput", json!({ "records": [] }), "records"),
        ] {
            let mut input = json!({ "stepId": step });
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let answer = world.post(&query(mutation, named), json!({ "input": input })).await;
            let told = &answer["errors"][0]["extensions"];
            assert_eq!((&told["code"], &told["field"]), (&json!("BAD_USER_INPUT"), &json!(field)), "{mutation} {more}: {answer:#}");
        }
        assert_eq!(traces(&world).await, before);
        world.end().await;
    }
}

both! {
    async fn follow_ups_go_by_their_law(kind) {
        let world = World::new(kind).await;
        let (record, run, step) = begun(&world).await;
        world.step_act("startStep", &step, json!({})).await;
        let me = world.ask("{ viewer { member { id } } }", json!({})).await["viewer"]["member"]["id"].clone();
        let create = "mutation($input: CreateStepFollowUpInput!) { createStepFollowUp(input: $input) { followUp { id status overdue assignee { id } availableActions { action allowed } } } }";
        let due = noon() + Duration::hours(1);
        let input = json!({ "stepId": step, "title": "Ring Oak", "recordId": record, "dueAt": due, "assigneeId": me });
        let made = world.ask(create, json!({ "input": input })).await["createStepFollowUp"]["followUp"].clone();
        assert_eq!((&made["status"], &made["overdue"], &made["assignee"]["id"]), (&json!("OPEN"), &json!(false), &me));
        let (code, _) = world.refused(create, json!({ "input": { "stepId": step, "title": "x", "assigneeId": entity::id::MemberId::new().to_string() } })).await;
        assert_eq!(code, "NOT_FOUND");
        let act = async |verb: &str| {
            let query = format!("mutation($id: ID!) {{ {verb}(input: {{ id: $id }}) {{ followUp {{ status closedAt overdue }} }} }}");
            world.post(&query, json!({ "id": made["id"] })).await
        };
        let overdue = "{ followUps(filter: { overdue: true, mine: true }) { totalCount nodes { id } } }";
        // Overdue, with an event; cancelled, it is no longer overdue; reopened, it is overdue with
        // a second event; done is final.
        let told = async || world.number("SELECT COUNT(*) FROM event WHERE kind = 'follow_up.overdue'").await;
        assert_eq!(world.ask(overdue, json!({})).await["followUps"]["totalCount"], 0);
        world.clock.set(noon() + Duration::hours(2));
        world.db.wake();
        let query = "query($id: ID!) { followUp(id: $id) { overdueAt } }";
        world.until("it to be told", query, json!({ "id": made["id"] }), |data| data["followUp"]["overdueAt"].is_string()).await;
        assert_eq!((told().await, world.ask(overdue, json!({})).await["followUps"]["totalCount"].clone()), (1, json!(1)));
        assert_eq!(act("cancelFollowUp").await["data"]["cancelFollowUp"]["followUp"]["status"], "CANCELLED");
        assert_eq!(world.ask(overdue, json!({})).await["followUps"]["totalCount"], 0);
        for verb in ["cancelFollowUp", "completeFollowUp"] {
            assert_eq!(act(verb).await["errors"][0]["extensions"]["code"], "INVALID_TRANSITION", "{verb}");
        }
        let reopened = act("reopenFollowUp").await["data"]["reopenFollowUp"]["followUp"].clone();
        assert_eq!((&reopened["status"], &reopened["closedAt"]), (&json!("OPEN"), &Value::Null));
        world.db.wake();
        world.until("it to be told again", query, json!({ "id": made["id"] }), |data| data["followUp"]["overdueAt"].is_string()).await;
        assert_eq!(told().await, 2);
        // A follow-up stays open after the end of its run.
        world.step_act("completeStep", &step, json!({})).await;
        world.complete_run(&run, "").await;
        assert_eq!(act("completeFollowUp").await["data"]["completeFollowUp"]["followUp"]["status"], "DONE");
        let done = world.ask("query($id: ID!) { step(id: $id) { result } record(id: $record) { timeline { nodes { activity { kind } } } } }".replace("($id: ID!)", "($id: ID!, $record: ID!)").as_str(), json!({ "id": step, "record": record })).await;
        assert_eq!(done["step"]["result"], json!({ "followUpsCreated": 1, "followUpsDone": 1 }));
        assert_eq!(done["record"]["timeline"]["nodes"][0]["activity"]["kind"], "FOLLOW_UP_DONE");
        world.end().await;
    }
}

both! {
    async fn stages_and_their_order_are_the_orgs(kind) {
        let world = World::without_server(kind, None).await;
        let set = "mutation($kind: String!, $stages: [String!]!) { setStages(input: { recordKind: $kind, stages: $stages }) { pipeline { recordKind stages own } } }";
        let own = world.ask(set, json!({ "kind": "partnership", "stages": ["Cold", "Warm", "Hot"] })).await;
        assert_eq!(own["setStages"]["pipeline"], json!({ "recordKind": "partnership", "stages": ["Cold", "Warm", "Hot"], "own": true }));
        let record = world.create("record", json!({ "kind": "partnership", "name": "Oak", "stage": "Cold" })).await;
        let (_, steps) = world.own_run(&[("move", "update_stage", json!({ "records": { "filter": { "kind": { "eq": "partnership" } } } }))], json!({})).await;
        world.step_act("startStep", &steps[0], json!({})).await;
        let next = async || world.ask("query($id: ID!) { step(id: $id) { suggestions { stage } } }", json!({ "id": steps[0] })).await["step"]["suggestions"][0]["stage"].clone();
        assert_eq!(next().await, "Warm");
        let update = "mutation($step: ID!, $id: ID!, $stage: String!) { updateStepStage(input: { stepId: $step, changes: [{ recordId: $id, stage: $stage }] }) { records { stage } step { result } } }";
        let answer = world.post(update, json!({ "step": steps[0], "id": record, "stage": "MOU Sent" })).await;
        assert_eq!((&answer["errors"][0]["extensions"]["code"], &answer["errors"][0]["extensions"]["allowed"]), (&json!("BAD_USER_INPUT"), &json!(["Cold", "Warm", "Hot"])));
        // Already in that state: nothing is done or counted.
        let same = world.ask(update, json!({ "step": steps[0], "id": record, "stage": "Cold" })).await["updateStepStage"].clone();
        assert_eq!(same, json!({ "records": [{ "stage": "Cold" }], "step": { "result": null } }));
        world.ask(update, json!({ "step": steps[0], "id": record, "stage": "Hot" })).await;
        assert_eq!(next().await, Value::Null, "behind the last there is none");
        let moved = world.sql("SELECT payload FROM event WHERE kind = 'record.stage_changed'".replace("payload", if kind == crate::harness::Kind::Sqlite { "payload" } else { "payload::text" }).as_str()).await;
        assert!(moved.len() == 1 && moved[0][0].contains("Cold") && moved[0][0].contains("Hot"), "{moved:?}");
        // An invalid name and a duplicate; then the built-in stages again.
        for (stages, field) in [(json!(["A", " "]), "stages[1]"), (json!(["A", "A"]), "stages[1]")] {
            let answer = world.post(set, json!({ "kind": "partnership", "stages": stages })).await;
            assert_eq!((&answer["errors"][0]["extensions"]["code"], &answer["errors"][0]["extensions"]["field"]), (&json!("BAD_USER_INPUT"), &json!(field)));
        }
        let plain = world.ask(set, json!({ "kind": "partnership", "stages": [] })).await["setStages"]["pipeline"].clone();
        assert_eq!((&plain["own"], &plain["stages"][3]), (&json!(false), &json!("MOU Sent")));
        assert_eq!(world.ask(set, json!({ "kind": "order", "stages": [] })).await["setStages"]["pipeline"], Value::Null);
        world.end().await;
    }
}

both! {
    async fn two_clients_in_one_run_see_each_others_changes_and_actions(kind) {
        let world = World::new(kind).await;
        let (record, run, step) = begun(&world).await;
        let changes = "subscription($id: ID!, $after: String) { stepStatusChanged(runId: $id, after: $after) { from to step { id } } }";
        let doings = "subscription($id: ID!, $after: String) { runActivity(runId: $id, after: $after) { cursor kind summary activity { record { id } } } }";
        let mut clients = [Socket::open(world.address).await, Socket::open(world.address).await];
        let now = crate::harness::cursor::at(sortie::kernel::event::head(&world.db, &world.viewer).await.unwrap());
        for client in &mut clients {
            client.subscribe("changes", changes, json!({ "id": run, "after": now })).await;
            client.subscribe("doings", doings, json!({ "id": run, "after": now })).await;
        }
        // Actions in another run are not delivered.
        let (_, others) = world.own_run(&[("x", "note", json!({}))], json!({})).await;
        world.step_act("startStep", &others[0], json!({})).await;
        let note = "mutation($step: ID!, $ids: [ID!], $text: String!) { addStepNote(input: { stepId: $step, recordIds: $ids, text: $text }) { step { id } } }";
        world.ask(note, json!({ "step": others[0], "text": "elsewhere" })).await;
        world.step_act("startStep", &step, json!({})).await;
        world.ask(note, json!({ "step": step, "ids": [record], "text": "first" })).await;
        world.ask(note, json!({ "step": step, "text": "second" })).await;
        world.step_act("completeStep", &step, json!({})).await;
        let mut cursor = Value::Null;
        for client in &mut clients {
            let (mut moved, mut done) = (Vec::new(), Vec::new());
            while moved.len() < 2 || done.len() < 2 {
                let message = client.message().await;
                let data = &message["payload"]["data"];
                match message["id"].as_str().unwrap() {
                    "changes" => moved.push((data["stepStatusChanged"]["from"].clone(), data["stepStatusChanged"]["to"].clone())),
                    _ => done.push(data["runActivity"].clone()),
                }
            }
            assert_eq!(moved, [(json!("PENDING"), json!("IN_PROGRESS")), (json!("IN_PROGRESS"), json!("COMPLETED"))]);
            assert_eq!(done.iter().map(|one| (one["summary"].as_str().unwrap(), one["activity"]["record"]["id"].as_str())).collect::<Vec<_>>(), [("first", Some(record.as_str())), ("second", None)]);
            cursor = done[0]["cursor"].clone();
        }
        // A disconnected subscriber resumes after the last event it received.
        let mut back = Socket::open(world.address).await;
        let resumed = "subscription($id: ID!, $after: String) { runActivity(runId: $id, after: $after) { summary } }";
        back.subscribe("back", resumed, json!({ "id": run, "after": cursor })).await;
        assert_eq!(back.message().await["payload"]["data"]["runActivity"]["summary"], "second");
        back.subscribe("nowhere", doings, json!({ "id": "run_01h455vb4pex5vsknk084sn02q" })).await;
        let refused = back.message().await;
        assert_eq!((&refused["id"], &refused["payload"][0]["extensions"]["code"]), (&json!("nowhere"), &json!("NOT_FOUND")));
        world.end().await;
    }
}

both! {
    async fn scheduled_guided_work_that_can_not_begin_says_why(kind) {
        let world = World::without_server(kind, None).await;
        let yaml = "phases:\n  - name: Day\n    tasks:\n      - name: All\n        steps:\n          - { name: Look, type: review, assignedTo: human, trigger: manual, config: { records: { linked: true } } }\n";
        let create = "mutation($input: CreateRunTemplateInput!) { createRunTemplate(input: $input) { runTemplate { id } } }";
        world.ask(create, json!({ "input": { "name": "Daily look", "kind": "GUIDED", "yaml": yaml } })).await;
        let record = world.create("record", json!({ "kind": "partnership", "name": "Oak" })).await;
        let query = "mutation($input: ScheduleGuidedRunInput!) { scheduleGuidedRun(input: $input) { run { id } } }";
        let input = json!({ "templateKey": "daily-look", "cron": "0 9 * * *", "timezone": "UTC", "linkedRecordIds": [record] });
        let fine = world.ask(query, json!({ "input": input })).await["scheduleGuidedRun"]["run"]["id"].as_str().unwrap().to_owned();
        // A template based on another one, which has lost the part that it overrides.
        let base = world.ask("{ runTemplates(filter: { keys: [\"daily-look\"] }) { nodes { id } } }", json!({})).await["runTemplates"]["nodes"][0]["id"].clone();
        let overrides = json!({ "phases.day.tasks.all.steps.look.name": "Look twice" });
        world.ask(create, json!({ "input": { "name": "Look twice", "baseId": base, "overrides": overrides } })).await;
        let input = json!({ "templateKey": "look-twice", "at": "2026-11-03T09:00:00Z" });
        let gone = world.ask(query, json!({ "input": input })).await["scheduleGuidedRun"]["run"]["id"].as_str().unwrap().to_owned();
        let update = "mutation($id: ID!, $yaml: String!) { updateRunTemplate(input: { id: $id, yaml: $yaml }) { runTemplate { id } } }";
        world.ask(update, json!({ "id": base, "yaml": yaml.replace("Look", "Check") })).await;
        world.clock.set("2026-11-03T09:00:00Z".parse().unwrap());
        world.tick(true).await;
        let failed = world.until_run(&gone, "FAILED").await;
        assert!(failed["failure"].as_str().unwrap().contains("Look twice could not begin") && failed["failure"].as_str().unwrap().contains("steps.look"), "{failed}");
        world.until_run(&fine, "IN_PROGRESS").await;
        let shown = world.ask("query($id: ID!) { run(id: $id) { steps { nodes { records { nodes { name } } } } } }", json!({ "id": fine })).await;
        assert_eq!(shown["run"]["steps"]["nodes"][0]["records"]["nodes"], json!([{ "name": "Oak" }]));
        assert_eq!(world.ask("{ runs(filter: { statuses: [SCHEDULED], types: [GUIDED] }) { totalCount } }", json!({})).await["runs"]["totalCount"], 1);
        world.end().await;
    }
}

//! `sendStepEmail`: mail that a person sends from within a step, through the same ledger,
//! suppression and limits as a campaign's; and its outcome on the step.

use chrono::Duration;
use serde_json::{Value, json};

use crate::harness::sink::Sink;
use crate::harness::{World, noon};

const SEND: &str = "mutation($input: StepEmailInput!) { sendStepEmail(input: $input) { communications { id toAddress status } step { status } } }";

/// Creates partners with these addresses (empty: no address); returns their ids.
async fn people(world: &World, addresses: &[&str]) -> Vec<String> {
    let mut ids = Vec::new();
    for (i, address) in addresses.iter().enumerate() {
        let mut input =
            json!({ "kind": "partnership", "name": format!("P{i}"), "attributes": { "contact": format!("Dr {i}") } });
        if !address.is_empty() {
            input["email"] = json!(address);
        }
        ids.push(world.create("record", input).await);
    }
    ids
}

/// Starts a run with one `email` step; returns the run and the step.
async fn writing(world: &World) -> (String, String) {
    let config = json!({ "subject": "Hello {{ name }}", "body": "Dear {{ contact }}" });
    let (run, steps) = world.own_run(&[("write", "email", config)], json!({})).await;
    world.step_act("startStep", &steps[0], json!({})).await;
    (run, steps[0].clone())
}

async fn result(world: &World, step: &str) -> Value {
    world.ask("query($id: ID!) { step(id: $id) { result } }", json!({ "id": step })).await["step"]["result"].clone()
}

async fn on_way(world: &World, run: &str) -> Value {
    world.ask("query($id: ID!) { run(id: $id) { messagesOnWay } }", json!({ "id": run })).await["run"]["messagesOnWay"]
        .clone()
}

both! {
    async fn steps_can_actually_send_emails_from_a_template_or_free_text(kind) {
        let world = World::without_server(kind, None).await;
        let ids = people(&world, &["a@p.example", "b@p.example"]).await;
        let template = world.create("messageTemplate", json!({ "name": "Spring", "subject": "Spring, {{ name }}", "body": "Dear {{ contact }},\nspring is here. {{ sender.name }}" })).await;
        let by_phone = world.create("messageTemplate", json!({ "name": "Script", "channel": "PHONE", "body": "Hello" })).await;
        let (run, step) = writing(&world).await;
        let ways = [
            (json!({}), "Hello P0"),
            (json!({ "messageTemplate": "Spring" }), "Spring, P0"),
            (json!({ "messageTemplate": template }), "Spring, P0"),
            (json!({ "subject": "Free", "body": "text" }), "Free"),
        ];
        for (i, (more, subject)) in ways.iter().enumerate() {
            let mut input = json!({ "stepId": step, "recordIds": ids, "idempotencyKey": format!("way {i}"), "again": i > 0 });
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            for _ in 0..2 {
                let sent = world.ask(SEND, json!({ "input": input })).await["sendStepEmail"]["communications"].clone();
                let to: Vec<&str> = sent.as_array().unwrap().iter().map(|one| one["toAddress"].as_str().unwrap()).collect();
                assert_eq!(to, ["a@p.example", "b@p.example"], "to one or many, and again: the same");
            }
            assert_eq!(on_way(&world, &run).await, 2);
            world.tick(true).await;
            assert_eq!((on_way(&world, &run).await, result(&world, &step).await), (json!(0), json!({ "emailsSent": 2 * (i + 1) })));
            let subjects: Vec<String> = world.outbox().iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
            assert!(subjects.iter().any(|mail| mail.contains(&format!("Subject: {subject}\r\n"))), "{subject}");
        }
        assert_eq!(world.outbox().len(), 8);
        // "Actions are logged automatically": an activity with its event for each, and the records were contacted.
        assert_eq!(world.number("SELECT COUNT(*) FROM activity WHERE kind = 'EMAIL_SENT'").await, 8);
        assert_eq!(world.number("SELECT COUNT(*) FROM event WHERE kind = 'activity.recorded'").await, 8);
        assert_eq!(world.number("SELECT COUNT(*) FROM record WHERE last_contacted_at IS NOT NULL").await, 2);
        // Mail that can't be sent is rejected before anything is written: all or none.
        let nobody = people(&world, &[""]).await[0].clone();
        let blank = world.create("record", json!({ "kind": "partnership", "name": "No contact", "email": "c@p.example" })).await;
        let long: Vec<String> = (0..501).map(|_| entity::id::RecordId::new().to_string()).collect();
        for (more, code, field, words) in [
            (json!({ "recordIds": [ids[0], nobody] }), "BAD_USER_INPUT", "recordIds[1]", "P0: it has no mail address"),
            (json!({ "recordIds": [ids[0], blank] }), "BAD_USER_INPUT", "recordIds[1]", "contact"),
            (json!({ "recordIds": [ids[0], ids[0]] }), "BAD_USER_INPUT", "recordIds[1]", "twice"),
            (json!({ "recordIds": [] }), "BAD_USER_INPUT", "recordIds", "at least one record"),
            (json!({ "recordIds": long }), "LIMIT_EXCEEDED", "recordIds", "at most 500"),
            (json!({ "recordIds": [entity::id::RecordId::new().to_string()] }), "NOT_FOUND", "", "record"),
            (json!({ "subject": "Only" }), "BAD_USER_INPUT", "body", "subject and body"),
            (json!({ "subject": "s", "body": "{{ oops" }), "BAD_USER_INPUT", "body", "body"),
            (json!({ "messageTemplate": "Autumn" }), "NOT_FOUND", "", "Autumn"),
            (json!({ "messageTemplate": by_phone }), "CONFLICT", "", "PHONE"),
        ] {
            let mut input = json!({ "stepId": step, "recordIds": ids });
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let answer = world.post(SEND, json!({ "input": input })).await;
            let error = &answer["errors"][0];
            assert_eq!((&error["extensions"]["code"], error["extensions"]["field"].as_str().unwrap_or_default()), (&json!(code), field), "{answer:#}");
            assert!(error["message"].as_str().unwrap().contains(words), "{error:#}");
        }
        assert_eq!(world.number("SELECT COUNT(*) FROM communication").await, 8);
        world.end().await;
    }
}

both! {
    /// A person asked for it to be sent; a skipped step withdraws nothing, before its first mail is
    /// settled or after.
    async fn mail_goes_out_though_its_step_is_skipped_and_restarted(kind) {
        let world = World::without_server(kind, None).await;
        let ids = people(&world, &["a@p.example", "b@p.example", "c@p.example"]).await;
        let (run, step) = writing(&world).await;
        let send = |ids: &[String], key: &str| json!({ "input": { "stepId": step, "recordIds": ids, "idempotencyKey": key } });
        world.ask(SEND, send(&ids[..1], "first")).await;
        world.step_act("skipStep", &step, json!({ "reason": "enough" })).await;
        assert_eq!(on_way(&world, &run).await, 1);
        world.step_act("restartStep", &step, json!({})).await;
        world.tick(true).await;
        assert_eq!((on_way(&world, &run).await, world.outbox().len()), (json!(0), 1));
        world.step_act("startStep", &step, json!({})).await;
        world.ask(SEND, send(&ids[1..], "others")).await;
        world.step_act("skipStep", &step, json!({ "reason": "enough" })).await;
        world.tick(true).await;
        assert_eq!((on_way(&world, &run).await, world.outbox().len()), (json!(0), 3));
        assert_eq!(world.number("SELECT COUNT(*) FROM communication WHERE status <> 'SENT'").await, 0);
        world.end().await;
    }
}

both! {
    async fn who_asks_to_be_left_alone_is_not_written_to_from_a_step_either(kind) {
        let world = World::without_server(kind, None).await;
        let ids = people(&world, &["a@p.example", "b@p.example", "c@p.example"]).await;
        let (run, step) = writing(&world).await;
        let suppress = "mutation { suppressAddress(input: { channel: EMAIL, address: \"A@P.example\", reason: \"bounced\" }) { suppression { id } } }";
        world.ask(suppress, json!({})).await;
        let unsubscribe = "mutation($id: ID!) { updateRecord(input: { id: $id, unsubscribed: true }) { record { id } } }";
        let preview = "query($input: PreviewStepEmailInput!) { previewStepEmail(input: $input) { suppressed } }";
        let asked = json!({ "input": { "stepId": step, "recordIds": ids } });
        world.ask(SEND, asked.clone()).await;
        // One of them opts out between the request and the hand-over.
        world.ask(unsubscribe, json!({ "id": ids[1] })).await;
        world.tick(true).await;
        assert_eq!(result(&world, &step).await, json!({ "emailsSent": 1, "emailsSuppressed": 2 }));
        assert_eq!((world.outbox().len(), on_way(&world, &run).await), (1, json!(0)));
        let seen = world.ask(preview, asked).await["previewStepEmail"].clone();
        assert_eq!(seen.as_array().unwrap().iter().map(|one| one["suppressed"].is_string()).collect::<Vec<_>>(), [true, true, false]);
        assert_eq!(world.number("SELECT COUNT(*) FROM communication WHERE status = 'SUPPRESSED'").await, 2);
        assert_eq!(world.number("SELECT COUNT(*) FROM activity").await, 1);
        assert_eq!(world.number("SELECT COUNT(*) FROM record WHERE last_contacted_at IS NOT NULL").await, 1);
        world.end().await;
    }
}

both! {
    async fn what_the_mail_server_refuses_is_tried_again_or_counted_as_failed(kind) {
        let sink = Sink::start().await;
        let world = World::without_server(kind, Some(sink.url())).await;
        let ids = people(&world, &["grey@p.example", "refused@p.example", "fine@p.example", "busy@p.example"]).await;
        let (run, step) = writing(&world).await;
        world.ask(SEND, json!({ "input": { "stepId": step, "recordIds": ids } })).await;
        world.tick(true).await;
        assert_eq!((result(&world, &step).await, on_way(&world, &run).await), (json!({ "emailsSent": 1, "emailsFailed": 1 }), json!(2)));
        // The step can be completed meanwhile, and messages settled later still count. The run
        // can't be completed.
        world.step_act("completeStep", &step, json!({ "result": { "note": "all written to" } })).await;
        let refused = world.complete_run(&run, "done").await;
        assert_eq!((&refused["errors"][0]["extensions"]["code"], &refused["errors"][0]["extensions"]["messagesOnWay"]), (&json!("CONFLICT"), &json!(2)));
        let told = world.step_refused("resetStep", &step, json!({})).await;
        assert!(told["extensions"]["code"] == "CONFLICT" && told["message"].as_str().unwrap().contains("in flight"), "{told:#}");
        for minute in [1, 10, 30, 60, 120, 240, 25 * 60] {
            world.clock.set(noon() + Duration::minutes(minute));
            world.tick(true).await;
        }
        assert_eq!(result(&world, &step).await, json!({ "emailsSent": 2, "emailsFailed": 2, "note": "all written to" }));
        assert_eq!((sink.kept().len(), on_way(&world, &run).await), (2, json!(0)));
        let failed = world.sql("SELECT to_address, error FROM communication WHERE status = 'FAILED' ORDER BY to_address").await;
        assert_eq!(failed.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["busy@p.example", "refused@p.example"]);
        assert!(failed[0][1].contains("451") && failed[1][1].contains("550"), "{failed:?}");
        assert_eq!(world.complete_run(&run, "done").await["data"]["completeRun"]["run"]["status"], "COMPLETED");
        world.end().await;
    }
}

both! {
    async fn a_person_says_what_became_of_mail_whose_fate_is_unknown(kind) {
        let sink = Sink::start().await;
        let world = World::without_server(kind, Some(sink.url())).await;
        let ids = people(&world, &["dropdot@a.example", "dropdot@b.example", "garbage@c.example"]).await;
        let (run, step) = writing(&world).await;
        world.ask(SEND, json!({ "input": { "stepId": step, "recordIds": ids } })).await;
        world.tick(true).await;
        assert_eq!((result(&world, &step).await, on_way(&world, &run).await), (Value::Null, json!(3)));
        assert_eq!(world.number("SELECT COUNT(*) FROM posting").await, 0, "nothing is handed over again by itself");
        world.step_act("completeStep", &step, json!({})).await;
        let refused = world.complete_run(&run, "done").await;
        assert!(refused["errors"][0]["message"].as_str().unwrap().contains("unknown"), "{refused:#}");
        let unknown = world.ask("query($id: ID!) { run(id: $id) { waitingFor { code } communications(statuses: [UNKNOWN]) { nodes { id toAddress } } } }", json!({ "id": run })).await["run"].clone();
        assert_eq!(unknown["waitingFor"], json!([{ "code": "MESSAGES" }]));
        let resolve = "mutation($id: ID!, $to: Resolution!) { resolveCommunication(input: { id: $id, resolution: $to }) { communication { status } } }";
        for message in unknown["communications"]["nodes"].as_array().unwrap() {
            let (to, status) = match message["toAddress"].as_str().unwrap() {
                "dropdot@a.example" => ("SENT", "SENT"),
                "dropdot@b.example" => ("NOT_SENT", "FAILED"),
                _ => ("SEND_AGAIN", "APPROVED"),
            };
            let done = world.ask(resolve, json!({ "id": message["id"], "to": to })).await;
            assert_eq!(done["resolveCommunication"]["communication"]["status"], status);
        }
        assert_eq!((result(&world, &step).await, on_way(&world, &run).await), (json!({ "emailsSent": 1, "emailsFailed": 1 }), json!(1)));
        world.tick(true).await;
        assert_eq!(sink.kept().iter().filter(|mail| mail.to == "garbage@c.example").count(), 2, "as a person said");
        let last = world.ask("query($id: ID!) { run(id: $id) { communications(statuses: [UNKNOWN]) { nodes { id } } } }", json!({ "id": run })).await["run"]["communications"]["nodes"][0]["id"].clone();
        world.ask(resolve, json!({ "id": last, "to": "SENT" })).await;
        assert_eq!((result(&world, &step).await, on_way(&world, &run).await), (json!({ "emailsSent": 2, "emailsFailed": 1 }), json!(0)));
        assert_eq!(world.complete_run(&run, "done").await["data"]["completeRun"]["run"]["status"], "COMPLETED");
        world.end().await;
    }
}

both! {
    async fn a_paused_run_holds_its_mail_and_a_cancelled_one_sends_none(kind) {
        let world = World::without_server(kind, None).await;
        let ids = people(&world, &["a@p.example", "b@p.example"]).await;
        let (run, step) = writing(&world).await;
        world.ask(SEND, json!({ "input": { "stepId": step, "recordIds": [ids[0]] } })).await;
        world.act("pauseRun", "run", json!({ "id": run })).await;
        world.tick(true).await;
        assert_eq!((world.outbox().len(), on_way(&world, &run).await), (0, json!(1)));
        let (code, told) = world.refused(SEND, json!({ "input": { "stepId": step, "recordIds": [ids[1]] } })).await;
        assert!(code == "CONFLICT" && told.contains("PAUSED"), "{told}");
        world.act("resumeRun", "run", json!({ "id": run })).await;
        world.tick(true).await;
        assert_eq!((world.outbox().len(), on_way(&world, &run).await), (1, json!(0)));
        world.ask(SEND, json!({ "input": { "stepId": step, "recordIds": [ids[1]] } })).await;
        world.act("cancelRun", "run", json!({ "id": run })).await;
        world.tick(true).await;
        assert_eq!((world.outbox().len(), on_way(&world, &run).await), (1, json!(0)));
        assert_eq!(world.sql("SELECT status, COUNT(*) FROM communication GROUP BY status ORDER BY status").await, [["CANCELLED", "1"], ["SENT", "1"]]);
        assert_eq!(world.number("SELECT COUNT(*) FROM posting").await, 0);
        world.end().await;
    }
}

both! {
    async fn mail_of_people_keeps_to_the_limits_of_the_channel(kind) {
        let sink = Sink::start().await;
        let world = World::with_mail_rate(kind, Some(sink.url()), 6).await;
        let ids = people(&world, &["a@p.example", "b@p.example", "c@p.example"]).await;
        let (_, step) = writing(&world).await;
        world.ask(SEND, json!({ "input": { "stepId": step, "recordIds": ids } })).await;
        let mut sent = Vec::new();
        for second in [0, 9, 10, 20] {
            world.clock.set(noon() + Duration::seconds(second));
            world.tick(true).await;
            sent.push(sink.kept().len());
        }
        assert_eq!(sent, [1, 1, 2, 3]);
        assert_eq!(result(&world, &step).await, json!({ "emailsSent": 3 }));
        world.end().await;
    }
}

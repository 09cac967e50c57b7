//! The ledger: failed sends are retried, opt-outs are honoured, and the mail server gets no more
//! than its rate limit.

use serde_json::{Value, json};

use crate::harness::sink::Sink;
use crate::harness::{World, noon};

const RETRY: &str = "mutation($id: ID!) { retryRun(input: { id: $id }) { run { status failure endedAt } } }";

async fn fates(world: &World) -> Vec<Vec<String>> {
    world
        .sql("SELECT outcome, reason, COUNT(*) FROM run_record GROUP BY outcome, reason ORDER BY outcome, reason")
        .await
}

async fn reviewed(world: &World, run: &str) {
    world.tick(true).await;
    let review = world.until_review(run).await;
    world.act("approveStep", "step", json!({ "id": review })).await;
}

both! {
    async fn a_failed_run_goes_on_where_it_failed(kind) {
        let sink = Sink::start().await;
        let world = World::without_server(kind, Some(sink.url())).await;
        let plan = world.plan("EMAIL", 3).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        // First nothing can be drafted …
        let attributes = "mutation($id: ID!, $to: JSON!) { updateRecord(input: { id: $id, attributes: $to }) { record { id } } }";
        for id in &plan.records {
            world.ask(attributes, json!({ "id": id, "to": {} })).await;
        }
        world.tick(true).await;
        assert!(world.until_run(&run, "FAILED").await["failure"].as_str().unwrap().contains("Processing"));
        for id in &plan.records {
            world.ask(attributes, json!({ "id": id, "to": { "first_name": "Ada", "company": "Acme" } })).await;
        }
        let retried = world.ask(RETRY, json!({ "id": run })).await["retryRun"]["run"].clone();
        assert_eq!(retried, json!({ "status": "IN_PROGRESS", "failure": null, "endedAt": null }));
        reviewed(&world, &run).await;
        // … then nobody can be reached.
        sink.refuse("example.com");
        world.tick(true).await;
        assert!(world.until_run(&run, "FAILED").await["failure"].as_str().unwrap().contains("In-Flight"));
        assert_eq!(fates(&world).await.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["FAILED"]);
        sink.refuse("nobody");
        world.ask(RETRY, json!({ "id": run })).await;
        world.tick(true).await;
        assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "3 of 3 sent, 0 failed, 0 skipped");
        assert_eq!(sink.kept().len(), 3);
        // Completed work was not repeated: each draft failed once and was done once, each review
        // was done once.
        let drafts = world.sql("SELECT kind, attempt_count, COUNT(*) FROM step GROUP BY kind, attempt_count ORDER BY kind").await;
        assert_eq!(drafts, [["draft_message", "2", "3"], ["review_messages", "1", "1"], ["send_message", "2", "3"], ["summarise", "1", "1"]]);
        world.end().await;
    }
}

both! {
    async fn a_failed_step_is_done_again_while_its_run_is_at_work(kind) {
        let sink = Sink::start().await;
        let world = World::without_server(kind, Some(sink.url())).await;
        let plan = world.plan("EMAIL", 2).await;
        let paul = json!({ "kind": "lead", "externalId": "P", "name": "Paul", "email": "paul@refused.example", "attributes": { "first_name": "Paul", "company": "Acme" } });
        world.create("record", paul).await;
        let busy = json!({ "kind": "lead", "externalId": "B", "name": "Bea", "email": "busy@example.com", "attributes": { "first_name": "Bea", "company": "Acme" } });
        world.create("record", busy).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        reviewed(&world, &run).await;
        sink.refuse("refused.example");
        world.tick(true).await;
        // Bea's mail is waiting for its next attempt, so the run is in progress; Paul's has failed
        // permanently.
        let steps = "query($id: ID!) { run(id: $id) { status steps(filter: { types: [\"send_message\"], statuses: [FAILED] }) { nodes { id error record { name } availableActions { action allowed } } } } }";
        let found = world.ask(steps, json!({ "id": run })).await["run"].clone();
        assert_eq!((&found["status"], &found["steps"]["nodes"][0]["record"]["name"]), (&json!("IN_PROGRESS"), &json!("Paul")));
        sink.refuse("nobody");
        let step = found["steps"]["nodes"][0]["id"].clone();
        world.ask("mutation($id: ID!) { retryStep(input: { id: $id, reason: \"it is mended\" }) { step { status } } }", json!({ "id": step })).await;
        let events = world.ask_all_events().await;
        assert!(events.iter().any(|event| event["kind"] == "step.retried" && event["payload"]["reason"] == "it is mended"));
        world.tick(true).await;
        assert_eq!(sink.read("paul@refused.example").len(), 1);
        for minute in [1, 10, 20, 30, 60, 120, 25 * 60] {
            world.clock.set(noon() + chrono::Duration::minutes(minute));
            world.tick(true).await;
        }
        assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "3 of 4 sent, 1 failed, 0 skipped");
        world.end().await;
    }
}

both! {
    async fn who_asks_to_be_left_alone_is_written_to_by_nothing(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 8).await;
        world.activate(&plan).await;
        let suppress = "mutation($to: String!) { suppressAddress(input: { channel: EMAIL, address: $to, reason: \"bounced\" }) { suppression { id address } } }";
        // Before the launch: one address in another case, one record.
        world.ask(suppress, json!({ "to": "LEAD0@Example.com" })).await;
        let (code, _) = world.refused(suppress, json!({ "to": "lead0@example.COM" })).await;
        assert_eq!(code, "CONFLICT");
        assert_eq!(world.refused(suppress, json!({ "to": "nobody" })).await.0, "BAD_USER_INPUT");
        let unsubscribe = "mutation($id: ID!) { updateRecord(input: { id: $id, unsubscribed: true }) { record { unsubscribedAt } } }";
        world.ask(unsubscribe, json!({ "id": plan.records[1] })).await;
        let run = world.launch(&plan).await;
        reviewed(&world, &run).await;
        world.tick(false).await;
        // Between the review and the hand-over: one address; one record; many by filter, one of
        // which has already opted out.
        let added = world.ask(suppress, json!({ "to": "lead2@example.com" })).await;
        world.ask(unsubscribe, json!({ "id": plan.records[3] })).await;
        let many = "mutation($dry: Boolean) { unsubscribeRecords(input: { filter: { externalId: { in: [\"L-4\", \"L-5\", \"L-3\"] } }, reason: \"asked on the phone\", dryRun: $dry }) { count } }";
        assert_eq!(world.ask(many, json!({ "dry": true })).await["unsubscribeRecords"]["count"], 2);
        assert_eq!(world.ask(many, json!({})).await["unsubscribeRecords"]["count"], 2);
        world.tick(true).await;
        assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "2 of 8 sent, 0 failed, 0 skipped, 6 suppressed");
        assert_eq!(fates(&world).await, [
            ["SENT", "", "2"],
            ["SUPPRESSED", "SUPPRESSED: bounced", "2"],
            ["SUPPRESSED", "UNSUBSCRIBED", "4"],
        ]);
        assert_eq!(world.outbox().len(), 2);
        let events = world.ask_all_events().await;
        assert_eq!(events.iter().filter(|event| event["kind"] == "record.unsubscribed").count(), 4);
        // Removed from the suppression list, the address gets mail again.
        let id = added["suppressAddress"]["suppression"]["id"].clone();
        world.ask("mutation($id: ID!) { unsuppressAddress(input: { id: $id }) { suppression { address } } }", json!({ "id": id })).await;
        let again = world.launch(&plan).await;
        reviewed(&world, &again).await;
        world.tick(true).await;
        assert_eq!(world.until_run(&again, "COMPLETED").await["outcome"], "3 of 8 sent, 0 failed, 0 skipped, 5 suppressed");
        // One address suppressed by a person; and mail address and number of each of four who opted
        // out.
        let list = world.ask("{ suppressions { totalCount nodes { address reason channel recordId createdBy { name } } } }", json!({})).await;
        assert_eq!(list["suppressions"]["totalCount"], 1 + 4 * 2);
        world.end().await;
    }
}

both! {
    async fn a_sweep_that_has_not_come_to_a_record_rules_it_already(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        reviewed(&world, &run).await;
        world.tick(false).await;
        let all = "mutation { unsubscribeRecords(input: { filter: { all: true } }) { count } }";
        assert_eq!(world.ask(all, json!({})).await["unsubscribeRecords"]["count"], 2);
        // Steps are executed without a sweep: nothing is sent.
        world.work().await;
        assert!(world.outbox().is_empty());
        assert_eq!(fates(&world).await, [["SUPPRESSED", "UNSUBSCRIBED", "2"]]);
        // Records created after the response are not affected.
        let late = json!({ "kind": "lead", "externalId": "late", "name": "Late", "email": "late@example.com" });
        world.clock.set(noon() + chrono::Duration::seconds(1));
        let late = world.create("record", late).await;
        world.tick(true).await;
        let records = world.ask("query($id: ID!) { record(id: $id) { unsubscribedAt } records { nodes { unsubscribedAt } } }", json!({ "id": late })).await;
        assert_eq!(records["record"]["unsubscribedAt"], Value::Null);
        assert_eq!(records["records"]["nodes"].as_array().unwrap().iter().filter(|node| !node["unsubscribedAt"].is_null()).count(), 2);
        world.end().await;
    }
}

both! {
    async fn a_channel_is_used_no_faster_than_it_may(kind) {
        let sink = Sink::start().await;
        let world = World::with_mail_rate(kind, Some(sink.url()), 6).await;
        let plan = world.plan("EMAIL", 5).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        reviewed(&world, &run).await;
        world.tick(true).await;
        // Six a minute: the first at once, then one every ten seconds.
        let mut sent = vec![sink.kept().len()];
        let waiting = "query($id: ID!) { run(id: $id) { waitingFor { code message } } }";
        let told = world.ask(waiting, json!({ "id": run })).await["run"]["waitingFor"].clone();
        assert_eq!(told[0]["code"], "RATE");
        assert!(told[0]["message"].as_str().unwrap().contains("2026-11-02T12:00:10"), "{told}");
        for second in [9, 10, 19, 20, 30, 40] {
            world.clock.set(noon() + chrono::Duration::seconds(second));
            world.tick(true).await;
            sent.push(sink.kept().len());
        }
        assert_eq!(sent, [1, 1, 2, 2, 3, 4, 5]);
        assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "5 of 5 sent, 0 failed, 0 skipped");
        // No step was claimed in vain meanwhile.
        assert_eq!(world.sql("SELECT DISTINCT attempt_count FROM step").await, [["1"]]);
        world.end().await;
    }
}

both! {
    async fn a_refresh_mends_what_was_derived_and_nothing_else(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        world.until_review(&run).await;
        let before = world.ask_all_events().await.len();
        let refresh = "mutation($id: ID!) { refreshRun(input: { id: $id }) { run { status revision } } }";
        world.ask(refresh, json!({ "id": run })).await;
        assert_eq!(world.ask_all_events().await.len(), before);
        world.force("UPDATE task SET completed = 7, skipped = 3").await;
        world.ask(refresh, json!({ "id": run })).await;
        // A scheduled run shows its current preflight.
        let schedule = "mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, at: \"2027-01-01T00:00:00Z\" }) { run { id } } }";
        let scheduled = world.ask(schedule, json!({ "id": plan.campaign })).await["scheduleCampaign"]["run"]["id"].clone();
        world.ask("mutation($id: ID!) { updateCampaign(input: { id: $id, goalId: null }) { campaign { id } } }", json!({ "id": plan.campaign })).await;
        let shown = "query($id: ID!) { run(id: $id) { status preflight { ready } } }";
        assert_eq!(world.ask(shown, json!({ "id": scheduled })).await["run"]["preflight"]["ready"], true);
        world.ask(refresh, json!({ "id": scheduled })).await;
        assert_eq!(world.ask(shown, json!({ "id": scheduled })).await["run"], json!({ "status": "SCHEDULED", "preflight": { "ready": false } }));
        world.end().await;
    }
}

both! {
    async fn a_step_that_is_done_again_leaves_the_mail_of_others_alone(kind) {
        let sink = Sink::start().await;
        sink.refuse("example.com");
        let world = World::with(kind, Some(sink.url())).await;
        let step = |key: &str, kind: &str, by: &str, config: Value| {
            let step = json!({ "key": key, "name": key, "type": kind, "assignedTo": by, "config": config, "maxAttempts": 1 });
            json!({ "key": key, "name": key, "fanOut": true, "steps": [step], "failWhen": "PERCENT(100)" })
        };
        let tasks = json!([
            step("mail", "email", "WORKFLOW", json!({ "subject": "Hi", "body": "there" })),
            step("judge", "decision", "WORKFLOW", json!({ "cases": [{ "when": "record.nothing > 0", "skip": [] }] })),
            step("look", "look", "HUMAN", json!({})),
        ]);
        let template = json!({ "key": "p", "name": "P", "autonomous": false, "tasks": tasks });
        world.apply(&json!({ "runTemplates": [{ "key": "mixed", "name": "Mixed", "phases": [template] }] }).to_string()).await;
        let plan = world.plan("EMAIL", 1).await;
        let template = world.id_of("runTemplates", "key", "mixed").await;
        world.ask("mutation($id: ID!, $to: ID!) { updateCampaign(input: { id: $id, runTemplateId: $to }) { campaign { id } } }", json!({ "id": plan.campaign, "to": template })).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        let query = "query($run: ID!) { steps(filter: { runIds: [$run], statuses: [FAILED] }) { nodes { id key } } }";
        let failed = world.until("both to fail", query, json!({ "run": run }), |data| data["steps"]["nodes"].as_array().unwrap().len() == 2).await;
        let id = |key: &str| failed["steps"]["nodes"].as_array().unwrap().iter().find(|step| step["key"] == key).unwrap()["id"].clone();
        let again = "mutation($id: ID!) { retryStep(input: { id: $id }) { step { status } } }";
        world.ask(again, json!({ "id": id("judge") })).await;
        world.until("it to fail again", query, json!({ "run": run }), |data| data["steps"]["nodes"].as_array().unwrap().len() == 2).await;
        let mails = async || world.sql("SELECT status FROM communication").await;
        assert_eq!(mails().await, [["FAILED"]], "its step has failed, and is not done again");
        sink.refuse("nobody");
        world.ask(again, json!({ "id": id("mail") })).await;
        let gone = "{ communications { nodes { status } } }";
        world.until("the mail to go", gone, json!({}), |data| data["communications"]["nodes"] == json!([{ "status": "SENT" }])).await;
        assert_eq!(sink.kept().len(), 1);
        world.end().await;
    }
}

//! Standard Outreach beyond first light: verdicts, policies, retries, replies that interrupt,
//! shared addresses.

use serde_json::{Value, json};

use crate::harness::World;
use crate::harness::sink::Sink;

const MESSAGES: &str = "query($id: ID!) { run(id: $id) { status outcome communications(first: 100) { nodes { id status body error toAddress messageId } } steps(first: 100) { nodes { id type status error attemptCount availableAt record { externalId } } } } }";

async fn detail(world: &World, run: &str) -> Value {
    world.ask(MESSAGES, json!({ "id": run })).await["run"].clone()
}

fn only<'a>(of: &'a Value, key: &str, value: &str) -> Vec<&'a Value> {
    of["nodes"].as_array().unwrap().iter().filter(|node| node[key] == value).collect()
}

both! {
    async fn a_rejected_review_is_drafted_again(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 3).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        let review = world.until_review(&run).await;
        let before = detail(&world, &run).await;
        // One message is excluded; a lead has changed its name meanwhile.
        let reject = "mutation($id: ID!) { rejectCommunication(input: { id: $id, reason: \"no\" }) { communication { id } } }";
        world.ask(reject, json!({ "id": only(&before["communications"], "toAddress", "lead0@example.com")[0]["id"] })).await;
        let update = "mutation($id: ID!) { updateRecord(input: { id: $id, attributes: { first_name: \"Renamed\", company: \"Acme\" } }) { record { id } } }";
        world.ask(update, json!({ "id": plan.records[1] })).await;
        assert_eq!(world.act("rejectStep", "step", json!({ "id": review, "reason": "too cold" })).await["status"], "QUEUED");
        world.tick(true).await;
        assert_eq!(world.until_review(&run).await, review);
        let after = detail(&world, &run).await;
        assert_eq!(only(&after["communications"], "status", "DRAFT").len(), 2);
        assert_eq!(only(&after["communications"], "status", "REJECTED").len(), 1);
        let renamed = only(&after["communications"], "toAddress", "lead1@example.com")[0].clone();
        assert!(renamed["body"].as_str().unwrap().starts_with("Dear Renamed"));
        let same = only(&before["communications"], "toAddress", "lead1@example.com")[0]["messageId"].clone();
        assert_eq!(renamed["messageId"], same, "the Message-ID is fixed for good");
        world.act("approveStep", "step", json!({ "id": review })).await;
        world.tick(true).await;
        assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "2 of 3 sent, 0 failed, 1 skipped");
        assert_eq!(world.outbox().len(), 2);
        world.end().await;
    }
}

both! {
    async fn a_policy_of_all_wants_a_verdict_on_each(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        let all = "mutation($id: ID!) { updateReviewer(input: { id: $id, policy: ALL }) { reviewer { policy } } }";
        let reviewer = world.ask("{ reviewers { nodes { id } } }", json!({})).await["reviewers"]["nodes"][0]["id"].clone();
        world.ask(all, json!({ "id": reviewer })).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        let review = world.until_review(&run).await;
        let approve = "mutation($id: ID!) { approveStep(input: { id: $id }) { step { id } } }";
        let (code, message) = world.refused(approve, json!({ "id": review })).await;
        assert_eq!((code.as_str(), message.contains("2 messages have no verdict")), ("CONFLICT", true), "{message}");
        let verdict = "mutation($id: ID!) { approveCommunication(input: { id: $id }) { communication { id } } }";
        for message in detail(&world, &run).await["communications"]["nodes"].as_array().unwrap() {
            world.ask(verdict, json!({ "id": message["id"] })).await;
        }
        world.ask(approve, json!({ "id": review })).await;
        world.tick(true).await;
        world.until_run(&run, "COMPLETED").await;
        world.end().await;
    }
}

both! {
    async fn refusals_of_the_server_are_tried_again_or_given_up(kind) {
        let sink = Sink::start().await;
        let world = World::without_server(kind, Some(sink.url())).await;
        let plan = world.plan("EMAIL", 1).await;
        for (id, address) in [("R", "refused@example.com"), ("B", "busy@example.com")] {
            world.create("record", json!({ "kind": "lead", "externalId": id, "name": id, "email": address, "attributes": { "first_name": id, "company": "C" } })).await;
        }
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        let review = world.until_review(&run).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        world.tick(true).await;
        let now = detail(&world, &run).await;
        let refused = only(&now["communications"], "toAddress", "refused@example.com")[0].clone();
        assert_eq!(refused["status"], "FAILED");
        assert!(refused["error"].as_str().unwrap().contains("550"), "{refused}");
        // The temporarily rejected one returns to the queue with a growing delay, for a day; this
        // uses up no attempt of its step.
        let mut last = crate::harness::noon();
        for (tried, minutes) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 30)] {
            let now = detail(&world, &run).await;
            let busy = now["steps"]["nodes"].as_array().unwrap().iter().find(|step| step["type"] == "send_message" && step["record"]["externalId"] == "B").unwrap().clone();
            assert_eq!((&busy["attemptCount"], &busy["status"]), (&json!(tried), &json!("QUEUED")));
            let at: chrono::DateTime<chrono::Utc> = busy["availableAt"].as_str().unwrap().parse().unwrap();
            assert_eq!(at - last, chrono::Duration::minutes(minutes));
            world.clock.set(at);
            last = at;
            world.tick(true).await;
        }
        world.clock.set(crate::harness::noon() + chrono::Duration::hours(25));
        world.tick(true).await;
        let done = world.until_run(&run, "COMPLETED").await;
        assert_eq!(done["outcome"], "1 of 3 sent, 2 failed, 0 skipped");
        assert_eq!(sink.kept().len(), 1);
        world.end().await;
    }
}

both! {
    async fn an_address_gets_one_message_and_some_get_none(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        let twin = json!({ "kind": "lead", "externalId": "twin", "name": "Twin", "email": "LEAD0@example.com", "attributes": { "first_name": "T", "company": "C" } });
        world.create("record", twin).await;
        let away = "mutation($id: ID!) { updateRecord(input: { id: $id, unsubscribed: true }) { record { unsubscribedAt } } }";
        world.ask(away, json!({ "id": plan.records[1] })).await;
        world.activate(&plan).await;
        let warned = "query($id: ID!) { campaign(id: $id) { preflight(action: RUN) { ready checks { code status message } } } }";
        let report = world.ask(warned, json!({ "id": plan.campaign })).await["campaign"]["preflight"].clone();
        assert_eq!(report["ready"], true);
        let warnings: Vec<&str> = report["checks"].as_array().unwrap().iter().filter(|check| check["status"] == "WARNING").map(|check| check["code"].as_str().unwrap()).collect();
        assert_eq!(warnings, ["AUDIENCE_REACHABLE", "SHARED_ADDRESSES"]);
        let run = world.launch(&plan).await;
        world.tick(true).await;
        let review = world.until_review(&run).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        world.tick(true).await;
        assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "1 of 3 sent, 0 failed, 1 skipped, 1 suppressed");
        let why = world.sql("SELECT reason FROM run_record WHERE reason IS NOT NULL ORDER BY reason").await;
        assert_eq!(why, [["DUPLICATE_ADDRESS"], ["UNSUBSCRIBED"]]);
        world.end().await;
    }
}

both! {
    async fn a_reply_stops_what_is_open_and_wakes_what_waits(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("PHONE", 2).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        let phase = world.ask("query($id: ID!) { run(id: $id) { currentPhase { id autonomous } } }", json!({ "id": run })).await;
        assert_eq!(phase["run"]["currentPhase"]["autonomous"], false);
        let release = "mutation($id: ID!) { releasePhase(input: { id: $id }) { phase { status releasedBy { name } } } }";
        let released = world.ask(release, json!({ "id": phase["run"]["currentPhase"]["id"] })).await;
        assert_eq!(released["releasePhase"]["phase"], json!({ "status": "COMPLETED", "releasedBy": { "name": "Developer" } }));
        world.tick(true).await;
        let now = detail(&world, &run).await;
        assert_eq!(only(&now["steps"], "type", "call").len(), 2);
        let script = only(&now["communications"], "toAddress", "+15550000000")[0].clone();
        assert_eq!(script["body"], "Call First0 about a trial");
        // The first lead calls back: its call is stopped, and a person has to handle the reply.
        let reply = "mutation($id: ID!) { recordReply(input: { communicationId: $id, body: \"Yes!\" }) { reply { id } } }";
        world.ask(reply, json!({ "id": script["id"] })).await;
        let now = detail(&world, &run).await;
        let calls = only(&now["steps"], "type", "call");
        let mut states: Vec<&str> = calls.iter().map(|step| step["status"].as_str().unwrap()).collect();
        states.sort_unstable();
        assert_eq!(states, ["PENDING", "SKIPPED"]);
        let handle = only(&now["steps"], "type", "handle_reply");
        assert_eq!((handle.len(), &handle[0]["status"]), (1, &json!("PENDING")));
        // A person calls the other lead and handles the reply; the run completes.
        let open = calls.iter().find(|step| step["status"] == "PENDING").unwrap();
        for id in [&open["id"], &handle[0]["id"]] {
            world.act("startStep", "step", json!({ "id": id })).await;
            world.act("completeStep", "step", json!({ "id": id, "result": { "spoke": true } })).await;
        }
        world.tick(true).await;
        assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "1 of 2 called, 0 failed, 1 skipped");
        world.end().await;
    }
}

both! {
    async fn what_is_held_or_called_off_starts_nothing(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 4).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(false).await;
        world.act("pauseCampaign", "campaign", json!({ "id": plan.campaign })).await;
        world.tick(true).await;
        let steps = "query($id: ID!) { run(id: $id) { waitingFor { code } progress { counts { queued completed skipped total } } } }";
        let now = world.ask(steps, json!({ "id": run })).await["run"].clone();
        assert_eq!(now["waitingFor"], json!([{ "code": "CAMPAIGN_PAUSED" }]));
        assert_eq!(now["progress"]["counts"]["queued"], 4);
        world.act("resumeCampaign", "campaign", json!({ "id": plan.campaign })).await;
        world.act("pauseRun", "run", json!({ "id": run })).await;
        world.tick(true).await;
        assert_eq!(world.ask(steps, json!({ "id": run })).await["run"]["progress"]["counts"]["queued"], 4);
        world.act("resumeRun", "run", json!({ "id": run })).await;
        world.tick(true).await;
        let review = world.until_review(&run).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        // Approved, and cancelled before anything is sent: nothing is sent.
        world.act("cancelRun", "run", json!({ "id": run, "reason": "wrong list" })).await;
        world.tick(true).await;
        assert!(world.outbox().is_empty());
        let now = detail(&world, &run).await;
        assert_eq!(only(&now["communications"], "status", "CANCELLED").len(), 4);
        assert!(now["steps"]["nodes"].as_array().unwrap().iter().all(|step| step["status"] == "COMPLETED" || step["error"].as_str().is_some_and(|why| why.contains("wrong list"))));
        let fates = world.sql("SELECT outcome, reason, COUNT(*) FROM run_record GROUP BY outcome, reason").await;
        assert_eq!(fates, [["SKIPPED", "RUN_CANCELLED", "4"]]);
        world.end().await;
    }
}

both! {
    async fn a_lost_lease_is_taken_back_and_the_late_are_fenced_out(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(false).await;
        // A worker that claimed and disappeared.
        world.force("UPDATE step SET status = 'IN_PROGRESS', attempt_count = 1, lease_owner = 'gone', lease_expires_at = '2026-11-02T12:01:00+00:00' WHERE status = 'QUEUED'").await;
        world.force("UPDATE task SET queued = 0, in_progress = 1 WHERE queued = 1").await;
        world.rescue().await;
        world.tick(true).await;
        assert_eq!(only(&detail(&world, &run).await["steps"], "type", "draft_message")[0]["status"], "IN_PROGRESS");
        world.clock.set(crate::harness::noon() + chrono::Duration::seconds(61));
        world.rescue().await;
        world.tick(true).await;
        let draft = only(&detail(&world, &run).await["steps"], "type", "draft_message")[0].clone();
        assert_eq!((&draft["status"], &draft["attemptCount"]), (&json!("COMPLETED"), &json!(2)));
        world.drop_unchecked().await;
    }
}

both! {
    async fn a_hand_over_that_was_cut_short_is_never_repeated_by_itself(kind) {
        let sink = Sink::start().await;
        let world = World::without_server(kind, Some(sink.url())).await;
        let plan = world.plan("EMAIL", 4).await;
        world.activate(&plan).await;
        let cut = "UPDATE communication SET status = 'SENDING' WHERE status = 'APPROVED'";
        let hold = "UPDATE step SET status = 'IN_PROGRESS', attempt_count = 1, lease_owner = 'gone', lease_expires_at = '2026-11-02T12:01:00+00:00' WHERE status = 'QUEUED'";
        for called_off in [false, true] {
            let run = world.launch(&plan).await;
            world.tick(true).await;
            let review = world.until_review(&run).await;
            world.act("approveStep", "step", json!({ "id": review })).await;
            // The worker reserved all four and died in the hand-over: a mail server can't be
            // queried for accepted mail.
            world.tick(false).await;
            world.force(hold).await;
            world.force("UPDATE task SET in_progress = in_progress + queued, queued = 0 WHERE queued > 0").await;
            world.force(cut).await;
            if called_off {
                world.act("cancelRun", "run", json!({ "id": run })).await;
                world.tick(true).await;
            }
            world.clock.set(crate::harness::noon() + chrono::Duration::seconds(61));
            world.rescue().await;
            world.tick(true).await;
            assert!(sink.kept().is_empty(), "something was sent again");
            let now = detail(&world, &run).await;
            assert_eq!(only(&now["communications"], "status", "UNKNOWN").len(), 4);
            if called_off {
                let fates = world.ask("query($id: ID!) { run(id: $id) { records(filter: { outcomes: [UNKNOWN] }) { totalCount } } }", json!({ "id": run })).await;
                assert_eq!(fates["run"]["records"]["totalCount"], 4);
                continue;
            }
            // The run waits and gives the reason; a person resolves each message.
            let waiting = world.until_run(&run, "IN_PROGRESS").await;
            assert_eq!(waiting["waitingFor"], json!([{ "code": "RESOLUTION" }]));
            let resolve = "mutation($id: ID!, $to: Resolution!) { resolveCommunication(input: { id: $id, resolution: $to }) { communication { status } } }";
            for (message, (to, status)) in now["communications"]["nodes"].as_array().unwrap().iter().zip([("SENT", "SENT"), ("SEND_AGAIN", "APPROVED"), ("NOT_SENT", "FAILED"), ("SENT", "SENT")]) {
                let answer = world.ask(resolve, json!({ "id": message["id"], "to": to })).await;
                assert_eq!(answer["resolveCommunication"]["communication"]["status"], status);
            }
            world.tick(true).await;
            assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "3 of 4 sent, 1 failed, 0 skipped");
            assert_eq!(sink.kept().len(), 1);
            world.clock.set(crate::harness::noon());
            sink.forget();
        }
        world.drop_unchecked().await;
    }
}

both! {
    async fn the_mail_server_is_told_who_we_are(kind) {
        let sink = Sink::start().await;
        let world = World::without_server(kind, Some(format!("smtp://user:pa%20ss@127.0.0.1:{}", sink.port))).await;
        let plan = world.plan("EMAIL", 3).await;
        let test = "mutation($id: ID!) { testRunCampaign(input: { campaignId: $id, recipients: [\"t@example.com\"], sample: 3 }) { run { id } } }";
        world.ask(test, json!({ "id": plan.campaign })).await;
        world.tick(true).await;
        assert_eq!(sink.read("t@example.com").len(), 3);
        // base64 of "\0user\0pa ss"
        assert!(sink.credentials().iter().all(|said| said == "AHVzZXIAcGEgc3M="), "{:?}", sink.credentials());
        assert!((1..=3).contains(&sink.credentials().len()));
        // One Message-ID each, the test marker, and the run's id.
        for mail in sink.kept() {
            assert!(mail.raw.contains("X-Sortie-Test: true") && mail.raw.contains("X-Sortie-Run: run_"), "{}", mail.raw);
            assert!(mail.raw.contains("Message-ID: <communication_"), "{}", mail.raw);
        }
        world.end().await;
    }
}

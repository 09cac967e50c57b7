//! Temporary rejections are retried for hours; a channel that rejects everything is paused as a
//! whole, and reports it.

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};
use sortie::channel::Mail;
use sortie::step_kind::email::Email;

use super::{codes, reason};
use crate::harness::sink::Sink;
use crate::harness::{World, noon, place};

/// Launches a run over a number of leads up to its sending; returns the run.
async fn flown(world: &World, leads: usize) -> String {
    let plan = world.plan("EMAIL", leads).await;
    world.activate(&plan).await;
    let run = world.launch(&plan).await;
    world.tick(true).await;
    let review = world.until_review(&run).await;
    world.act("approveStep", "step", json!({ "id": review })).await;
    run
}

async fn sends(world: &World, run: &str) -> Vec<Value> {
    let query = "query($run: ID!) { steps(filter: { runIds: [$run], types: [\"send_message\"] }, first: 100) { nodes { id status error attemptCount availableAt } } }";
    world.ask(query, json!({ "run": run })).await["steps"]["nodes"].as_array().unwrap().clone()
}

fn count(steps: &[Value], status: &str) -> usize {
    steps.iter().filter(|step| step["status"] == status).count()
}

both! {
    async fn a_server_that_refuses_everybody_pauses_the_channel_until_it_takes_one(kind) {
        let sink = Sink::start().await;
        sink.busy(Some("@"));
        let world = World::without_server(kind, Some(sink.url())).await;
        let run = flown(&world, 30).await;
        world.tick(true).await;
        // Ten different recipients rejected in a row are enough: the rest is not tried.
        let tried = sink.tried("@");
        assert!((10..=17).contains(&tried), "{tried}");
        let steps = sends(&world, &run).await;
        assert_eq!((count(&steps, "QUEUED"), count(&steps, "FAILED")), (30, 0));
        let told = reason(&world, &run, "CHANNEL_PAUSED").await;
        assert_eq!((&told["until"], &told["steps"]), (&json!("2026-11-02T12:00:15+00:00"), &json!(30)), "{told:#}");
        assert!(told["message"].as_str().unwrap().contains("451") && told["message"].as_str().unwrap().contains("2026-11-02T12:00:00"), "{told:#}");
        let findings = world.ask("query($id: ID!) { run(id: $id) { findings { code severity message } } }", json!({ "id": run })).await;
        assert!(findings["run"]["findings"].as_array().unwrap().iter().any(|one| one["code"] == "CHANNEL_PAUSED" && one["severity"] == "WARNING"), "{findings:#}");
        // One attempt probes the channel, however many are due; then none until the next probe.
        world.clock.set(noon() + Duration::seconds(14));
        world.tick(true).await;
        assert_eq!(sink.tried("@"), tried);
        world.clock.set(noon() + Duration::seconds(15));
        tokio::join!(Box::pin(world.tick(true)), Box::pin(world.tick(true)), Box::pin(world.tick(true)));
        assert_eq!(sink.tried("@"), tried + 1);
        assert_eq!(reason(&world, &run, "CHANNEL_PAUSED").await["until"], "2026-11-02T12:00:45+00:00");
        // Decisions made meanwhile apply: a paused run is not tried, and unsubscribed recipients
        // get no mail.
        world.act("pauseRun", "run", json!({ "id": run })).await;
        world.clock.set(noon() + Duration::seconds(45));
        world.tick(true).await;
        assert_eq!(sink.tried("@"), tried + 1);
        let suppress = "mutation { suppressAddress(input: { channel: EMAIL, address: \"lead29@example.com\", reason: \"asked\" }) { suppression { id } } }";
        world.ask(suppress, json!({})).await;
        world.act("resumeRun", "run", json!({ "id": run })).await;
        sink.busy(None);
        for second in [60, 90, 120, 180, 240] {
            world.clock.set(noon() + Duration::seconds(second));
            world.tick(true).await;
        }
        assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "29 of 30 sent, 0 failed, 0 skipped, 1 suppressed");
        let mut to: Vec<String> = sink.kept().into_iter().map(|mail| mail.to).collect();
        to.sort();
        to.dedup();
        assert_eq!((sink.kept().len(), to.len(), sink.tried("lead29@")), (29, 29, 0));
        assert_eq!(world.number("SELECT COUNT(*) FROM step WHERE failure_count > 0").await, 0, "no attempt was used up");
        assert_eq!(world.number("SELECT COUNT(*) FROM channel_pause").await, 0);
        world.end().await;
    }
}

both! {
    async fn a_paused_channel_is_probed_though_everybody_was_refused_and_all_follow_at_once(kind) {
        let sink = Sink::start().await;
        sink.busy(Some("@"));
        let world = World::without_server(kind, Some(sink.url())).await;
        let run = flown(&world, 14).await;
        world.tick(true).await;
        let tried = sink.tried("@");
        assert!((10..=14).contains(&tried), "{tried}");
        assert_eq!(reason(&world, &run, "CHANNEL_PAUSED").await["until"], "2026-11-02T12:00:15+00:00");
        // The messages' own retry is due after a minute, the channel's probes before.
        for (second, next) in [(15, "2026-11-02T12:00:45+00:00"), (45, "2026-11-02T12:01:45+00:00")] {
            world.force("UPDATE step SET available_at = '2026-11-02T12:30:00+00:00' WHERE kind = 'send_message' AND reason = 'PUT_OFF'").await;
            let before = sink.tried("@");
            world.clock.set(noon() + Duration::seconds(second));
            world.tick(true).await;
            assert_eq!(sink.tried("@"), before + 1, "one probe at {second}");
            assert_eq!(reason(&world, &run, "CHANNEL_PAUSED").await["until"], next);
        }
        // A probe that nothing can be sent as is due from then on, and not in the past.
        world.act("pauseRun", "run", json!({ "id": run })).await;
        world.clock.set(noon() + Duration::seconds(106));
        world.tick(true).await;
        assert_eq!(reason(&world, &run, "CHANNEL_PAUSED").await["until"], "2026-11-02T12:01:46+00:00");
        world.act("resumeRun", "run", json!({ "id": run })).await;
        // Each waits for its own time, and all go as soon as one is accepted.
        world.force("UPDATE step SET available_at = '2026-11-02T12:05:00+00:00' WHERE kind = 'send_message' AND reason = 'PUT_OFF'").await;
        sink.busy(None);
        world.tick(true).await;
        assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "14 of 14 sent, 0 failed, 0 skipped");
        assert_eq!(sink.kept().len(), 14);
        world.end().await;
    }
}

both! {
    /// More than one statement brings forward.
    async fn hundreds_follow_at_once_when_a_paused_channel_accepts_one(kind) {
        let sink = Sink::start().await;
        sink.busy(Some("@"));
        let world = World::without_server(kind, Some(sink.url())).await;
        let run = flown(&world, 530).await;
        world.tick(true).await;
        world.force("UPDATE step SET available_at = '2026-11-02T12:05:00+00:00' WHERE kind = 'send_message' AND reason = 'PUT_OFF'").await;
        sink.busy(None);
        world.clock.set(noon() + Duration::seconds(15));
        world.tick(true).await;
        assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "530 of 530 sent, 0 failed, 0 skipped");
        assert_eq!(sink.kept().len(), 530);
        world.end().await;
    }
}

both! {
    async fn released_messages_follow_at_once_when_a_paused_channel_accepts_one(kind) {
        let sink = Sink::start().await;
        sink.busy(Some("@"));
        let world = World::without_server(kind, Some(sink.url())).await;
        let mut ids = Vec::new();
        for i in 0..12 {
            ids.push(world.create("record", json!({ "kind": "partnership", "name": format!("P{i}"), "email": format!("p{i}@p.example") })).await);
        }
        let (run, steps) = world.own_run(&[("write", "email", json!({ "subject": "Hello", "body": "Dear {{ name }}" }))], json!({})).await;
        world.step_act("startStep", &steps[0], json!({})).await;
        let send = "mutation($input: StepEmailInput!) { sendStepEmail(input: $input) { communications { id } } }";
        world.ask(send, json!({ "input": { "stepId": steps[0], "recordIds": ids } })).await;
        world.tick(true).await;
        let tried = sink.tried("@");
        assert!((10..=12).contains(&tried), "{tried}");
        // None is due by itself when the probe is.
        world.force("UPDATE posting SET available_at = '2026-11-02T12:05:00+00:00'").await;
        world.clock.set(noon() + Duration::seconds(15));
        world.tick(true).await;
        assert_eq!(sink.tried("@"), tried + 1);
        world.force("UPDATE posting SET available_at = '2026-11-02T12:05:00+00:00'").await;
        sink.busy(None);
        world.clock.set(noon() + Duration::seconds(45));
        world.tick(true).await;
        assert_eq!(sink.kept().len(), 12);
        let sent = world.ask("query($id: ID!) { run(id: $id) { messagesOnWay } }", json!({ "id": run })).await;
        assert_eq!(sent["run"]["messagesOnWay"], 0);
        world.end().await;
    }
}

both! {
    async fn email_steps_follow_at_once_when_a_paused_channel_accepts_one(kind) {
        let sink = Sink::start().await;
        sink.busy(Some("@"));
        let world = World::without_server(kind, Some(sink.url())).await;
        let mail = Mail::configured(&crate::harness::config(&world.folder, "", Some(sink.url()))).await.unwrap();
        let email = Email::new(std::sync::Arc::new(mail), "sender.example".into());
        let step = json!({ "key": "first", "type": "email", "assignedTo": "WORKFLOW", "trigger": "immediate", "config": { "subject": "s", "body": "b" } });
        let phases = json!([{ "key": "all", "name": "All", "autonomous": true, "tasks": [{ "key": "mails", "name": "Mails", "fanOut": true, "steps": [step] }] }]);
        world.apply(&json!({ "runTemplates": [{ "key": "letters", "name": "letters", "phases": phases }] }).to_string()).await;
        let plan = world.plan("EMAIL", 12).await;
        let run = world.fly("letters", json!({ "segmentId": plan.segment })).await;
        world.tick(false).await;
        world.perform(&email).await;
        let tried = sink.tried("@");
        assert!((10..=12).contains(&tried), "{tried}");
        // None is due by itself when the probe is.
        let later = "UPDATE step SET available_at = '2026-11-02T12:05:00+00:00' WHERE reason = 'PUT_OFF'";
        world.force(later).await;
        world.clock.set(noon() + Duration::seconds(15));
        world.perform(&email).await;
        assert_eq!(sink.tried("@"), tried + 1);
        world.force(later).await;
        sink.busy(None);
        world.clock.set(noon() + Duration::seconds(45));
        world.perform(&email).await;
        assert_eq!(sink.kept().len(), 12);
        world.tick(false).await;
        world.until_run(&run, "COMPLETED").await;
        world.end().await;
    }
}

both! {
    async fn a_server_that_is_away_fails_nobody(kind) {
        // A port without a listener, for now.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let world = World::without_server(kind, Some(format!("smtp://127.0.0.1:{port}"))).await;
        let run = flown(&world, 20).await;
        world.tick(true).await;
        let told = reason(&world, &run, "CHANNEL_PAUSED").await;
        assert!(told["message"].as_str().unwrap().contains("refused"), "{told:#}");
        for second in [15, 40] {
            world.clock.set(noon() + Duration::seconds(second));
            world.tick(true).await;
        }
        let steps = sends(&world, &run).await;
        assert_eq!(count(&steps, "QUEUED"), 20);
        let sink = Sink::at(&format!("127.0.0.1:{port}")).await.unwrap();
        world.clock.set(noon() + Duration::seconds(50));
        world.tick(true).await;
        assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "20 of 20 sent, 0 failed, 0 skipped");
        assert_eq!(sink.kept().len(), 20);
        world.end().await;
    }
}

both! {
    async fn a_server_that_stays_away_fails_them_in_the_end_and_those_who_come_later_have_their_own_time(kind) {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let world = World::without_server(kind, Some(format!("smtp://127.0.0.1:{port}"))).await;
        let run = flown(&world, 12).await;
        world.tick(true).await;
        world.clock.set(noon() + Duration::hours(23));
        world.tick(true).await;
        assert_eq!(count(&sends(&world, &run).await, "QUEUED"), 12);
        world.clock.set(noon() + Duration::hours(24));
        for _ in 0..4 {
            world.tick(true).await;
            world.clock.set(world.clock.now() + Duration::minutes(11));
        }
        assert_eq!(world.until_run(&run, "FAILED").await["status"], "FAILED");
        let steps = sends(&world, &run).await;
        assert!(steps.iter().all(|step| step["status"] == "FAILED" && step["error"].as_str().unwrap().contains("24 hours")), "{steps:#?}");
        let why = world.until_run(&run, "FAILED").await["failure"].as_str().unwrap().to_owned();
        assert!(why.contains("refused"), "{why}");
        // After a retry by a person they get the full period again, and the channel is probed
        // first.
        world.act("retryRun", "run", json!({ "id": run })).await;
        world.tick(true).await;
        assert_eq!(count(&sends(&world, &run).await, "QUEUED"), 12);
        let sink = Sink::at(&format!("127.0.0.1:{port}")).await.unwrap();
        world.clock.set(world.clock.now() + Duration::minutes(11));
        world.tick(true).await;
        assert_eq!((world.until_run(&run, "COMPLETED").await["status"].clone(), sink.kept().len()), (json!("COMPLETED"), 12));
        world.end().await;
    }
}

both! {
    async fn one_who_is_refused_for_now_is_tried_for_a_day_and_holds_up_nobody(kind) {
        let sink = Sink::start().await;
        sink.busy(Some("lead0@"));
        let world = World::without_server(kind, Some(sink.url())).await;
        let run = flown(&world, 3).await;
        world.tick(true).await;
        assert_eq!(sink.kept().len(), 2);
        let mut at = noon();
        for minutes in [1, 2, 4, 8, 16, 30, 30] {
            let steps = sends(&world, &run).await;
            let open: Vec<&Value> = steps.iter().filter(|step| step["status"] == "QUEUED").collect();
            let next: DateTime<Utc> = open[0]["availableAt"].as_str().unwrap().parse().unwrap();
            assert_eq!((open.len(), next - at), (1, Duration::minutes(minutes)));
            let told = reason(&world, &run, "RETRY").await;
            assert_eq!((&told["steps"], &told["until"]), (&json!(1), &json!(next.to_rfc3339())), "{told:#}");
            assert!(told["message"].as_str().unwrap().contains("refused for now"), "{told:#}");
            at = next;
            world.clock.set(at);
            world.tick(true).await;
        }
        assert_eq!(sink.tried("lead0@"), 8);
        assert!(!codes(&world, &run).await.contains(&"CHANNEL_PAUSED".to_owned()));
        world.clock.set(noon() + Duration::hours(25));
        world.tick(true).await;
        assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "2 of 3 sent, 1 failed, 0 skipped");
        let failed = world.sql("SELECT error FROM communication WHERE status = 'FAILED'").await;
        assert!(failed[0][0].contains("451") && failed[0][0].contains("24 hours"), "{failed:?}");
        world.end().await;
    }
}

#[tokio::test]
async fn the_address_of_the_mail_server_says_who_logs_in_and_where() {
    let (folder, url) = place(crate::harness::Kind::Sqlite).await;
    let config = |smtp: &str| crate::harness::config(&folder, &url, Some(smtp.to_owned()));
    for (address, words) in [
        ("smtp://user@mail.example", "no password"),
        ("smtp://user:@mail.example", "no password"),
        ("smtps://user@mail.example:465", "no password"),
        ("smtp://:secret@mail.example", "no user"),
        ("smtp://", "no host"),
        ("http://mail.example", "smtp://"),
    ] {
        let told = Mail::configured(&config(address)).await.unwrap_err().to_string();
        assert!(
            told.contains("SORTIE_SMTP_URL") && told.contains(words) && !told.contains("secret"),
            "{address}: {told}"
        );
    }
    for address in [
        "smtp://[::1]:2540",
        "smtp://mail.example",
        "smtps://u:p@[2001:db8::1]",
        "smtp://u%40x:p@mail.example:587?tls=required",
    ] {
        Mail::configured(&config(address)).await.unwrap();
    }
    // If this machine has such an address, mail is sent there.
    if let Some(sink) = Sink::at("[::1]:0").await {
        let world =
            World::without_server(crate::harness::Kind::Sqlite, Some(format!("smtp://[::1]:{}", sink.port))).await;
        let run = flown(&world, 2).await;
        world.tick(true).await;
        assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "2 of 2 sent, 0 failed, 0 skipped");
        world.end().await;
    }
    let _ = std::fs::remove_dir_all(&folder);
}

both! {
    async fn a_few_who_are_refused_for_ever_do_not_hold_up_the_others(kind) {
        let sink = Sink::start().await;
        sink.busy(Some("@bad"));
        let world = World::without_server(kind, Some(sink.url())).await;
        let plan = world.plan("EMAIL", 0).await;
        let create = "mutation($input: CreateRecordInput!) { createRecord(input: $input) { record { id } } }";
        let person = async |kind: &str, email: String| {
            let attributes = json!({ "first_name": "Ada", "company": "Acme" });
            world.ask(create, json!({ "input": { "kind": kind, "name": "Ada", "email": email, "attributes": attributes } })).await;
        };
        for i in 0..10 {
            person("lead", format!("p{i}@bad.example")).await;
        }
        world.activate(&plan).await;
        let first = world.launch(&plan).await;
        world.tick(true).await;
        world.act("approveStep", "step", json!({ "id": world.until_review(&first).await })).await;
        world.tick(true).await;
        reason(&world, &first, "CHANNEL_PAUSED").await;
        // Other runs' messages are enqueued while the channel is paused: they are sent within
        // minutes.
        for i in 0..5 {
            person("contact", format!("p{i}@good.example")).await;
        }
        let others = world.plan("EMAIL", 0).await;
        let contacts = world.create("segment", json!({ "name": "Contacts", "filter": { "kind": { "eq": "contact" } } })).await;
        let update = "mutation($id: ID!, $to: ID!) { updateCampaign(input: { id: $id, segmentId: $to }) { campaign { id } } }";
        world.ask(update, json!({ "id": others.campaign, "to": contacts })).await;
        world.activate(&others).await;
        let second = world.launch(&others).await;
        world.tick(true).await;
        world.act("approveStep", "step", json!({ "id": world.until_review(&second).await })).await;
        for minute in 0..8 {
            world.clock.set(noon() + Duration::seconds(16 + 30 * minute));
            world.tick(true).await;
        }
        assert_eq!(sink.kept().iter().filter(|mail| mail.to.ends_with("@good.example")).count(), 5);
        world.drop_unchecked().await;
    }
}

//! Repeated runs over one audience: every repeat knows what the earlier ones delivered, whatever
//! became of the runs between.

use std::sync::Arc;

use serde_json::{Value, json};
use sortie::channel::Mail;
use sortie::step_kind::email::Email;
use sortie::step_kind::{draft::Draft, send::Send};

use super::again::{REPEAT, RETRY, repeat, taken, through, world_of};
use super::{person, recipient_outcomes, reviewed};
use crate::harness::sink::Sink;
use crate::harness::{Kind, World, config, noon};

async fn cancel(world: &World, run: &str) {
    world.act("cancelRun", "run", json!({ "id": run })).await;
    world.tick(true).await;
}

both! {
    async fn who_was_in_hand_when_a_run_was_cancelled_is_reached_by_a_repeat(kind) {
        // Leased as a draft and as a send by a worker that died; cancelled with a text after the
        // code.
        for (held, sends) in [("draft", false), ("send", true)] {
            let (world, sink, plan) = world_of(kind, 3, 0).await;
            let run = world.launch(&plan).await;
            if sends {
                reviewed(&world, &run).await;
                world.vanish_with::<Send>().await;
            } else {
                world.tick(false).await;
                world.vanish_with::<Draft>().await;
            }
            cancel(&world, &run).await;
            assert!(recipient_outcomes(&world, &run).await.iter().all(|fate| fate[1].is_empty()), "{held}: they are still in hand");
            world.clock.set(noon() + chrono::Duration::minutes(2));
            world.rescue().await;
            world.tick(true).await;
            let all = recipient_outcomes(&world, &run).await;
            assert!(all.iter().all(|fate| fate[1] == "SKIPPED" && fate[2] == "RUN_CANCELLED"), "{held}: {all:?}");
            // Rows in the former format, and beside them one that stays closed because of an
            // interrupt.
            world.force("UPDATE run_record SET reason = 'RUN_CANCELLED: 550 no such box' WHERE address_key = 'fine1@example.com'").await;
            world.force("UPDATE run_record SET reason = 'INTERRUPTED: RUN_CANCELLED' WHERE address_key = 'fine2@example.com'").await;
            let again = repeat(&world, &run).await;
            if !sends {
                world.tick(true).await;
                reviewed(&world, &again).await;
            }
            assert_eq!(through(&world, &again, "COMPLETED").await["outcome"], "2 of 2 sent, 0 failed, 0 skipped", "{held}");
            assert_eq!(taken(&sink, "fine"), 2);
            world.end().await;
        }
    }
}

both! {
    async fn what_was_done_before_a_cancelled_repeat_is_not_done_again(kind) {
        let (world, sink, plan) = world_of(kind, 2, 3).await;
        let run = world.launch(&plan).await;
        reviewed(&world, &run).await;
        through(&world, &run, "COMPLETED").await;
        sink.refuse("nobody");
        // One run is cancelled before its audience is loaded, one before its steps are created, one
        // when it has copied the drafts.
        let mut last = run.clone();
        for ticks in [1, 2, 3] {
            last = repeat(&world, &last).await;
            for _ in 0..ticks {
                world.tick_once().await;
            }
            cancel(&world, &last).await;
        }
        assert_eq!(taken(&sink, "bad"), 0);
        let done = repeat(&world, &last).await;
        // The drafts were approved earlier: no second review.
        assert_eq!(through(&world, &done, "COMPLETED").await["outcome"], "3 of 3 sent, 0 failed, 0 skipped");
        assert_eq!((taken(&sink, "fine"), taken(&sink, "bad")), (2, 3));
        let steps = "query($id: ID!) { run(id: $id) { steps(first: 100, filter: { types: [\"draft_message\"] }) { nodes { status reasonCode error } } } }";
        let kept = world.ask(steps, json!({ "id": done })).await["run"]["steps"]["nodes"].clone();
        for step in kept.as_array().unwrap() {
            assert_eq!((&step["status"], &step["reasonCode"]), (&json!("SKIPPED"), &json!("CARRIED_OVER")), "{step:#}");
        }
        world.end().await;
    }
}

/// Two mails to each record, one after the other, and a single step before them.
fn letters() -> String {
    let mail = |key: &str, trigger: &str| {
        json!({
            "key": key, "type": "email", "assignedTo": "WORKFLOW", "trigger": trigger,
            "config": { "subject": key, "body": format!("{key} for {{{{ record.name }}}}") },
        })
    };
    let task = json!({ "key": "mails", "name": "Mails", "fanOut": true, "failWhen": "PERCENT(100)", "steps": [mail("first", "immediate"), mail("second", "after:first")] });
    let phases = json!([{ "key": "all", "name": "All", "autonomous": true, "tasks": [task] }]);
    json!({ "runTemplates": [{ "key": "letters", "name": "letters", "phases": phases }] }).to_string()
}

both! {
    async fn a_mail_that_a_run_sent_is_not_sent_by_the_repeat_of_its_repeat(kind) {
        let sink = Sink::start().await;
        let world = World::without_server(kind, Some(sink.url())).await;
        let mail = Mail::configured(&config(&world.folder, "", Some(sink.url()))).await.unwrap();
        let email = Email::new(Arc::new(mail), "sender.example".into());
        world.apply(&letters()).await;
        for i in 0..3 {
            person(&world, &format!("lead{i}"), &format!("lead{i}@example.com")).await;
        }
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let run = world.fly("letters", json!({ "segmentId": segment })).await;
        world.tick(false).await;
        // The first mail reaches all, the second is rejected for one.
        let first = async |email: &Email| {
            world.perform(email).await;
            world.tick(false).await;
        };
        sink.refuse("nobody");
        let mut held = world.number("SELECT COUNT(*) FROM step WHERE key = 'second' AND status = 'QUEUED'").await;
        assert_eq!(held, 0);
        world.perform_once(&email).await;
        held = world.number("SELECT COUNT(*) FROM step WHERE key = 'second' AND status = 'QUEUED'").await;
        assert_eq!(held, 3);
        sink.refuse("lead2@");
        first(&email).await;
        world.until_run(&run, "COMPLETED").await;
        let all = recipient_outcomes(&world, &run).await;
        assert_eq!((all[0][1].as_str(), all[1][1].as_str(), all[2][1].as_str()), ("SENT", "SENT", "FAILED"), "{all:?}");
        sink.refuse("nobody");
        // The repeat is cancelled before it has created a step.
        let between = repeat(&world, &run).await;
        world.tick_once().await;
        cancel(&world, &between).await;
        let last = repeat(&world, &between).await;
        world.tick(false).await;
        first(&email).await;
        world.until_run(&last, "COMPLETED").await;
        let subjects = |to: &str| -> Vec<String> { sink.read(to).into_iter().map(|(subject, _)| subject).collect() };
        for i in 0..3 {
            assert_eq!(subjects(&format!("lead{i}@example.com")), ["first", "second"], "lead{i}");
        }
        world.end().await;
    }
}

both! {
    async fn a_message_that_is_let_out_again_has_its_whole_time_again(kind) {
        let (world, sink, plan) = world_of(kind, 2, 0).await;
        let run = world.launch(&plan).await;
        sink.busy(Some("@"));
        reviewed(&world, &run).await;
        world.tick(true).await;
        assert!(sink.tried("fine") >= 2);
        cancel(&world, &run).await;
        // Two days later a temporary rejection is no reason to give up.
        world.clock.set(noon() + chrono::Duration::hours(48));
        let again = repeat(&world, &run).await;
        world.tick(true).await;
        let sends = "SELECT COUNT(*) FROM step WHERE kind = 'send_message' AND status = 'QUEUED'";
        assert_eq!(world.number(sends).await, 2, "{:?}", recipient_outcomes(&world, &again).await);
        sink.busy(None);
        assert_eq!(through(&world, &again, "COMPLETED").await["outcome"], "2 of 2 sent, 0 failed, 0 skipped");
        world.end().await;
    }
}

both! {
    async fn of_one_family_one_flies_at_a_time(kind) {
        let (world, sink, plan) = world_of(kind, 1, 4).await;
        let run = world.launch(&plan).await;
        reviewed(&world, &run).await;
        through(&world, &run, "COMPLETED").await;
        sink.refuse("@refused-a");
        let second = repeat(&world, &run).await;
        through(&world, &second, "COMPLETED").await;
        sink.refuse("nobody");
        // Each over another row, all over the same people.
        let asked = [
            (RETRY, json!({ "id": run })),
            (RETRY, json!({ "id": second })),
            (REPEAT, json!({ "id": second, "only": true })),
            (REPEAT, json!({ "id": run, "only": true })),
        ];
        let all = futures_util::future::join_all(asked.into_iter().map(|(query, variables)| world.post(query, variables))).await;
        let fine: Vec<&Value> = all.iter().filter(|answer| answer.get("errors").is_none()).collect();
        assert_eq!(fine.len(), 1, "{all:#?}");
        let data = &fine[0]["data"];
        let went = data["repeatRun"]["run"]["id"].as_str().or(data["retryRun"]["run"]["id"].as_str()).unwrap().to_owned();
        through(&world, &went, "COMPLETED").await;
        assert_eq!((taken(&sink, "fine"), taken(&sink, "bad")), (1, 4));
        world.end().await;
    }
}

/// Lets a person act on the run's step beside its mails.
async fn act(world: &World, run: &str, verbs: [&str; 2]) {
    let query =
        "query($run: ID!) { steps(first: 1, filter: { runIds: [$run], types: [\"beside\"] }) { nodes { id } } }";
    let id = world.ask(query, json!({ "run": run })).await["steps"]["nodes"][0]["id"].as_str().unwrap().to_owned();
    for verb in verbs {
        world.step_act(verb, &id, json!({ "reason": "said so" })).await;
    }
    world.tick(false).await;
}

async fn send(world: &World, email: &Email) {
    world.perform(email).await;
    world.tick(false).await;
}

/// A world with three leads, and a run of these mails beside a person's step, by which it has failed
/// before it sent any.
async fn failed(kind: Kind, mails: Value) -> (World, Sink, Email, String) {
    let sink = Sink::start().await;
    let world = World::without_server(kind, Some(sink.url())).await;
    let mail = Mail::configured(&config(&world.folder, "", Some(sink.url()))).await.unwrap();
    let email = Email::new(Arc::new(mail), "sender.example".into());
    let beside = json!({ "key": "beside", "steps": [{ "key": "beside", "type": "beside", "assignedTo": "HUMAN", "maxAttempts": 1 }] });
    let letters = json!({ "key": "letters", "fanOut": true, "failWhen": "PERCENT(100)", "steps": mails });
    let phases = json!([{ "key": "all", "name": "All", "autonomous": false, "tasks": [beside, letters] }]);
    world
        .apply(&json!({ "runTemplates": [{ "key": "beside", "name": "beside", "phases": phases }] }).to_string())
        .await;
    for i in 0..3 {
        person(&world, &format!("lead{i}"), &format!("lead{i}@example.com")).await;
    }
    let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
    let run = world.fly("beside", json!({ "segmentId": segment })).await;
    world.tick(false).await;
    Box::pin(act(&world, &run, ["startStep", "failStep"])).await;
    world.until_run(&run, "FAILED").await;
    (world, sink, email, run)
}

fn mail(key: &str, trigger: &str) -> Value {
    json!({ "key": key, "type": "email", "assignedTo": "WORKFLOW", "trigger": trigger, "config": { "subject": key, "body": "For {{ record.name }}" } })
}

both! {
    async fn what_a_repeat_has_done_counts_as_done_in_a_retry(kind) {
        let mails = json!([mail("first", "immediate"), mail("second", "after:first")]);
        let (world, sink, email, run) = Box::pin(failed(kind, mails)).await;
        // The repeat sends the first mail to all, and is refused the second one to one of them.
        let again = repeat(&world, &run).await;
        world.tick(false).await;
        Box::pin(world.perform_once(&email)).await;
        sink.refuse("lead2@");
        Box::pin(send(&world, &email)).await;
        Box::pin(act(&world, &again, ["startStep", "completeStep"])).await;
        world.until_run(&again, "COMPLETED").await;
        sink.refuse("nobody");
        world.act("retryRun", "run", json!({ "id": run })).await;
        world.tick(false).await;
        Box::pin(send(&world, &email)).await;
        Box::pin(act(&world, &run, ["startStep", "completeStep"])).await;
        world.until_run(&run, "COMPLETED").await;
        for i in 0..3 {
            let subjects: Vec<String> = sink.read(&format!("lead{i}@example.com")).into_iter().map(|(subject, _)| subject).collect();
            assert_eq!(subjects, ["first", "second"], "lead{i}");
        }
        world.end().await;
    }
}

both! {
    async fn a_retry_of_a_failed_run_leaves_out_whom_its_repeat_has_written_to(kind) {
        let (world, sink, email, run) = Box::pin(failed(kind, json!([mail("letter", "immediate")]))).await;
        assert_eq!(world.number("SELECT COUNT(*) FROM step WHERE key = 'letter' AND status = 'QUEUED'").await, 3);
        // The repeat reaches two of them, and one under a new address.
        world.force("UPDATE record SET email = 'new1@example.com' WHERE external_id = 'lead1'").await;
        sink.refuse("lead2@");
        let again = repeat(&world, &run).await;
        world.tick(false).await;
        Box::pin(send(&world, &email)).await;
        Box::pin(act(&world, &again, ["startStep", "completeStep"])).await;
        world.until_run(&again, "COMPLETED").await;
        sink.refuse("nobody");
        world.act("retryRun", "run", json!({ "id": run })).await;
        world.tick(false).await;
        Box::pin(send(&world, &email)).await;
        Box::pin(act(&world, &run, ["startStep", "completeStep"])).await;
        world.until_run(&run, "COMPLETED").await;
        for to in ["lead0@", "new1@", "lead2@"] {
            assert_eq!(taken(&sink, to), 1, "{to}");
        }
        assert_eq!(taken(&sink, "lead1@"), 0);
        let left_out = recipient_outcomes(&world, &run).await.into_iter().filter(|one| one[1] == "SKIPPED").count();
        let carried = "SELECT COUNT(*) FROM step WHERE key = 'letter' AND status = 'SKIPPED' AND reason = 'CARRIED_OVER'";
        assert_eq!((left_out, world.number(carried).await), (2, 2));
        world.end().await;
    }
}

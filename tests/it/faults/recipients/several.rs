//! Recipients that got one of several messages, or none because they have no address: they count as
//! not reached, the run says so, and a repeat of what failed reaches exactly them.

use std::sync::Arc;

use serde_json::{Value, json};
use sortie::channel::Mail;
use sortie::step_kind::email::Email;

use super::again::{REPEAT, repeat, taken, through, world_of};
use super::{person, recipient_outcomes, reviewed, update};
use crate::harness::sink::Sink;
use crate::harness::{World, config};

/// A run with two mails per record, the second after the first is done, and a third in a phase of
/// its own.
async fn three_mails(world: &World, people: &[&str]) -> (String, Vec<String>) {
    let mail = |key: &str, trigger: &str| json!({ "key": key, "type": "email", "assignedTo": "WORKFLOW", "trigger": trigger, "config": { "subject": key, "body": "Hello" } });
    let task = |key: &str, mails: Vec<Value>| json!({ "key": key, "name": key, "fanOut": true, "failWhen": "PERCENT(100)", "steps": mails });
    let phase = |key: &str, task: Value| json!({ "key": key, "name": key, "autonomous": true, "tasks": [task] });
    let phases = json!([
        phase("one", task("pair", vec![mail("first", "immediate"), mail("second", "after:first")])),
        phase("two", task("last", vec![mail("third", "immediate")])),
    ]);
    let template = json!({ "runTemplates": [{ "key": "letters", "name": "letters", "phases": phases }] });
    world.apply(&template.to_string()).await;
    let mut ids = Vec::new();
    for name in people {
        ids.push(person(world, name, &format!("{name}@example.com")).await);
    }
    let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
    (world.fly("letters", json!({ "segmentId": segment, "channel": "EMAIL" })).await, ids)
}

async fn sends(world: &World, sink: &Sink) -> Email {
    let mail = Mail::configured(&config(&world.folder, "", Some(sink.url()))).await.unwrap();
    Email::new(Arc::new(mail), "sender.example".into())
}

async fn on(world: &World, email: &Email, run: &str) {
    for _ in 0..8 {
        world.perform(email).await;
        world.tick(false).await;
    }
    world.until_run(run, "COMPLETED").await;
}

/// The subjects that an address got, sorted.
fn got(sink: &Sink, to: &str) -> Vec<String> {
    let mut all: Vec<String> = sink.read(to).into_iter().map(|(subject, _)| subject).collect();
    all.sort();
    all
}

const FINDINGS: &str = "query($id: ID!) { run(id: $id) { findings { code message count } availableActions { action allowed blockedBecause } } }";

/// The messages of the run's `LEFT_OUT` findings.
async fn left_out(world: &World, run: &str) -> Vec<String> {
    let data = world.ask(FINDINGS, json!({ "id": run })).await;
    let all = data["run"]["findings"].as_array().unwrap();
    all.iter().filter(|one| one["code"] == "LEFT_OUT").map(|one| one["message"].as_str().unwrap().to_owned()).collect()
}

both! {
    async fn a_second_mail_that_falls_out_is_told_and_made_up_for(kind) {
        let sink = Sink::start().await;
        let world = World::without_server(kind, Some(sink.url())).await;
        let (run, ids) = three_mails(&world, &["ann", "bob", "cat", "dan"]).await;
        let email = sends(&world, &sink).await;
        world.tick(false).await;
        world.perform_once(&email).await;
        world.tick(false).await;
        assert_eq!(taken(&sink, "@example.com"), 4, "the first ones");
        // Between the first and the second mail one record loses its address, and one gets
        // another's.
        update(&world, &ids[0], json!({ "email": null })).await;
        update(&world, &ids[1], json!({ "email": "cat@example.com" })).await;
        on(&world, &email, &run).await;
        let all = recipient_outcomes(&world, &run).await;
        let outcomes: Vec<&str> = all.iter().map(|one| one[1].as_str()).collect();
        assert_eq!(outcomes, ["SKIPPED", "SKIPPED", "SENT", "SENT"], "{all:?}");
        assert!(all[0][2].starts_with("NO_ADDRESS") && all[1][2].starts_with("DUPLICATE_ADDRESS"), "{all:?}");
        let told = left_out(&world, &run).await;
        assert!(told.iter().any(|one| one.contains("NO_ADDRESS")) && told.iter().any(|one| one.contains("DUPLICATE")), "{told:?}");
        // As long as they have no address of their own, nobody is left to repeat.
        let nobody = world.refused(REPEAT, json!({ "id": run, "only": true })).await;
        assert!(nobody.0 == "CONFLICT" && nobody.1.contains("no recipients are left"), "{nobody:?}");
        update(&world, &ids[0], json!({ "email": "ann@example.com" })).await;
        update(&world, &ids[1], json!({ "email": "bob2@example.com" })).await;
        // A retry repeats what failed, and nothing did.
        let data = world.ask(FINDINGS, json!({ "id": run })).await;
        let allowed = |action: &str| {
            let all = data["run"]["availableActions"].as_array().unwrap();
            all.iter().find(|one| one["action"] == action).unwrap()["allowed"] == true
        };
        assert!(allowed("REPEAT_FAILED") && !allowed("RETRY"), "{data}");
        let second = repeat(&world, &run).await;
        on(&world, &email, &second).await;
        assert_eq!(recipient_outcomes(&world, &second).await.iter().map(|one| one[1].as_str()).collect::<Vec<_>>(), ["SENT", "SENT"]);
        assert_eq!((got(&sink, "ann@example.com"), got(&sink, "bob2@example.com")), (vec!["first".into(), "second".into(), "third".into()], vec!["second".to_owned(), "third".into()]));
        assert_eq!((got(&sink, "bob@example.com"), got(&sink, "cat@example.com").len(), got(&sink, "dan@example.com").len()), (vec!["first".into()], 3, 3));
        assert_eq!(world.refused(REPEAT, json!({ "id": run, "only": true })).await.0, "CONFLICT");
        world.end().await;
    }
}

both! {
    async fn a_run_cancelled_between_the_mails_is_made_up_for(kind) {
        // Cancelled before the second mail, and before the third one's phase started.
        for sent in [1, 2] {
            let sink = Sink::start().await;
            let world = World::without_server(kind, Some(sink.url())).await;
            let (run, _) = three_mails(&world, &["ann", "bob"]).await;
            let email = sends(&world, &sink).await;
            world.tick(false).await;
            for _ in 0..sent {
                world.perform_once(&email).await;
            }
            world.act("cancelRun", "run", json!({ "id": run })).await;
            world.tick(true).await;
            let all = recipient_outcomes(&world, &run).await;
            assert!(all.iter().all(|one| one[1] == "SKIPPED" && one[2].starts_with("RUN_CANCELLED")), "{sent}: {all:?}");
            assert_eq!(got(&sink, "ann@example.com").len(), sent);
            let second = repeat(&world, &run).await;
            on(&world, &email, &second).await;
            for to in ["ann@example.com", "bob@example.com"] {
                assert_eq!(got(&sink, to), ["first", "second", "third"], "{sent}: {to}");
            }
            assert_eq!(world.refused(REPEAT, json!({ "id": run, "only": true })).await.0, "CONFLICT");
            world.end().await;
        }
    }
}

both! {
    async fn who_had_no_address_of_their_own_is_reached_once_they_have(kind) {
        let (world, sink, plan) = world_of(kind, 1, 1).await;
        let twin = person(&world, "twin", "fine0@example.com").await;
        let empty = person(&world, "empty", "empty@example.com").await;
        let pair = person(&world, "pair", "bad0@refused-a.example").await;
        update(&world, &empty, json!({ "email": null })).await;
        let run = world.launch(&plan).await;
        reviewed(&world, &run).await;
        through(&world, &run, "COMPLETED").await;
        let outcomes = |all: &[[String; 3]]| all.iter().map(|one| (one[0].clone(), one[1].clone())).collect::<Vec<_>>();
        let of = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, outcome)| ((*name).to_owned(), (*outcome).to_owned())).collect::<Vec<_>>();
        assert_eq!(outcomes(&recipient_outcomes(&world, &run).await), of(&[("bad0", "FAILED"), ("empty", "SKIPPED"), ("fine0", "SENT"), ("pair", "SKIPPED"), ("twin", "SKIPPED")]));
        // They get addresses of their own; one of them gets that of a reached recipient.
        update(&world, &empty, json!({ "email": "empty@example.com" })).await;
        update(&world, &pair, json!({ "email": "pair@example.com" })).await;
        let second = repeat(&world, &run).await;
        world.tick(true).await;
        reviewed(&world, &second).await;
        through(&world, &second, "COMPLETED").await;
        assert_eq!(outcomes(&recipient_outcomes(&world, &second).await), of(&[("bad0", "FAILED"), ("empty", "SENT"), ("pair", "SENT")]));
        // A failed recipient with a corrected address: skipped, then with an address of its own.
        let data = world.ask("{ records(first: 50) { nodes { id name } } }", json!({})).await;
        let bad = data["records"]["nodes"].as_array().unwrap().iter().find(|one| one["name"] == "bad0").unwrap()["id"].as_str().unwrap().to_owned();
        update(&world, &bad, json!({ "email": "empty@example.com" })).await;
        let third = repeat(&world, &second).await;
        through(&world, &third, "COMPLETED").await;
        assert_eq!(outcomes(&recipient_outcomes(&world, &third).await), of(&[("bad0", "SKIPPED")]));
        assert_eq!(world.refused(REPEAT, json!({ "id": third, "only": true })).await.0, "CONFLICT");
        update(&world, &bad, json!({ "email": "bad0@example.com" })).await;
        update(&world, &twin, json!({ "email": "twin@example.com" })).await;
        let fourth = repeat(&world, &third).await;
        through(&world, &fourth, "COMPLETED").await;
        assert_eq!(outcomes(&recipient_outcomes(&world, &fourth).await), of(&[("bad0", "SENT")]));
        // One recipient of the first run is left to repeat.
        let fifth = repeat(&world, &run).await;
        world.tick(true).await;
        reviewed(&world, &fifth).await;
        through(&world, &fifth, "COMPLETED").await;
        assert_eq!(outcomes(&recipient_outcomes(&world, &fifth).await), of(&[("twin", "SENT")]));
        assert_eq!(taken(&sink, "@example.com"), 5);
        world.end().await;
    }
}

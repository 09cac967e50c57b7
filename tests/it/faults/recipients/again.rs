//! Retries: repeats of what failed, and a completed run that is retried, reach only those who were
//! not reached before.

use serde_json::{Value, json};

use super::{person, reviewed, update};
use crate::harness::plan::Plan;
use crate::harness::sink::Sink;
use crate::harness::{Kind, World, noon};

pub(super) const REPEAT: &str =
    "mutation($id: ID!, $only: Boolean) { repeatRun(input: { id: $id, onlyFailed: $only }) { run { id } } }";
pub(super) const RETRY: &str =
    "mutation($id: ID!) { retryRun(input: { id: $id, recipients: FAILED }) { run { id status endedAt outcome } } }";
const ACTIONS: &str = "query($id: ID!) { run(id: $id) { availableActions { action allowed blockedBecause } } }";

/// Returns whether an action on a run is allowed, and the reason if it is not.
async fn allowed(world: &World, run: &str, action: &str) -> (bool, String) {
    let data = world.ask(ACTIONS, json!({ "id": run })).await;
    let all = data["run"]["availableActions"].as_array().unwrap();
    let one = all.iter().find(|one| one["action"] == action).unwrap();
    (one["allowed"] == true, one["blockedBecause"].as_str().unwrap_or_default().to_owned())
}

pub(super) async fn repeat(world: &World, run: &str) -> String {
    world.ask(REPEAT, json!({ "id": run, "only": true })).await["repeatRun"]["run"]["id"].as_str().unwrap().to_owned()
}

/// A world with a mail server, and an approved campaign over leads of which some are rejected.
pub(super) async fn world_of(kind: Kind, fine: usize, refused: usize) -> (World, Sink, Plan) {
    let sink = Sink::start().await;
    let world = World::without_server(kind, Some(sink.url())).await;
    let plan = world.plan("EMAIL", 0).await;
    for i in 0..fine {
        person(&world, &format!("fine{i}"), &format!("fine{i}@example.com")).await;
    }
    for i in 0..refused {
        let side = if i % 2 == 0 { "a" } else { "b" };
        person(&world, &format!("bad{i}"), &format!("bad{i}@refused-{side}.example")).await;
    }
    world.activate(&plan).await;
    (world, sink, plan)
}

/// Runs a run to its end, through all retries of rejected mail.
pub(super) async fn through(world: &World, run: &str, status: &str) -> Value {
    let query = "query($id: ID!) { run(id: $id) { status } }";
    for minute in 0..600 {
        world.tick(true).await;
        if world.ask(query, json!({ "id": run })).await["run"]["status"] == status {
            break;
        }
        let now = world.clock.now();
        world.clock.set(now + chrono::Duration::minutes(minute + 1));
    }
    world.until_run(run, status).await
}

/// Number of addresses containing `part` that got mail. Panics if one of them got two.
pub(super) fn taken(sink: &Sink, part: &str) -> usize {
    let mut all: Vec<String> = sink.kept().into_iter().map(|mail| mail.to).filter(|to| to.contains(part)).collect();
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(
        count,
        all.len(),
        "an address got two: {:?}",
        sink.kept().iter().map(|mail| &mail.to).collect::<Vec<_>>()
    );
    count
}

both! {
    async fn a_repeat_of_what_failed_reaches_exactly_those(kind) {
        let (world, sink, plan) = world_of(kind, 8, 12).await;
        let run = world.launch(&plan).await;
        assert!(!allowed(&world, &run, "REPEAT_FAILED").await.0);
        reviewed(&world, &run).await;
        assert_eq!(through(&world, &run, "COMPLETED").await["outcome"], "8 of 20 sent, 12 failed, 0 skipped");
        assert!(allowed(&world, &run, "REPEAT_FAILED").await.0 && allowed(&world, &run, "RETRY").await.0);
        // Six of the twelve can be reached now.
        sink.refuse("@refused-a");
        let second = repeat(&world, &run).await;
        // While the repeat is open, no other one over the same audience may be launched.
        for blocked in ["REPEAT_FAILED", "RETRY"] {
            let (yes, why) = allowed(&world, &run, blocked).await;
            assert!(!yes && why.contains(&second), "{blocked}: {why}");
        }
        assert_eq!(world.refused(REPEAT, json!({ "id": run, "only": true })).await.0, "CONFLICT");
        assert_eq!(world.refused(RETRY, json!({ "id": run })).await.0, "CONFLICT");
        let done = through(&world, &second, "COMPLETED").await;
        assert_eq!(done["outcome"], "6 of 12 sent, 6 failed, 0 skipped");
        assert_eq!((taken(&sink, "fine"), taken(&sink, "bad")), (8, 6));
        // Released messages were not reviewed again, and drafts were copied from the first run.
        let steps = "query($id: ID!) { run(id: $id) { steps(first: 100, filter: { types: [\"draft_message\", \"review_messages\"] }) { nodes { status error } } } }";
        let kept = world.ask(steps, json!({ "id": second })).await["run"]["steps"]["nodes"].clone();
        assert_eq!(kept.as_array().unwrap().iter().filter(|step| step["error"] == json!(format!("done in {run}"))).count(), 12, "{kept:#}");
        assert!(kept.as_array().unwrap().iter().all(|step| step["status"] == "SKIPPED"), "{kept:#}");
        // A repeat of the first run and one of the second reach the same six; after that nobody is
        // left in either.
        sink.refuse("bad2@");
        let third = repeat(&world, &run).await;
        assert_eq!(through(&world, &third, "COMPLETED").await["outcome"], "5 of 6 sent, 1 failed, 0 skipped");
        sink.refuse("nobody");
        let fourth = repeat(&world, &second).await;
        assert_eq!(through(&world, &fourth, "COMPLETED").await["outcome"], "1 of 1 sent, 0 failed, 0 skipped");
        assert_eq!((taken(&sink, "fine"), taken(&sink, "bad")), (8, 12));
        for ended in [&run, &second, &third, &fourth] {
            let (code, told) = world.refused(REPEAT, json!({ "id": ended, "only": true })).await;
            assert!(code == "CONFLICT" && told.contains("no recipients are left"), "{told}");
            assert_eq!(world.refused(RETRY, json!({ "id": ended })).await.0, "CONFLICT");
            assert!(!allowed(&world, ended, "REPEAT_FAILED").await.0 && !allowed(&world, ended, "RETRY").await.0);
            assert!(allowed(&world, ended, "REPEAT").await.0);
        }
        world.end().await;
    }
}

both! {
    async fn a_run_that_failed_as_a_whole_is_repeated_over_all(kind) {
        let (world, sink, plan) = world_of(kind, 0, 5).await;
        let run = world.launch(&plan).await;
        reviewed(&world, &run).await;
        through(&world, &run, "FAILED").await;
        assert!(allowed(&world, &run, "REPEAT_FAILED").await.0);
        sink.refuse("nobody");
        assert!(allowed(&world, &run, "RETRY").await.0);
        let dry = "mutation { retryRuns(input: { filter: { statuses: [FAILED] }, dryRun: true }) { count refused { code } } }";
        assert_eq!(world.ask(dry, json!({})).await["retryRuns"], json!({ "count": 1, "refused": [] }));
        let again = repeat(&world, &run).await;
        // The reported and the dry run's counts are those of the mutation.
        let (yes, why) = allowed(&world, &run, "RETRY").await;
        assert!(!yes && why.contains(&again), "{why}");
        assert_eq!(world.ask(dry, json!({})).await["retryRuns"], json!({ "count": 0, "refused": [{ "code": "CONFLICT" }] }));
        assert_eq!(world.refused(RETRY, json!({ "id": run })).await.0, "CONFLICT");
        assert_eq!(through(&world, &again, "COMPLETED").await["outcome"], "5 of 5 sent, 0 failed, 0 skipped");
        assert_eq!(taken(&sink, "bad"), 5);
        let (code, told) = world.refused(REPEAT, json!({ "id": run, "only": true })).await;
        assert!(code == "CONFLICT" && told.contains("reached by a run that repeats it"), "{told}");
        // Retrying the run itself would send to them twice.
        assert!(!allowed(&world, &run, "RETRY").await.0);
        assert_eq!(world.ask(dry, json!({})).await["retryRuns"], json!({ "count": 0, "refused": [{ "code": "CONFLICT" }] }));
        assert_eq!(world.refused(RETRY, json!({ "id": run })).await.0, "CONFLICT");
        assert_eq!(taken(&sink, "bad"), 5);
        world.end().await;
    }
}

both! {
    async fn a_run_that_was_called_off_goes_on_in_a_repeat(kind) {
        let (world, sink, plan) = world_of(kind, 4, 0).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        world.until_review(&run).await;
        world.act("cancelRun", "run", json!({ "id": run })).await;
        world.tick(true).await;
        // Nothing had been released: the drafts are copied, and reviewed.
        let again = repeat(&world, &run).await;
        world.tick(true).await;
        assert!(sink.kept().is_empty());
        reviewed(&world, &again).await;
        assert_eq!(through(&world, &again, "COMPLETED").await["outcome"], "4 of 4 sent, 0 failed, 0 skipped");
        assert_eq!(taken(&sink, "fine"), 4);
        world.end().await;
    }
}

both! {
    async fn a_run_that_was_done_is_tried_again_for_who_failed(kind) {
        let (world, sink, plan) = world_of(kind, 3, 4).await;
        let run = world.launch(&plan).await;
        reviewed(&world, &run).await;
        assert_eq!(through(&world, &run, "COMPLETED").await["outcome"], "3 of 7 sent, 4 failed, 0 skipped");
        // One opts out meanwhile, and one is still rejected.
        sink.refuse("bad0@");
        let gone = world.ask("{ records(filter: { name: { eq: \"bad1\" } }) { nodes { id } } }", json!({})).await["records"]["nodes"][0]["id"].clone();
        update(&world, gone.as_str().unwrap(), json!({ "unsubscribed": true })).await;
        world.clock.set(world.clock.now() + chrono::Duration::hours(1));
        let retried = world.ask(RETRY, json!({ "id": run })).await["retryRun"]["run"].clone();
        assert_eq!(retried, json!({ "id": run, "status": "IN_PROGRESS", "endedAt": null, "outcome": null }));
        assert_eq!(through(&world, &run, "COMPLETED").await["outcome"], "5 of 7 sent, 1 failed, 0 skipped, 1 suppressed");
        assert_eq!((taken(&sink, "fine"), taken(&sink, "bad")), (3, 2));
        // Once more, and for the last time.
        sink.refuse("nobody");
        assert!(allowed(&world, &run, "RETRY").await.0);
        world.ask(RETRY, json!({ "id": run })).await;
        assert_eq!(through(&world, &run, "COMPLETED").await["outcome"], "6 of 7 sent, 0 failed, 0 skipped, 1 suppressed");
        assert_eq!((taken(&sink, "fine"), taken(&sink, "bad")), (3, 3));
        let (code, told) = world.refused(RETRY, json!({ "id": run })).await;
        assert!(code == "CONFLICT" && told.contains("no recipients are left"), "{told}");
        world.end().await;
    }
}

both! {
    async fn who_could_not_be_drafted_is_drafted_reviewed_and_sent_on_a_retry(kind) {
        let (world, sink, plan) = world_of(kind, 2, 0).await;
        let bare = world.create("record", json!({ "kind": "lead", "name": "Bare", "email": "bare@example.com", "attributes": { "first_name": "Bare", "company": "Acme" } })).await;
        let run = world.launch(&plan).await;
        // One of them has lost a value that the template needs.
        update(&world, &bare, json!({ "attributes": { "first_name": "Bare" } })).await;
        reviewed(&world, &run).await;
        assert_eq!(through(&world, &run, "COMPLETED").await["outcome"], "2 of 3 sent, 1 failed, 0 skipped");
        update(&world, &bare, json!({ "attributes": { "first_name": "Bare", "company": "Oak" } })).await;
        world.ask(RETRY, json!({ "id": run })).await;
        world.tick(true).await;
        assert_eq!(sink.kept().len(), 2);
        reviewed(&world, &run).await;
        assert_eq!(through(&world, &run, "COMPLETED").await["outcome"], "3 of 3 sent, 0 failed, 0 skipped");
        assert_eq!((taken(&sink, "fine"), taken(&sink, "bare")), (2, 1));
        assert!(world.clock.now() >= noon());
        world.end().await;
    }
}

both! {
    async fn two_who_repeat_at_once_repeat_once(kind) {
        let (world, sink, plan) = world_of(kind, 1, 2).await;
        let run = world.launch(&plan).await;
        reviewed(&world, &run).await;
        through(&world, &run, "COMPLETED").await;
        sink.refuse("nobody");
        let both = [(REPEAT, json!({ "id": run, "only": true })), (RETRY, json!({ "id": run })), (REPEAT, json!({ "id": run, "only": true }))];
        let all = futures_util::future::join_all(both.into_iter().map(|(query, variables)| world.post(query, variables))).await;
        let fine: Vec<&Value> = all.iter().filter(|answer| answer.get("errors").is_none()).collect();
        assert_eq!(fine.len(), 1, "{all:#?}");
        let data = &fine[0]["data"];
        let went = data["repeatRun"]["run"]["id"].as_str().or(data["retryRun"]["run"]["id"].as_str()).unwrap().to_owned();
        through(&world, &went, "COMPLETED").await;
        assert_eq!((taken(&sink, "fine"), taken(&sink, "bad")), (1, 2));
        world.end().await;
    }
}

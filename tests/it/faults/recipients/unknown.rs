//! Messages in flight when their run ended: their recipients' outcomes follow the messages', and a
//! person can resolve unknown ones also then.

use serde_json::{Value, json};

use super::again::{RETRY, repeat, taken, world_of};
use super::{person, recipient_outcomes, reviewed};
use crate::harness::sink::{Sink, Stage};
use crate::harness::{Kind, World};

const SEND: &str = "mutation($input: StepEmailInput!) { sendStepEmail(input: $input) { communications { id } } }";
const RESOLVE: &str = "mutation($id: ID!, $to: Resolution!) { resolveCommunication(input: { id: $id, resolution: $to }) { communication { status error } } }";

/// A guided run in which one letter is sent and another is held up at the mail server, cancelled
/// meanwhile.
async fn cancelled(kind: Kind, hangs: &str, stage: Stage) -> (World, Sink, String, String) {
    let sink = Sink::start().await;
    let world = World::with(kind, Some(sink.url())).await;
    let config = json!({ "subject": "Hello {{ name }}", "body": "Dear {{ name }}" });
    let (run, steps) = world.own_run(&[("write", "email", config)], json!({})).await;
    world.step_act("startStep", &steps[0], json!({})).await;
    let (first, second) = (person(&world, "fine", "fine@example.com").await, person(&world, "hangs", hangs).await);
    world.ask(SEND, json!({ "input": { "stepId": steps[0], "recordIds": [first] } })).await;
    settled(&world, &run, "SENT", 1).await;
    let trapped = sink.trap(stage, 1);
    world.ask(SEND, json!({ "input": { "stepId": steps[0], "recordIds": [second] } })).await;
    trapped.await.unwrap();
    world.act("cancelRun", "run", json!({ "id": run })).await;
    swept(&world).await;
    let all = recipient_outcomes(&world, &run).await;
    assert_eq!(all[0], ["fine", "SENT", ""], "only what was called off is because of that");
    assert_eq!(all[1], ["hangs", "", ""], "it may go out yet");
    (world, sink, run, steps[0].clone())
}

/// Waits until a number of a run's messages have a status.
async fn settled(world: &World, run: &str, status: &str, count: i64) {
    let query = "query($run: ID!, $status: CommunicationStatus!) { run(id: $run) { communications(statuses: [$status]) { totalCount } } }";
    let wanted = |data: &Value| data["run"]["communications"]["totalCount"] == count;
    world.until(status, query, json!({ "run": run, "status": status }), wanted).await;
}

/// Waits until no sweep is running.
async fn swept(world: &World) {
    while world.number("SELECT COUNT(*) FROM sweep").await > 0 {
        tokio::task::yield_now().await;
    }
}

async fn unknown(world: &World, run: &str) -> Value {
    let query = "query($id: ID!) { run(id: $id) { communications(statuses: [UNKNOWN]) { nodes { id availableActions { action allowed } } } } }";
    let found = world.ask(query, json!({ "id": run })).await["run"]["communications"]["nodes"][0].clone();
    let resolve = found["availableActions"].as_array().unwrap().iter().find(|one| one["action"] == "RESOLVE").unwrap();
    assert_eq!(resolve["allowed"], true);
    found["id"].clone()
}

async fn result(world: &World, step: &str) -> Value {
    world.ask("query($id: ID!) { step(id: $id) { result } }", json!({ "id": step })).await["step"]["result"].clone()
}

both! {
    async fn a_letter_in_hand_when_its_run_is_cancelled_is_told_as_it_went(kind) {
        // It went out.
        let (world, sink, run, step) = cancelled(kind, "hangs@example.com", Stage::Dot).await;
        sink.let_go(true);
        settled(&world, &run, "SENT", 2).await;
        assert_eq!(recipient_outcomes(&world, &run).await, [["fine", "SENT", ""], ["hangs", "SENT", ""]]);
        assert_eq!((result(&world, &step).await, world.number("SELECT COUNT(*) FROM posting").await), (json!({ "emailsSent": 2 }), 0));
        world.end().await;
        // A temporary rejection is final in a cancelled run.
        let (world, sink, run, step) = cancelled(kind, "latebusy@example.com", Stage::Data).await;
        sink.let_go(true);
        settled(&world, &run, "CANCELLED", 1).await;
        assert_eq!(recipient_outcomes(&world, &run).await, [["fine", "SENT", ""], ["hangs", "SKIPPED", "RUN_CANCELLED"]]);
        assert_eq!((result(&world, &step).await, world.number("SELECT COUNT(*) FROM posting").await), (json!({ "emailsSent": 1 }), 0));
        world.end().await;
    }
}

both! {
    async fn an_unknown_letter_of_a_cancelled_run_is_resolved(kind) {
        for (to, status, place, counted) in [
            ("SENT", "SENT", json!(["hangs", "SENT", ""]), json!({ "emailsSent": 2 })),
            ("NOT_SENT", "FAILED", json!(["hangs", "FAILED", "PERSON"]), json!({ "emailsSent": 1, "emailsFailed": 1 })),
        ] {
            let (world, sink, run, step) = cancelled(kind, "hangs@example.com", Stage::Dot).await;
            sink.let_go(false);
            settled(&world, &run, "UNKNOWN", 1).await;
            assert_eq!(recipient_outcomes(&world, &run).await[1], ["hangs", "UNKNOWN", "OUTCOME_UNKNOWN"]);
            let id = unknown(&world, &run).await;
            let (code, told) = world.refused(RESOLVE, json!({ "id": id, "to": "SEND_AGAIN" })).await;
            assert!(code == "CONFLICT" && told.contains("CANCELLED") && told.contains("SENT or NOT_SENT"), "{told}");
            let done = world.ask(RESOLVE, json!({ "id": id, "to": to })).await["resolveCommunication"]["communication"].clone();
            assert_eq!((&done["status"], done["error"].is_null()), (&json!(status), to == "SENT"), "{done}");
            assert_eq!(json!(recipient_outcomes(&world, &run).await[1]), place);
            assert_eq!((result(&world, &step).await, world.number("SELECT COUNT(*) FROM run WHERE on_way <> 0").await), (counted, 0));
            for again in ["SENT", "NOT_SENT", "SEND_AGAIN"] {
                let (code, told) = world.refused(RESOLVE, json!({ "id": id, "to": again })).await;
                assert!(code == "INVALID_TRANSITION" && told.contains(status) && told.contains("UNKNOWN can be resolved"), "{told}");
            }
            world.end().await;
        }
    }
}

both! {
    async fn an_unknown_message_of_a_cancelled_flight_is_resolved_and_repeated(kind) {
        for (to, again) in [("SENT", 0), ("NOT_SENT", 1)] {
            let sink = Sink::start().await;
            let world = World::with(kind, Some(sink.url())).await;
            let plan = world.plan("EMAIL", 3).await;
            world.activate(&plan).await;
            let run = world.launch(&plan).await;
            let review = world.until_review(&run).await;
            let trapped = sink.trap(Stage::Dot, 1);
            world.act("approveStep", "step", json!({ "id": review })).await;
            trapped.await.unwrap();
            settled(&world, &run, "SENT", 2).await;
            world.act("cancelRun", "run", json!({ "id": run })).await;
            sink.let_go(false);
            settled(&world, &run, "UNKNOWN", 1).await;
            let id = unknown(&world, &run).await;
            assert_eq!(recipient_outcomes(&world, &run).await.iter().filter(|one| one[1] == "UNKNOWN" && one[2].starts_with("OUTCOME_UNKNOWN")).count(), 1);
            assert_eq!(world.refused(RESOLVE, json!({ "id": id, "to": "SEND_AGAIN" })).await.0, "CONFLICT");
            world.ask(RESOLVE, json!({ "id": id, "to": to })).await;
            let all = recipient_outcomes(&world, &run).await;
            assert_eq!(all.iter().filter(|one| one[1..] == ["SENT", ""]).count(), 3 - again, "{all:?}");
            if again > 0 {
                let before = sink.kept().len();
                let second = repeat(&world, &run).await;
                world.until_run(&second, "COMPLETED").await;
                assert_eq!(sink.kept().len(), before + again, "exactly the one that did not go out");
                assert_eq!(recipient_outcomes(&world, &second).await.len(), again);
            } else {
                let repeat = "mutation($id: ID!) { repeatRun(input: { id: $id, onlyFailed: true }) { run { id } } }";
                assert_eq!(world.refused(repeat, json!({ "id": run })).await.0, "CONFLICT");
            }
            world.end().await;
        }
    }
}

both! {
    async fn reasons_do_not_outlive_what_they_were_of(kind) {
        let (world, _sink, plan) = world_of(kind, 1, 0).await;
        for name in ["dropdot.a", "dropdot.b"] {
            person(&world, name, &format!("{name}@example.com")).await;
        }
        let run = world.launch(&plan).await;
        reviewed(&world, &run).await;
        world.tick(true).await;
        let query = "query($id: ID!) { run(id: $id) { communications(statuses: [UNKNOWN]) { nodes { id } } } }";
        let found = world.ask(query, json!({ "id": run })).await["run"]["communications"]["nodes"].clone();
        for (message, to) in found.as_array().unwrap().iter().zip(["SENT", "NOT_SENT"]) {
            world.ask(RESOLVE, json!({ "id": message["id"], "to": to })).await;
        }
        let places = world.sql("SELECT outcome, COALESCE(reason, '') FROM run_record ORDER BY outcome").await;
        let told = "a person reported that it was not sent";
        assert_eq!(places, [["FAILED".to_owned(), format!("PERSON: {told}")], ["SENT".to_owned(), String::new()], ["SENT".to_owned(), String::new()]]);
        let steps = world.sql("SELECT status, COALESCE(reason, ''), COALESCE(error, '') FROM step WHERE kind = 'send_message' ORDER BY status").await;
        assert_eq!(steps, [["COMPLETED", "", ""], ["COMPLETED", "", ""], ["FAILED", "MESSAGE_RESOLVED", told]]);
        world.end().await;
    }
}

both! {
    async fn a_test_run_says_that_it_is_repeated_whole(kind) {
        let (world, sink, plan) = world_of(kind, 1, 0).await;
        let test = "mutation($id: ID!) { testRunCampaign(input: { campaignId: $id, recipients: [\"one@refused-a.example\", \"two@example.com\"] }) { run { id } } }";
        let run = world.ask(test, json!({ "id": plan.campaign })).await["testRunCampaign"]["run"]["id"].as_str().unwrap().to_owned();
        world.tick(true).await;
        world.until_run(&run, "COMPLETED").await;
        assert_eq!(taken(&sink, "@"), 1);
        let (code, told) = world.refused(RETRY, json!({ "id": run })).await;
        assert!(code == "CONFLICT" && told.contains("a test run is repeated whole"), "{told}");
        world.end().await;
    }
}

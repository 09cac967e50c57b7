//! A message whose worker was lost in the middle of its hand-over, and whose step is stopped before it
//! is claimed again: its outcome is unknown, and a person resolves it.

use serde_json::json;

use super::again::world_of;
use super::{recipient_outcomes, reviewed, update};
use crate::harness::plan::Plan;
use crate::harness::sink::{Sink, Stage};
use crate::harness::{Kind, World, noon};

const RESOLVE: &str = "mutation($id: ID!, $to: Resolution!) { resolveCommunication(input: { id: $id, resolution: $to }) { communication { status } } }";

/// A run whose one send step waits to resume a hand-over that was cut short.
async fn lapsed(kind: Kind) -> (World, Sink, Plan, String) {
    let (world, sink, plan) = world_of(kind, 1, 0).await;
    let run = world.launch(&plan).await;
    reviewed(&world, &run).await;
    let trapped = sink.trap(Stage::Dot, 1);
    tokio::select! {
        () = async { world.tick(true).await; } => panic!("nothing was trapped"),
        reached = trapped => reached.unwrap(),
    }
    world.clock.set(noon() + chrono::Duration::minutes(5));
    world.rescue().await;
    let waits = "SELECT s.status, c.status FROM step s JOIN communication c ON c.run_record_id = s.run_record_id WHERE s.kind = 'send_message'";
    assert_eq!(world.sql(waits).await, [["QUEUED", "SENDING"]]);
    (world, sink, plan, run)
}

async fn message(world: &World) -> (String, String) {
    let found =
        world.ask("{ communications { nodes { id status } } }", json!({})).await["communications"]["nodes"][0].clone();
    (found["id"].as_str().unwrap().to_owned(), found["status"].as_str().unwrap().to_owned())
}

both! {
    async fn its_run_is_cancelled(kind) {
        for (verb, noun) in [("cancelRun", "run"), ("cancelCampaign", "campaign")] {
            let (world, _sink, plan, run) = lapsed(kind).await;
            world.act(verb, noun, json!({ "id": if noun == "run" { &run } else { &plan.campaign } })).await;
            world.tick(false).await;
            let (id, status) = message(&world).await;
            assert_eq!(status, "UNKNOWN", "{verb}");
            assert_eq!(recipient_outcomes(&world, &run).await[0][1], "UNKNOWN");
            world.ask(RESOLVE, json!({ "id": id, "to": "SENT" })).await;
            assert_eq!(recipient_outcomes(&world, &run).await[0][1], "SENT");
            world.end().await;
        }
    }
}

both! {
    async fn its_recipient_opts_out(kind) {
        let (world, sink, plan, run) = lapsed(kind).await;
        let record = world.ask("{ records { nodes { id } } }", json!({})).await["records"]["nodes"][0]["id"].as_str().unwrap().to_owned();
        update(&world, &record, json!({ "unsubscribed": true })).await;
        world.tick(true).await;
        let (id, status) = message(&world).await;
        assert_eq!(status, "UNKNOWN");
        let waits = world.ask("query($id: ID!) { run(id: $id) { status waitingFor { code } } }", json!({ "id": run })).await["run"].clone();
        assert_eq!(waits, json!({ "status": "IN_PROGRESS", "waitingFor": [{ "code": "RESOLUTION" }] }));
        world.ask(RESOLVE, json!({ "id": id, "to": "SENT" })).await;
        world.tick(true).await;
        world.until_run(&run, "COMPLETED").await;
        assert_eq!(recipient_outcomes(&world, &run).await[0][1], "SENT");
        assert_eq!(sink.kept().len(), 1, "{}", plan.campaign);
        world.end().await;
    }
}

both! {
    async fn a_person_skips_its_step(kind) {
        let (world, _sink, _plan, run) = lapsed(kind).await;
        let query = "{ steps(filter: { types: [\"send_message\"] }) { nodes { id } } }";
        let step = world.ask(query, json!({})).await["steps"]["nodes"][0]["id"].clone();
        world.act("skipStep", "step", json!({ "id": step, "reason": "enough" })).await;
        world.tick(true).await;
        let (id, status) = message(&world).await;
        assert_eq!(status, "UNKNOWN");
        world.until_run(&run, "COMPLETED").await;
        assert_eq!(recipient_outcomes(&world, &run).await[0][1], "UNKNOWN");
        world.ask(RESOLVE, json!({ "id": id, "to": "NOT_SENT" })).await;
        world.end().await;
    }
}

both! {
    async fn the_checker_finds_a_message_that_nobody_has(kind) {
        let (world, _sink, _plan, run) = lapsed(kind).await;
        world.act("cancelRun", "run", json!({ "id": run })).await;
        world.tick(false).await;
        world.force("UPDATE communication SET status = 'SENDING'").await;
        let found = sortie::app::check::check(&world.db).await.unwrap();
        let rule = "a message that is being sent is in somebody's hands, or waits to be";
        assert!(found.iter().any(|one| one.what == rule && one.wrong == 1), "{found:#?}");
        world.force("UPDATE communication SET status = 'UNKNOWN'").await;
        world.end().await;
    }
}

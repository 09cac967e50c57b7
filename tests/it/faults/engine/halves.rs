//! One bad step or message of a batch is isolated, and the stored failure is accurate: it lasts for
//! as long as the fault does, and no longer.

use chrono::Duration;
use serde_json::{Value, json};
use sortie::step_kind::wait::Wait;

use super::{codes, refuse, step, take_again, template};
use crate::harness::sink::Sink;
use crate::harness::{World, noon};

async fn stuck(world: &World, work: &str) -> i64 {
    world.number(&format!("SELECT CAST(COALESCE(SUM(failures), 0) AS bigint) FROM stuck WHERE work = '{work}'")).await
}

both! {
    async fn a_claim_that_passes_again_is_stuck_no_more(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        refuse(&world, kind, "no_claim", "UPDATE", "step", "NEW.status = 'IN_PROGRESS'").await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        assert_eq!(stuck(&world, "CLAIM").await, 1);
        assert!(codes(&world, &run).await.contains(&"STUCK".to_owned()));
        take_again(&world, kind, "no_claim", "step").await;
        world.clock.set(noon() + Duration::seconds(2));
        world.tick(true).await;
        world.until_review(&run).await;
        assert_eq!(stuck(&world, "CLAIM").await, 0);
        assert!(!codes(&world, &run).await.contains(&"STUCK".to_owned()));
        world.end().await;
    }
}

both! {
    async fn a_good_step_does_not_hide_the_failures_of_a_bad_one(kind) {
        let world = World::without_server(kind, None).await;
        let wait = || step("wait", json!({ "until": "2026-11-02T11:00:00Z" }));
        let after = |seconds: i64| {
            let mut later = wait();
            later["trigger"] = json!(format!("delay:{seconds}s"));
            later
        };
        world.apply(&template("waits", false, &[("bad", wait()), ("good", wait()), ("good61", after(61))])).await;
        world.leads(1).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let run = world.fly("waits", json!({ "segmentId": segment })).await;
        world.tick(false).await;
        let ended = "NEW.key = 'bad' AND OLD.status = 'IN_PROGRESS' AND NEW.status IN ('COMPLETED', 'FAILED', 'SKIPPED')";
        refuse(&world, kind, "no_bad", "UPDATE", "step", ended).await;
        for round in 1..=2 {
            // Beside a good step, which is settled: the bad one's lease expires, and both are
            // claimed together.
            assert_eq!(world.perform_once(&Wait).await, 2, "{round}");
            assert_eq!(world.number("SELECT COUNT(*) FROM step WHERE key <> 'bad' AND status = 'COMPLETED'").await, round);
            assert_eq!(stuck(&world, "SETTLE").await, round);
            world.clock.set(noon() + Duration::seconds(61 * round));
            world.rescue().await;
        }
        take_again(&world, kind, "no_bad", "step").await;
        world.clock.set(noon() + Duration::seconds(200));
        world.rescue().await;
        assert_eq!(world.perform(&Wait).await, 1);
        assert_eq!(stuck(&world, "SETTLE").await, 0);
        world.tick(false).await;
        world.until_run(&run, "COMPLETED").await;
        world.end().await;
    }
}

const SETTLE: &str =
    "mutation($steps: [SettleStepInput!]!) { settleSteps(input: { steps: $steps }) { steps { status code message } } }";

both! {
    async fn what_a_worker_can_not_settle_holds_up_no_built_in_step_of_its_run(kind) {
        let world = World::with_auth(kind).await;
        let look = json!({ "type": "look", "assignedTo": "AGENT", "resultSchema": {} });
        let wait = step("wait", json!({ "until": "2026-11-02T12:00:00.400Z" }));
        let mut manifest: Value = serde_json::from_str(&template("looks", false, &[("look", look.clone()), ("other", look), ("wait", wait)])).unwrap();
        manifest["agents"] = json!([{ "name": "looker", "filter": "true" }]);
        world.apply(&manifest.to_string()).await;
        world.leads(1).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let run = world.fly("looks", json!({ "segmentId": segment })).await;
        world.until_step(&run, "look", "QUEUED").await;
        let key = world.agent_key("looker").await;
        let mine = world.claim(&key, 10).await;
        assert_eq!(mine.len(), 2);
        refuse(&world, kind, "no_look", "UPDATE", "step", "NEW.key = 'look' AND NEW.status = 'COMPLETED'").await;
        let end = |key: &str| {
            let step = mine.iter().find(|step| step["key"] == key).unwrap();
            json!({ "id": step["id"], "token": step["token"], "result": { "seen": true } })
        };
        // Alone in its batch: the failure is reported and stored, as among others.
        let told = world.post_as(&key, SETTLE, json!({ "steps": [end("look")] })).await.1;
        assert_eq!(told["data"]["settleSteps"]["steps"][0]["code"], "CONFLICT", "{told:#}");
        assert_eq!(stuck(&world, "SETTLE").await, 1);
        // The record of the failure is not the request's doing.
        let audit = world.ask("{ audit(filter: { mutations: [\"settleSteps\"] }) { nodes { outcome } } }", json!({})).await;
        let outcomes: Vec<&Value> = audit["audit"]["nodes"].as_array().unwrap().iter().map(|entry| &entry["outcome"]).collect();
        assert!(outcomes.iter().all(|outcome| **outcome != "DONE"), "{outcomes:?}");
        let told = world.post_as(&key, SETTLE, json!({ "steps": [end("look"), end("other")] })).await.1;
        let told = told["data"]["settleSteps"]["steps"].clone();
        assert_eq!((&told[0]["code"], &told[1]["status"]), (&json!("CONFLICT"), &json!("COMPLETED")), "{told:#}");
        assert_eq!(stuck(&world, "SETTLE").await, 2);
        assert!(codes(&world, &run).await.contains(&"STUCK".to_owned()));
        // The step is set aside for seconds, and meanwhile the run's own step proceeds.
        world.clock.set(noon() + Duration::milliseconds(500));
        world.until_step(&run, "wait", "COMPLETED").await;
        // Once it is settled, nothing is left of the failure.
        take_again(&world, kind, "no_look", "step").await;
        let told = world.post_as(&key, SETTLE, json!({ "steps": [end("look")] })).await.1;
        assert_eq!(told["data"]["settleSteps"]["steps"][0]["status"], "COMPLETED", "{told:#}");
        world.until_run(&run, "COMPLETED").await;
        assert_eq!(stuck(&world, "SETTLE").await, 0);
        world.end().await;
    }
}

both! {
    async fn a_letter_that_can_not_be_handed_over_holds_up_no_other_and_comes_to_an_end(kind) {
        let sink = Sink::start().await;
        let world = World::without_server(kind, Some(sink.url())).await;
        let mut ids = Vec::new();
        for name in ["a", "b", "c"] {
            ids.push(world.create("record", json!({ "kind": "partnership", "name": name, "email": format!("{name}@p.example") })).await);
        }
        let (run, steps) = world.own_run(&[("write", "email", json!({ "subject": "Hello", "body": "Dear {{ name }}" }))], json!({})).await;
        world.step_act("startStep", &steps[0], json!({})).await;
        refuse(&world, kind, "no_b", "UPDATE", "communication", "NEW.to_address = 'b@p.example' AND NEW.status = 'SENDING'").await;
        let send = "mutation($input: StepEmailInput!) { sendStepEmail(input: $input) { communications { id } } }";
        world.ask(send, json!({ "input": { "stepId": steps[0], "recordIds": ids } })).await;
        world.tick(true).await;
        assert_eq!(sink.kept().len(), 2, "the others go at once");
        for hour in 1..=8 {
            world.clock.set(noon() + Duration::hours(hour));
            world.tick(true).await;
        }
        let now = world.ask("query($id: ID!) { run(id: $id) { messagesOnWay communications { nodes { toAddress status error } } } }", json!({ "id": run })).await["run"].clone();
        assert_eq!(now["messagesOnWay"], 0, "{now:#}");
        for message in now["communications"]["nodes"].as_array().unwrap() {
            let failed = message["toAddress"] == "b@p.example";
            assert_eq!(message["status"], if failed { "FAILED" } else { "SENT" }, "{message}");
            assert_eq!(message["error"].is_string(), failed, "{message}");
        }
        let result = world.ask("query($id: ID!) { step(id: $id) { result } }", json!({ "id": steps[0] })).await["step"]["result"].clone();
        assert_eq!(result, json!({ "emailsSent": 2, "emailsFailed": 1 }));
        take_again(&world, kind, "no_b", "communication").await;
        world.end().await;
    }
}

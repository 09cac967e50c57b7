//! 7.2: reasons are codes. A reason written by a person is never mistaken for one.

use serde_json::{Value, json};

use crate::harness::World;

const RUN: &str = "query($id: ID!) { run(id: $id) { status failureCode steps(first: 50) { nodes { id key status reasonCode error record { name } } } records(first: 50) { nodes { outcome reason reasonCode } } } }";

async fn seen(world: &World, run: &str) -> Value {
    world.ask(RUN, json!({ "id": run })).await["run"].clone()
}

fn step<'a>(run: &'a Value, key: &str) -> &'a Value {
    run["steps"]["nodes"].as_array().unwrap().iter().find(|step| step["key"] == key).unwrap()
}

fn codes(run: &Value) -> Vec<String> {
    let each = run["steps"]["nodes"].as_array().unwrap().iter();
    let mut all: Vec<String> = each
        .map(|step| {
            format!(
                "{} {} {}",
                step["key"].as_str().unwrap(),
                step["status"].as_str().unwrap(),
                step["reasonCode"].as_str().unwrap_or("-")
            )
        })
        .collect();
    all.sort();
    all
}

/// Launches a campaign of one record with these human steps in one task; returns its run.
async fn begun(world: &World, key: &str, steps: Value) -> String {
    world.apply(&json!({ "runTemplates": [{ "key": key, "name": key, "phases": [{ "key": "p", "name": "P", "autonomous": false, "tasks": [{ "key": "t", "name": "T", "steps": steps }] }] }] }).to_string()).await;
    let template = world.id_of("runTemplates", "key", key).await;
    let record = world.create("record", json!({ "kind": "ticket", "name": "T", "email": "t@example.com" })).await;
    let goal = world.create("goal", json!({ "name": format!("G {key}") })).await;
    let writer = world.create("writer", json!({ "name": format!("W {key}"), "body": "b" })).await;
    let campaign = world
        .create(
            "campaign",
            json!({ "name": key, "goalId": goal, "writerId": writer, "recordId": record, "runTemplateId": template }),
        )
        .await;
    for verb in ["submitCampaign", "approveCampaign"] {
        world.act(verb, "campaign", json!({ "id": campaign })).await;
    }
    let run = world.ask("mutation($id: ID!) { runCampaign(input: { campaignId: $id }) { run { id } preflight { checks { code status message } } } }", json!({ "id": campaign })).await["runCampaign"].clone();
    let run = run["run"]["id"].as_str().unwrap_or_else(|| panic!("{run:#}")).to_owned();
    world
        .until("its steps", RUN, json!({ "id": run }), |found| {
            found["run"]["status"] != "QUEUED" && !found["run"]["steps"]["nodes"][0].is_null()
        })
        .await;
    run
}

fn human(key: &str, more: Value) -> Value {
    let mut step = json!({ "key": key, "name": key, "type": "custom", "assignedTo": "HUMAN", "maxAttempts": 1 });
    step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    step
}

both! {
    async fn the_reason_of_each_transition_stands_in_its_event(kind) {
        let world = World::new(kind).await;
        let plan = world.plan("EMAIL", 1).await;
        let campaign = |verb: &str| (verb.to_owned(), "campaign", plan.campaign.clone());
        for (verb, noun, id) in [campaign("submitCampaign"), campaign("approveCampaign"), campaign("pauseCampaign"), campaign("resumeCampaign")] {
            world.act(&verb, noun, json!({ "id": id, "reason": format!("because of {verb}") })).await;
        }
        let run = world.launch(&plan).await;
        world.until_review(&run).await;
        for verb in ["pauseRun", "resumeRun"] {
            world.act(verb, "run", json!({ "id": run, "reason": format!("because of {verb}") })).await;
        }
        // An approval with a reason is no rejection.
        let messages = "query($run: [ID!]) { communications(first: 5, filter: { runIds: $run }) { nodes { id rejectedBecause } } }";
        let message = world.ask(messages, json!({ "run": [run] })).await["communications"]["nodes"][0]["id"].clone();
        let approve = "mutation($id: ID!) { approveCommunication(input: { id: $id, reason: \"because it is fine\" }) { communication { rejectedBecause } } }";
        assert_eq!(world.ask(approve, json!({ "id": message })).await["approveCommunication"]["communication"]["rejectedBecause"], Value::Null);
        let events = world.ask_all_events().await;
        let reasons: Vec<&str> = events.iter().filter_map(|event| event["payload"]["reason"].as_str()).filter(|reason| reason.starts_with("because")).collect();
        let wanted = ["submitCampaign", "approveCampaign", "pauseCampaign", "resumeCampaign", "pauseRun", "resumeRun"].map(|verb| format!("because of {verb}"));
        assert!(wanted.iter().all(|reason| reasons.contains(&reason.as_str())), "{reasons:?}");
        world.end().await;
    }
}

both! {
    async fn a_reason_that_a_person_writes_is_no_code(kind) {
        let world = World::new(kind).await;
        let steps = json!([human("a", json!({})), human("b", json!({ "trigger": "after:a" })), human("c", json!({ "trigger": "after:a" })), human("d", json!({ "when": "record.name == 'nobody'" }))]);
        let run = begun(&world, "spoofed", steps).await;
        let now = seen(&world, &run).await;
        let id = |key: &str| step(&now, key)["id"].as_str().unwrap().to_owned();
        // A person writes a text that the engine would write.
        world.step_act("skipStep", &id("c"), json!({ "reason": "it waited for a, which failed" })).await;
        world.step_act("startStep", &id("a"), json!({})).await;
        world.step_act("failStep", &id("a"), json!({ "reason": "RUN_CANCELLED" })).await;
        let failed = world.until_run(&run, "FAILED").await;
        assert_eq!(failed["status"], "FAILED");
        let now = seen(&world, &run).await;
        assert_eq!(codes(&now), ["a FAILED PERSON", "b SKIPPED WAITED_FOR_FAILED", "c SKIPPED PERSON", "d SKIPPED CONDITION_FALSE"], "{now:#}");
        assert_eq!(now["failureCode"], "PHASE_FAILED");
        world.act("retryRun", "run", json!({ "id": run })).await;
        let again = world.until("the retry", RUN, json!({ "id": run }), |found| step(&found["run"], "a")["status"] == "QUEUED").await["run"].clone();
        assert_eq!(codes(&again), ["a QUEUED -", "b PENDING -", "c SKIPPED PERSON", "d SKIPPED CONDITION_FALSE"], "{again:#}");
        assert_eq!(again["failureCode"], Value::Null);
        // Dependents of a skipped step; the events agree.
        world.step_act("skipStep", &id("a"), json!({})).await;
        let done = world.until_run(&run, "COMPLETED").await;
        assert_eq!(done["status"], "COMPLETED");
        assert_eq!(codes(&seen(&world, &run).await), ["a SKIPPED PERSON", "b SKIPPED WAITED_FOR_SKIPPED", "c SKIPPED PERSON", "d SKIPPED CONDITION_FALSE"]);
        let events = world.ask_all_events().await;
        let told: Vec<String> = events.iter().filter(|event| event["kind"] == "step.skipped").map(|event| format!("{} {}", event["payload"]["key"].as_str().unwrap(), event["payload"]["reasonCode"].as_str().unwrap())).collect();
        assert_eq!(told.len(), 5, "{told:?}");
        assert!(told.contains(&"b WAITED_FOR_FAILED".to_owned()) && told.contains(&"b WAITED_FOR_SKIPPED".to_owned()), "{told:?}");
        // Cancelled, with a reason that looks like another.
        let run = begun(&world, "cancelled", json!([human("a", json!({}))])).await;
        world.act("cancelRun", "run", json!({ "id": run, "reason": "it waited for b, which failed" })).await;
        let now = world.until("the sweep", RUN, json!({ "id": run }), |found| step(&found["run"], "a")["status"] == "SKIPPED").await["run"].clone();
        assert_eq!((codes(&now), &now["failureCode"]), (vec!["a SKIPPED RUN_CANCELLED".to_owned()], &json!("CANCELLED")));
        world.end().await;
    }
}

both! {
    async fn recipients_have_codes_and_texts_apart(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("PHONE", 3).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        let phases = world.ask("query($id: ID!) { run(id: $id) { phases { id status } } }", json!({ "id": run })).await;
        world.ask("mutation($id: ID!) { releasePhase(input: { id: $id }) { phase { id } } }", json!({ "id": phases["run"]["phases"][0]["id"] })).await;
        world.tick(true).await;
        let calls = seen(&world, &run).await;
        let calls: Vec<String> = calls["steps"]["nodes"].as_array().unwrap().iter().filter(|step| step["key"] == "call").map(|step| step["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(calls.len(), 3);
        // Skipped with a text that equals one of our codes: it still counts as a person's reason.
        world.step_act("skipStep", &calls[0], json!({ "reason": "RUN_CANCELLED" })).await;
        world.step_act("skipStep", &calls[1], json!({})).await;
        world.act("cancelRun", "run", json!({ "id": run })).await;
        world.tick(true).await;
        let now = seen(&world, &run).await;
        let mut told: Vec<(String, String)> = now["records"]["nodes"].as_array().unwrap().iter().map(|one| (one["reasonCode"].as_str().unwrap().to_owned(), one["reason"].as_str().unwrap().to_owned())).collect();
        told.sort();
        let wanted = [("PERSON", "PERSON"), ("PERSON", "PERSON: RUN_CANCELLED"), ("RUN_CANCELLED", "RUN_CANCELLED")];
        assert_eq!(told, wanted.map(|(code, text)| (code.to_owned(), text.to_owned())));
        world.end().await;
    }
}

//! Every object in every state: each action is tried, and succeeds exactly when `availableActions` allowed it.

use serde_json::{Value, json};

use crate::harness::World;
use crate::harness::plan::Plan;
use crate::harness::sink::Sink;

const CAMPAIGN: [(&str, &str); 13] = [
    ("UPDATE", "updateCampaign(input: { id: $id, description: \"other\" }) { campaign { id } }"),
    ("SUBMIT", "submitCampaign(input: { id: $id }) { preflight { ready } }"),
    ("APPROVE", "approveCampaign(input: { id: $id }) { preflight { ready } }"),
    ("REJECT", "rejectCampaign(input: { id: $id, reason: \"no\" }) { campaign { id } }"),
    ("PAUSE", "pauseCampaign(input: { id: $id }) { campaign { id } }"),
    ("RESUME", "resumeCampaign(input: { id: $id }) { campaign { id } }"),
    ("COMPLETE", "completeCampaign(input: { id: $id }) { campaign { id } }"),
    ("CANCEL", "cancelCampaign(input: { id: $id }) { campaign { id } }"),
    (
        "TEST_RUN",
        "testRunCampaign(input: { campaignId: $id, recipients: [\"t@example.com\"] }) { preflight { ready } }",
    ),
    ("RUN", "runCampaign(input: { campaignId: $id }) { preflight { ready } }"),
    ("SCHEDULE", "scheduleCampaign(input: { campaignId: $id, at: \"2027-01-01T00:00:00Z\" }) { preflight { ready } }"),
    ("ARCHIVE", "archiveCampaign(input: { id: $id }) { campaign { id } }"),
    ("UNARCHIVE", "unarchiveCampaign(input: { id: $id }) { campaign { id } }"),
];

const RUN: [(&str, &str); 9] = [
    ("RESCHEDULE", "rescheduleRun(input: { id: $id, at: \"2027-01-02T00:00:00Z\" }) { run { id } }"),
    ("PAUSE", "pauseRun(input: { id: $id }) { run { id } }"),
    ("RESUME", "resumeRun(input: { id: $id }) { run { id } }"),
    ("CANCEL", "cancelRun(input: { id: $id }) { run { id } }"),
    ("RETRY", "retryRun(input: { id: $id }) { run { id } }"),
    ("REFRESH", "refreshRun(input: { id: $id }) { run { id } }"),
    ("UPDATE", "updateRun(input: { id: $id, description: \"other\" }) { run { id } }"),
    (
        "ADD_STEP",
        "addRunStep(input: { runId: $id, step: { definition: { key: \"s\", name: \"S\", type: \"note\", assignedTo: HUMAN } } }) { step { id } }",
    ),
    ("UPDATE_OUTCOME", "updateRunOutcome(input: { runId: $id, outcome: \"o\", reason: \"r\" }) { run { id } }"),
];

const STEP: [(&str, &str); 9] = [
    ("START", "startStep(input: { id: $id }) { step { id } }"),
    ("COMPLETE", "completeStep(input: { id: $id, result: { spoke: true } }) { step { id } }"),
    ("FAIL", "failStep(input: { id: $id, reason: \"busy\" }) { step { id } }"),
    ("SKIP", "skipStep(input: { id: $id }) { step { id } }"),
    ("RESET", "resetStep(input: { id: $id }) { step { id } }"),
    ("RESTART", "restartStep(input: { id: $id }) { step { id } }"),
    ("APPROVE", "approveStep(input: { id: $id }) { step { id } }"),
    ("REJECT", "rejectStep(input: { id: $id, reason: \"again\" }) { step { id } }"),
    ("RETRY", "retryStep(input: { id: $id }) { step { id } }"),
];

const COMMUNICATION: [(&str, &str); 4] = [
    ("APPROVE", "approveCommunication(input: { id: $id }) { communication { id } }"),
    ("REJECT", "rejectCommunication(input: { id: $id, reason: \"no\" }) { communication { id } }"),
    ("EDIT", "editCommunication(input: { id: $id, body: \"other\" }) { communication { id } }"),
    ("RESOLVE", "resolveCommunication(input: { id: $id, resolution: SENT }) { communication { id } }"),
];

/// Tries one action on one object and returns whether it was carried out; asserts that
/// `availableActions` had said the same.
async fn attempt(world: &World, noun: &str, id: &str, action: (&str, &str)) -> bool {
    let query = "query($id: ID!) { node(id: $id) { ... on Campaign { a: status availableActions { action allowed blockedBecause } } ... on Run { b: status availableActions { action allowed blockedBecause } } ... on Phase { c: status availableActions { action allowed blockedBecause } } ... on Step { d: status availableActions { action allowed blockedBecause } } ... on Communication { e: status availableActions { action allowed blockedBecause } } } }";
    let node = world.ask(query, json!({ "id": id })).await["node"].clone();
    let said =
        node["availableActions"].as_array().unwrap().iter().find(|said| said["action"] == action.0).unwrap().clone();
    assert_eq!(said["allowed"] == true, said["blockedBecause"].is_null(), "{said}");
    let answer = world.post(&format!("mutation($id: ID!) {{ {} }}", action.1), json!({ "id": id })).await;
    let payload = answer["data"].as_object().and_then(|data| data.values().next()).cloned().unwrap_or_default();
    let done = answer.get("errors").is_none() && payload["preflight"]["ready"] != false;
    assert_eq!(said["allowed"], done, "{noun} {}: {node:#}\n{answer:#}", action.0);
    if let Some(error) = answer["errors"].get(0) {
        let code = error["extensions"]["code"].as_str().unwrap();
        assert!(["INVALID_TRANSITION", "CONFLICT"].contains(&code), "{answer:#}");
    }
    done
}

async fn campaign(world: &World, plan: &Plan, verbs: &[&str]) -> String {
    let query = "query($id: ID!) { campaign(id: $id) { goal { id } writer { id } reviewer { id } messageTemplate { id } segment { id } } }";
    let parts = world.ask(query, json!({ "id": plan.campaign })).await["campaign"].clone();
    let id = world
        .create(
            "campaign",
            json!({
                "name": "Tried", "goalId": parts["goal"]["id"], "writerId": parts["writer"]["id"],
                "reviewerId": parts["reviewer"]["id"], "messageTemplateId": parts["messageTemplate"]["id"],
                "segmentId": parts["segment"]["id"], "variables": { "offer": "x" },
            }),
        )
        .await;
    for verb in verbs {
        world.act(verb, "campaign", json!({ "id": id, "reason": "so" })).await;
    }
    id
}

both! {
    async fn campaigns(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        let (submit, approve) = ("submitCampaign", "approveCampaign");
        let states: [(&str, &[&str]); 8] = [
            ("DRAFT", &[]),
            ("DRAFT in the archive", &["archiveCampaign"]),
            ("PENDING_APPROVAL", &[submit]),
            ("ACTIVE", &[submit, approve]),
            ("PAUSED", &[submit, approve, "pauseCampaign"]),
            ("COMPLETED", &[submit, approve, "completeCampaign"]),
            ("CANCELLED", &["cancelCampaign"]),
            ("CANCELLED in the archive", &["cancelCampaign", "archiveCampaign"]),
        ];
        let mut done = Vec::new();
        for (state, verbs) in states {
            for action in CAMPAIGN {
                let id = campaign(&world, &plan, verbs).await;
                if attempt(&world, "campaign", &id, action).await {
                    done.push(format!("{state} {}", action.0));
                }
            }
        }
        assert_eq!(done, [
            "DRAFT UPDATE", "DRAFT SUBMIT", "DRAFT CANCEL", "DRAFT TEST_RUN", "DRAFT ARCHIVE",
            "DRAFT in the archive TEST_RUN", "DRAFT in the archive UNARCHIVE", "PENDING_APPROVAL APPROVE",
            "PENDING_APPROVAL REJECT", "PENDING_APPROVAL CANCEL", "PENDING_APPROVAL TEST_RUN", "ACTIVE UPDATE",
            "ACTIVE PAUSE", "ACTIVE COMPLETE", "ACTIVE CANCEL", "ACTIVE TEST_RUN", "ACTIVE RUN", "ACTIVE SCHEDULE",
            "PAUSED UPDATE", "PAUSED RESUME", "PAUSED CANCEL", "COMPLETED ARCHIVE", "CANCELLED CANCEL", "CANCELLED ARCHIVE",
            "CANCELLED in the archive CANCEL", "CANCELLED in the archive UNARCHIVE",
        ]);
        // An incomplete campaign can't be submitted, and one with an open run can't be completed.
        let bare = world.create("campaign", json!({ "name": "Bare" })).await;
        assert!(!attempt(&world, "campaign", &bare, CAMPAIGN[1]).await);
        let busy = campaign(&world, &plan, &[submit, approve]).await;
        assert!(attempt(&world, "campaign", &busy, CAMPAIGN[9]).await);
        assert!(!attempt(&world, "campaign", &busy, CAMPAIGN[6]).await);
        // A campaign for one record fails with its run: its message can't be drafted any more.
        let one = json!({ "id": busy, "segmentId": null, "recordId": plan.records[0] });
        world.act("cancelCampaign", "campaign", json!({ "id": busy })).await;
        let failed = campaign(&world, &plan, &[]).await;
        let update = "mutation($input: UpdateCampaignInput!) { updateCampaign(input: $input) { campaign { id } } }";
        world.ask(update, json!({ "input": { "id": failed, "segmentId": null, "recordId": one["recordId"] } })).await;
        for verb in [submit, approve] {
            world.act(verb, "campaign", json!({ "id": failed })).await;
        }
        world.launch(&Plan { campaign: failed.clone(), ..plan }).await;
        let strip = "mutation($id: ID!) { updateRecord(input: { id: $id, attributes: {} }) { record { id } } }";
        world.ask(strip, json!({ "id": one["recordId"] })).await;
        world.tick(true).await;
        for action in CAMPAIGN {
            let may = ["ARCHIVE", "UNARCHIVE"].contains(&action.0);
            assert_eq!(attempt(&world, "campaign", &failed, action).await, may, "FAILED {}", action.0);
        }
        world.end().await;
    }
}

both! {
    async fn runs(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let mut done = Vec::new();
        for state in ["SCHEDULED", "QUEUED", "IN_PROGRESS", "PAUSED", "COMPLETED", "FAILED", "CANCELLED"] {
            for action in RUN {
                let id = run_in(&world, &plan, state).await;
                if attempt(&world, "run", &id, action).await {
                    done.push(format!("{state} {}", action.0));
                }
            }
        }
        assert_eq!(done, [
            "SCHEDULED RESCHEDULE", "SCHEDULED CANCEL", "SCHEDULED REFRESH", "SCHEDULED UPDATE", "QUEUED CANCEL",
            "QUEUED REFRESH", "QUEUED UPDATE", "IN_PROGRESS PAUSE", "IN_PROGRESS CANCEL", "IN_PROGRESS REFRESH",
            "IN_PROGRESS UPDATE", "PAUSED RESUME", "PAUSED CANCEL", "PAUSED REFRESH", "PAUSED UPDATE",
            "COMPLETED UPDATE", "FAILED RETRY", "FAILED UPDATE", "CANCELLED CANCEL", "CANCELLED UPDATE",
        ]);
        // A second cancel has no effect.
        let id = run_in(&world, &plan, "CANCELLED").await;
        world.act("cancelRun", "run", json!({ "id": id })).await;
        let events = world.ask_all_events().await;
        let cancels = events.iter().filter(|event| event["kind"] == "run.cancelled" && event["runId"] == id.as_str()).count();
        assert_eq!(cancels, 1);
        world.tick(true).await;
        world.end().await;
    }
}

async fn run_in(world: &World, plan: &Plan, state: &str) -> String {
    if state == "SCHEDULED" {
        let query = "mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, at: \"2027-01-01T00:00:00Z\" }) { run { id } } }";
        let data = world.ask(query, json!({ "id": plan.campaign })).await;
        return data["scheduleCampaign"]["run"]["id"].as_str().unwrap().to_owned();
    }
    if state == "FAILED" {
        // No message can be drafted, because the record has lost a value that the template needs.
        let id = world.launch(plan).await;
        let attributes =
            "mutation($id: ID!, $to: JSON!) { updateRecord(input: { id: $id, attributes: $to }) { record { id } } }";
        world.ask(attributes, json!({ "id": plan.records[0], "to": {} })).await;
        world.tick(true).await;
        world.ask(attributes, json!({ "id": plan.records[0], "to": { "first_name": "Ada", "company": "Acme" } })).await;
        world.until_run(&id, "FAILED").await;
        return id;
    }
    let id = world.launch(plan).await;
    match state {
        "QUEUED" => {}
        "COMPLETED" => {
            world.tick(true).await;
            let review = world.until_review(&id).await;
            world.act("approveStep", "step", json!({ "id": review })).await;
            world.tick(true).await;
        }
        "CANCELLED" => drop(world.act("cancelRun", "run", json!({ "id": id })).await),
        _ => {
            world.tick(false).await;
            if state == "PAUSED" {
                world.act("pauseRun", "run", json!({ "id": id })).await;
            }
        }
    }
    world.until_run(&id, state).await;
    id
}

both! {
    async fn steps_that_people_do(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("PHONE", 60).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        // The Processing phase waits for its release; it can be released only once.
        let phases = "query($id: ID!) { run(id: $id) { waitingFor { code } phases { id status } } }";
        let found = world.ask(phases, json!({ "id": run })).await["run"].clone();
        assert_eq!(found["waitingFor"], json!([{ "code": "RELEASE" }]));
        let release = ("RELEASE", "releasePhase(input: { id: $id }) { phase { id } }");
        let mut released = Vec::new();
        for phase in found["phases"].as_array().unwrap() {
            for _ in 0..2 {
                released.push(attempt(&world, "phase", phase["id"].as_str().unwrap(), release).await);
            }
        }
        assert_eq!(released, [true, false, true, false, false, false]);
        world.tick(true).await;
        let calls = "query($id: ID!) { run(id: $id) { steps(filter: { types: [\"call\"] }, first: 100) { nodes { id status } } } }";
        let calls = world.ask(calls, json!({ "id": run })).await["run"]["steps"]["nodes"].as_array().unwrap().clone();
        assert_eq!(calls.len(), 60);
        let mut fresh = calls.iter().map(|step| step["id"].as_str().unwrap().to_owned());
        let states: [(&str, &[(&str, Value)]); 6] = [
            ("PENDING", &[]),
            ("IN_PROGRESS", &[("startStep", json!({}))]),
            ("COMPLETED", &[("startStep", json!({})), ("completeStep", json!({}))]),
            ("SKIPPED", &[("skipStep", json!({}))]),
            ("QUEUED", &[("startStep", json!({})), ("failStep", json!({ "reason": "busy" }))]),
            ("FAILED", &[]),
        ];
        let mut done = Vec::new();
        for (state, verbs) in &states {
            for action in STEP {
                let id = fresh.next().unwrap();
                for (verb, input) in *verbs {
                    let mut input = input.clone();
                    input["id"] = json!(id);
                    world.act(verb, "step", input).await;
                }
                if *state == "FAILED" {
                    for _ in 0..5 {
                        world.act("startStep", "step", json!({ "id": id })).await;
                        world.act("failStep", "step", json!({ "id": id, "reason": "nobody answers" })).await;
                    }
                }
                if attempt(&world, "step", &id, action).await {
                    done.push(format!("{state} {}", action.0));
                }
            }
        }
        assert_eq!(done, [
            "PENDING START", "PENDING SKIP", "IN_PROGRESS COMPLETE", "IN_PROGRESS FAIL", "IN_PROGRESS SKIP",
            "IN_PROGRESS RESET", "COMPLETED RESET", "SKIPPED RESTART", "QUEUED START", "QUEUED SKIP",
            "FAILED RETRY",
        ]);
        // Steps change only in a run that is in progress; a call under way when the run is paused
        // can be ended.
        for verb in ["pauseRun", "cancelRun"] {
            world.act(verb, "run", json!({ "id": run })).await;
            for action in STEP {
                for id in calls.iter().step_by(7) {
                    let now = world.ask("query($id: ID!) { step(id: $id) { status } }", json!({ "id": id["id"] })).await;
                    let ends = now["step"]["status"] == "IN_PROGRESS" && ["COMPLETE", "FAIL"].contains(&action.0);
                    let moved = attempt(&world, "step", id["id"].as_str().unwrap(), action).await;
                    assert_eq!(moved, ends && verb == "pauseRun", "{verb} {}", action.0);
                }
            }
        }
        world.tick(true).await;
        world.end().await;
    }
}

both! {
    async fn reviews_and_the_steps_of_workers(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        let mut done = Vec::new();
        for action in STEP {
            let run = world.launch(&plan).await;
            // Before Draft is closed the review is pending, and drafting is queued for workers.
            world.tick(false).await;
            let steps = "query($id: ID!, $type: String!) { run(id: $id) { steps(filter: { types: [$type] }) { nodes { id status } } } }";
            for (kind, state) in [("review_messages", "PENDING"), ("draft_message", "QUEUED"), ("summarise", "PENDING")] {
                let step = world.ask(steps, json!({ "id": run, "type": kind })).await["run"]["steps"]["nodes"][0].clone();
                assert_eq!(step["status"], state);
                if action.0 != "SKIP" && attempt(&world, kind, step["id"].as_str().unwrap(), action).await {
                    done.push(format!("{kind} {state} {}", action.0));
                }
            }
            world.tick(true).await;
            let review = world.until_review(&run).await;
            if attempt(&world, "review", &review, action).await {
                done.push(format!("review AWAITING_APPROVAL {}", action.0));
            }
            world.tick(true).await;
            for kind in ["review_messages", "draft_message", "send_message", "summarise"] {
                let found = world.ask(steps, json!({ "id": run, "type": kind })).await["run"]["steps"]["nodes"].clone();
                for step in found.as_array().unwrap().iter().filter(|step| step["status"] == "COMPLETED") {
                    assert!(!attempt(&world, kind, step["id"].as_str().unwrap(), action).await);
                }
            }
            let status = world.ask("query($id: ID!) { run(id: $id) { status } }", json!({ "id": run })).await;
            if status["run"]["status"] == "IN_PROGRESS" {
                world.act("cancelRun", "run", json!({ "id": run })).await;
            }
        }
        assert_eq!(done, ["review AWAITING_APPROVAL SKIP", "review AWAITING_APPROVAL APPROVE", "review AWAITING_APPROVAL REJECT"]);
        world.tick(true).await;
        world.end().await;
    }
}

both! {
    async fn communications(kind) {
        let sink = Sink::start().await;
        let world = World::without_server(kind, Some(sink.url())).await;
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        let mut done = Vec::new();
        for state in ["DRAFT", "APPROVED", "REJECTED", "SENDING", "SENT", "FAILED", "SUPPRESSED", "UNKNOWN", "CANCELLED"] {
            for action in COMMUNICATION {
                let run = world.launch(&plan).await;
                world.tick(true).await;
                let review = world.until_review(&run).await;
                let query = "query($id: ID!) { run(id: $id) { communications { nodes { id status } } } }";
                let id = world.ask(query, json!({ "id": run })).await["run"]["communications"]["nodes"][0]["id"].as_str().unwrap().to_owned();
                match state {
                    "DRAFT" => {}
                    "APPROVED" => assert!(attempt(&world, "communication", &id, COMMUNICATION[0]).await),
                    "REJECTED" => assert!(attempt(&world, "communication", &id, COMMUNICATION[1]).await),
                    "SENT" => {
                        world.act("approveStep", "step", json!({ "id": review })).await;
                        world.tick(true).await;
                    }
                    "CANCELLED" => {
                        world.act("cancelRun", "run", json!({ "id": run })).await;
                        world.tick(true).await;
                    }
                    // These statuses occur only during a hand-over; here they are set by SQL.
                    _ => {
                        let uuid = entity::id::Id::uuid(id.parse::<entity::id::CommunicationId>().unwrap());
                        let which = if kind == crate::harness::Kind::Sqlite { format!("x'{}'", uuid.simple()) } else { format!("'{uuid}'") };
                        world.force(&format!("UPDATE communication SET status = '{state}' WHERE id = {which}")).await;
                    }
                }
                if attempt(&world, "communication", &id, action).await {
                    done.push(format!("{state} {}", action.0));
                }
                let status = world.ask("query($id: ID!) { run(id: $id) { status } }", json!({ "id": run })).await;
                if status["run"]["status"] == "IN_PROGRESS" {
                    world.act("cancelRun", "run", json!({ "id": run })).await;
                }
            }
        }
        assert_eq!(done, [
            "DRAFT APPROVE", "DRAFT REJECT", "DRAFT EDIT", "APPROVED REJECT", "APPROVED EDIT", "UNKNOWN RESOLVE",
        ]);
        world.drop_unchecked().await;
    }
}

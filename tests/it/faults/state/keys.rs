//! 7.1: every mutation that takes an idempotency key, asked twice with it: the same answer, no second effect, and the audit
//! names what the mutation is about.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::World;

/// What each mutation's answer shows: the noun that it is about, first.
fn shown(mutation: &str) -> &'static str {
    match mutation {
        "raiseEvent" => "name",
        "settleSteps" => "steps { id status code }",
        "createApiKey" | "revokeApiKey" => "apiKey { id revokedAt }",
        "runCampaign" | "testRunCampaign" | "scheduleCampaign" | "scheduleGuidedRun" => "run { id name type }",
        "sendStepEmail" => "communications { id toAddress } step { id }",
        "updateStepStage" => "step { id } records { id stage }",
        "createStepRecords" => "records { id name } step { id }",
        "addStepNote" => "activities { id kind } step { id }",
        "scheduleStepMeeting" | "moveMeeting" | "cancelMeeting" => "meeting { id status startsAt revision }",
        "recordReply" => "reply { id body }",
        "suppressAddress" => "suppression { id address }",
        "endSchedule" => "schedule { id status }",
        name if name.starts_with("delete") => "deletedId",
        name if name.ends_with("Campaign") || name.contains("CampaignVersion") => {
            "campaign { id status name revision }"
        }
        name if name.ends_with("Step") => "step { id status revision error result }",
        name if name.ends_with("Run") => "run { id status name revision }",
        name if name.ends_with("Phase") => "phase { id status revision }",
        name if name.ends_with("Communication") => "communication { id status revision }",
        name if name.ends_with("FollowUp") => "followUp { id status revision }",
        name if name.ends_with("MessageTemplate") => "messageTemplate { id name revision }",
        name if name.ends_with("RunTemplate") => "runTemplate { id name revision }",
        name if name.ends_with("Goal") => "goal { id name revision }",
        name if name.ends_with("Writer") => "writer { id name revision }",
        name if name.ends_with("Reviewer") => "reviewer { id name revision }",
        name if name.ends_with("Member") => "member { id name revision }",
        name if name.ends_with("Segment") => "segment { id name revision }",
        name if name.ends_with("Record") => "record { id name revision }",
        name if name.ends_with("Agent") => "agent { id name revision }",
        name => panic!("{name} is new: say what its answer shows"),
    }
}

struct Tried<'a> {
    world: &'a World,
    inputs: std::collections::BTreeMap<String, String>,
    done: BTreeSet<String>,
}

impl<'a> Tried<'a> {
    async fn new(world: &'a World) -> Self {
        let schema = world.ask("{ __schema { mutationType { fields { name args { name type { ofType { name inputFields { name } } } } } } } }", json!({})).await;
        let fields = schema["__schema"]["mutationType"]["fields"].as_array().unwrap();
        let keyed = fields.iter().filter_map(|field| {
            let of = &field["args"][0]["type"]["ofType"];
            let keyed = of["inputFields"].as_array()?.iter().any(|input| input["name"] == "idempotencyKey");
            keyed.then(|| (field["name"].as_str().unwrap().to_owned(), of["name"].as_str().unwrap().to_owned()))
        });
        Self { world, inputs: keyed.collect(), done: BTreeSet::new() }
    }

    /// Asks twice with one key. What the answer shows of its noun.
    async fn twice(&mut self, mutation: &str, input: Value) -> Value {
        let world = self.world;
        let kind = self.inputs.get(mutation).unwrap_or_else(|| panic!("{mutation} takes no key"));
        let fields = shown(mutation);
        let query = format!("mutation($input: {kind}!) {{ {mutation}(input: $input) {{ {fields} }} }}");
        let mut input = input;
        input["idempotencyKey"] = json!(format!("{mutation} {}", self.done.len()));
        let first = world.ask(&query, json!({ "input": input })).await[mutation].clone();
        let events = world
            .number("SELECT COUNT(*) FROM event WHERE kind NOT LIKE 'step.%' AND kind NOT LIKE 'communication.%'")
            .await;
        let second = world.post(&query, json!({ "input": input })).await;
        assert!(second.get("errors").is_none(), "{mutation}, asked again: {second:#}");
        let second = second["data"][mutation].clone();
        let noun = fields.split_whitespace().next().unwrap();
        let one = |answer: &Value| if answer[noun].is_array() { answer[noun][0].clone() } else { answer[noun].clone() };
        if mutation == "createApiKey" || mutation == "launch" {
            assert_eq!(one(&first)["id"], one(&second)["id"], "{mutation}");
        } else {
            assert_eq!(first, second, "{mutation}");
        }
        let again = world
            .number("SELECT COUNT(*) FROM event WHERE kind NOT LIKE 'step.%' AND kind NOT LIKE 'communication.%'")
            .await;
        assert_eq!(events, again, "{mutation} did something again");
        // The audit names what the answer is about.
        let about = match &one(&first) {
            Value::Object(fields) => fields["id"].clone(),
            text => text.clone(),
        };
        let audit = world
            .ask(
                "query($m: [String!]) { audit(first: 2, filter: { mutations: $m }) { nodes { targetId outcome } } }",
                json!({ "m": [mutation] }),
            )
            .await;
        let targets: Vec<&Value> =
            audit["audit"]["nodes"].as_array().unwrap().iter().map(|entry| &entry["targetId"]).collect();
        let named = match mutation {
            // Of any noun; and an activity, which tells of all the others.
            "raiseEvent" | "createStepRecords" => !targets[1].is_null(),
            _ => *targets[1] == about,
        };
        assert!(named, "{mutation} of {about}: the audit names {targets:?}");
        self.done.insert(mutation.to_owned());
        one(&first)
    }
}

fn id(of: &Value) -> String {
    of["id"].as_str().unwrap().to_owned()
}

/// A campaign for one record, whose run is one step of a person; its run and that step.
pub async fn single(world: &World, more: Value) -> (String, String, String) {
    let template = world.id_of("runTemplates", "key", "single").await;
    let record = world.create("record", json!({ "kind": "ticket", "name": "T", "email": "t@example.com" })).await;
    let mut input = json!({ "name": "Single", "recordId": record, "runTemplateId": template });
    input["goalId"] = json!(world.id_of("goals", "name", "Single goal").await);
    input["writerId"] = json!(world.id_of("writers", "name", "Single writer").await);
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let campaign = world.create("campaign", input).await;
    for verb in ["submitCampaign", "approveCampaign"] {
        world.act(verb, "campaign", json!({ "id": campaign })).await;
    }
    let run = world.ask("mutation($id: ID!) { runCampaign(input: { campaignId: $id }) { run { id } preflight { checks { code status message } } } }", json!({ "id": campaign })).await["runCampaign"].clone();
    let run = run["run"]["id"].as_str().unwrap_or_else(|| panic!("{run:#}")).to_owned();
    let query = "query($id: ID!) { run(id: $id) { status steps { nodes { id key status } } } }";
    let found = world
        .until("its step", query, json!({ "id": run }), |found| {
            found["run"]["status"] == "IN_PROGRESS" && !found["run"]["steps"]["nodes"][0].is_null()
        })
        .await;
    (campaign, run, id(&found["run"]["steps"]["nodes"][0]))
}

both! {
    async fn the_act_that_ends_a_run_of_one_record_is_answered_alike(kind) {
        let world = World::new(kind).await;
        prepare(&world).await;
        let mut tried = Tried::new(&world).await;
        for (verbs, ends) in [
            (&["completeStep"][..], "COMPLETED"),
            (&["skipStep"], "COMPLETED"),
            (&["failStep"], "FAILED"),
            (&["submitStep", "approveStep"], "COMPLETED"),
            (&["submitStep", "rejectStep"], "FAILED"),
            (&["failStep", "retryRun", "completeStep"], "COMPLETED"),
            (&["cancelRun"], "CANCELLED"),
            (&["pauseRun", "resumeRun", "completeStep"], "COMPLETED"),
            (&["releasePhase", "completeStep"], "COMPLETED"),
        ] {
            let (campaign, run, step) = single(&world, json!({})).await;
            let phase = world.ask("query($id: ID!) { run(id: $id) { phases { id } } }", json!({ "id": run })).await["run"]["phases"][0]["id"].clone();
            if !verbs[0].ends_with("Run") {
                tried.twice("startStep", json!({ "id": step })).await;
            }
            for verb in verbs {
                if *verb == "completeStep" && verbs.len() > 1 {
                    let now = world.ask("query($id: ID!) { step(id: $id) { status } }", json!({ "id": step })).await;
                    if now["step"]["status"] != "IN_PROGRESS" {
                        tried.twice("startStep", json!({ "id": step })).await;
                    }
                }
                let of = if verb.ends_with("Run") { json!({ "id": run }) } else if *verb == "releasePhase" { json!({ "id": phase }) } else { json!({ "id": step, "reason": "r" }) };
                tried.twice(verb, of).await;
            }
            // A retry's sweep may still be at work: the run ends with it.
            world.until_run(&run, ends).await;
            let found = world.ask("query($c: ID!) { campaign(id: $c) { status } }", json!({ "c": campaign })).await;
            assert_eq!(found["campaign"]["status"], if ends == "CANCELLED" { "ACTIVE" } else { ends }, "{verbs:?}");
        }
        world.end().await;
    }
}

pub async fn prepare(world: &World) {
    world.apply(&json!({ "runTemplates": [{ "key": "single", "name": "Single", "phases": [{ "key": "p", "name": "P", "autonomous": false, "tasks": [
        { "key": "t", "name": "T", "steps": [{ "key": "s", "name": "S", "type": "custom", "assignedTo": "HUMAN", "maxAttempts": 1 }] },
    ] }] }] }).to_string()).await;
    world.create("goal", json!({ "name": "Single goal" })).await;
    world.create("writer", json!({ "name": "Single writer", "body": "b" })).await;
}

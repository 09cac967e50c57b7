//! Idempotency keys: repeating a request has no second effect and returns the original result.

use serde_json::{Value, json};

use crate::harness::{World, noon};

const LAUNCH: &str = "mutation($id: ID!, $key: String, $name: String) { runCampaign(input: { campaignId: $id, evenIfOpen: true, name: $name, idempotencyKey: $key }) { run { id name } preflight { ready checks { code } } } }";

both! {
    async fn one_key_has_one_effect(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        // A failed preflight stores nothing: the same key launches once preflight passes.
        let held = world.ask(LAUNCH, json!({ "id": plan.campaign, "key": "k" })).await["runCampaign"].clone();
        assert_eq!((&held["run"], &held["preflight"]["ready"]), (&Value::Null, &json!(false)));
        world.activate(&plan).await;
        let first = world.ask(LAUNCH, json!({ "id": plan.campaign, "key": "k" })).await["runCampaign"].clone();
        let second = world.ask(LAUNCH, json!({ "id": plan.campaign, "key": "k" })).await["runCampaign"].clone();
        assert_eq!(first, second);
        assert_eq!(first["preflight"]["ready"], true);
        let (code, message) = world.refused(LAUNCH, json!({ "id": plan.campaign, "key": "k", "name": "other" })).await;
        assert_eq!(code, "BAD_USER_INPUT");
        assert!(message.contains("idempotencyKey") && message.contains("another input"), "{message}");
        assert_eq!(world.refused(LAUNCH, json!({ "id": plan.campaign, "key": " " })).await.0, "BAD_USER_INPUT");
        let runs = "{ runs { totalCount } }";
        assert_eq!(world.ask(runs, json!({})).await["runs"]["totalCount"], 1);
        // The response is the same even if a launch would not be allowed any more.
        world.act("pauseCampaign", "campaign", json!({ "id": plan.campaign })).await;
        assert_eq!(world.ask(LAUNCH, json!({ "id": plan.campaign, "key": "k" })).await["runCampaign"], first);
        world.act("resumeCampaign", "campaign", json!({ "id": plan.campaign })).await;
        // A key is scoped to its mutation; another mutation may use the same one. A repeat returns
        // the object in its current state.
        let run = first["run"]["id"].clone();
        world.tick(false).await;
        let pause = "mutation($id: ID!) { pauseRun(input: { id: $id, idempotencyKey: \"k\" }) { run { status } } }";
        assert_eq!(world.ask(pause, json!({ "id": run })).await["pauseRun"]["run"]["status"], "PAUSED");
        world.act("resumeRun", "run", json!({ "id": run })).await;
        assert_eq!(world.ask(pause, json!({ "id": run })).await["pauseRun"]["run"]["status"], "IN_PROGRESS");
        // The key expires after seven days.
        world.clock.set(noon() + chrono::Duration::days(6));
        assert_eq!(sortie::kernel::idempotency::expiry::delete_expired(&world.db.write()).await.unwrap(), 0);
        world.clock.set(noon() + chrono::Duration::days(7) + chrono::Duration::seconds(1));
        assert_eq!(sortie::kernel::idempotency::expiry::delete_expired(&world.db.write()).await.unwrap(), 2);
        assert_eq!(world.ask(pause, json!({ "id": run })).await["pauseRun"]["run"]["status"], "PAUSED");
        world.end().await;
    }
}

/// Sends every mutation that creates something, or makes a transition, twice with one key.
const TWICE: [(&str, &str); 16] = [
    ("createGoal", "createGoal(input: { name: \"G\", idempotencyKey: \"t\" }) { goal { id } }"),
    ("createWriter", "createWriter(input: { name: \"W\", idempotencyKey: \"t\" }) { writer { id } }"),
    ("createReviewer", "createReviewer(input: { name: \"R\", idempotencyKey: \"t\" }) { reviewer { id } }"),
    (
        "createMember",
        "createMember(input: { name: \"M\", email: \"m@example.com\", role: VIEWER, idempotencyKey: \"t\" }) { member { id } }",
    ),
    (
        "createMessageTemplate",
        "createMessageTemplate(input: { name: \"T\", subject: \"s\", body: \"b\", idempotencyKey: \"t\" }) { messageTemplate { id } }",
    ),
    (
        "createSegment",
        "createSegment(input: { name: \"S\", filter: { all: true }, idempotencyKey: \"t\" }) { segment { id } }",
    ),
    ("createRecord", "createRecord(input: { kind: \"lead\", name: \"L\", idempotencyKey: \"t\" }) { record { id } }"),
    ("createCampaign", "createCampaign(input: { name: \"C\", idempotencyKey: \"t\" }) { campaign { id } }"),
    (
        "suppressAddress",
        "suppressAddress(input: { channel: EMAIL, address: \"x@example.com\", reason: \"r\", idempotencyKey: \"t\" }) { suppression { id } }",
    ),
    (
        "testRunCampaign",
        "testRunCampaign(input: { campaignId: $id, recipients: [\"t@example.com\"], idempotencyKey: \"t\" }) { run { id } preflight { ready } }",
    ),
    (
        "scheduleCampaign",
        "scheduleCampaign(input: { campaignId: $id, at: \"2027-01-01T00:00:00Z\", idempotencyKey: \"t\" }) { run { id } schedule { id } }",
    ),
    (
        "setStages",
        "setStages(input: { recordKind: \"order\", stages: [\"New\", \"Paid\"], idempotencyKey: \"t\" }) { pipeline { stages own } }",
    ),
    (
        "setStages",
        "setStages(input: { recordKind: \"order\", stages: [], idempotencyKey: \"u\" }) { pipeline { stages own } }",
    ),
    (
        "saveView",
        "saveView(input: { page: \"runs\", name: \"Mine\", settings: { columns: [\"name\"] }, idempotencyKey: \"t\" }) { savedView { id revision } }",
    ),
    (
        "startBulkAction",
        "startBulkAction(input: { verb: PAUSE_RUNS, ids: [], idempotencyKey: \"t\" }) { bulkAction { id } }",
    ),
    ("pauseCampaign", "pauseCampaign(input: { id: $id, idempotencyKey: \"t\" }) { campaign { id status } }"),
];

both! {
    async fn every_mutation_may_be_asked_twice(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        for (name, mutation) in TWICE {
            let query = if mutation.contains("$id") { format!("mutation($id: ID!) {{ {mutation} }}") } else { format!("mutation {{ {mutation} }}") };
            let first = world.ask(&query, json!({ "id": plan.campaign })).await;
            let events = world.ask_all_events().await.len();
            assert_eq!(world.ask(&query, json!({ "id": plan.campaign })).await, first, "{name}");
            assert_eq!(world.ask_all_events().await.len(), events, "{name} did something again");
        }
        // All mutation inputs have a key, except those whose repetition has no effect anyway.
        let schema = world.ask("{ __schema { mutationType { fields { name args { type { ofType { inputFields { name } } } } } } } }", json!({})).await;
        let without: Vec<&str> = schema["__schema"]["mutationType"]["fields"].as_array().unwrap().iter()
            .filter(|field| !field["args"][0]["type"]["ofType"]["inputFields"].as_array().unwrap().iter().any(|input| input["name"] == "idempotencyKey"))
            .map(|field| field["name"].as_str().unwrap())
            .collect();
        // A claim whose response was lost expires; all other repeats find nothing to do.
        let harmless = ["unsubscribeRecords", "unsuppressAddress", "applyManifest", "cancelRuns", "retryRuns", "claimSteps", "renewSteps"];
        assert_eq!(without, harmless);
        world.tick(true).await;
        world.end().await;
    }
}

both! {
    async fn twins_at_once_have_one_effect(kind) {
        let world = std::sync::Arc::new(World::new(kind).await);
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let mut twins = tokio::task::JoinSet::new();
        for i in 0..60 {
            let (world, campaign) = (world.clone(), plan.campaign.clone());
            twins.spawn(async move {
                let key = format!("twin-{}", i % 6);
                (key.clone(), world.post(LAUNCH, json!({ "id": campaign, "key": key })).await)
            });
        }
        let mut made: std::collections::BTreeMap<String, std::collections::BTreeSet<String>> = std::collections::BTreeMap::new();
        while let Some(answer) = twins.join_next().await {
            let (key, answer) = answer.unwrap();
            let run = answer["data"]["runCampaign"]["run"]["id"].as_str().unwrap_or_else(|| panic!("{answer:#}"));
            made.entry(key).or_default().insert(run.to_owned());
        }
        assert!(made.len() == 6 && made.values().all(|runs| runs.len() == 1), "{made:?}");
        assert_eq!(world.ask("{ runs { totalCount } }", json!({})).await["runs"]["totalCount"], 6);
        let Ok(world) = std::sync::Arc::try_unwrap(world) else { panic!("still shared") };
        world.end().await;
    }
}

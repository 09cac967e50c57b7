//! The worked examples: each manifest is applied, and a run of it flown to its end as its people and the world would.

use chrono::Duration;
use entity::member::Role;
use serde_json::{Value, json};

use crate::harness::api::{Answer, Api};
use crate::harness::{World, noon};

const ORDER: &str = include_str!("../../examples/order-fulfilment.yaml");

impl World {
    /// Applies a manifest: what it made, changed and left.
    pub async fn apply(&self, yaml: &str) -> Value {
        let query = "mutation($yaml: String!) { applyManifest(input: { yaml: $yaml }) { applied changes { action noun name fields } problems { line path message } } }";
        let done = self.ask(query, json!({ "yaml": yaml })).await["applyManifest"].clone();
        assert_eq!((&done["applied"], &done["problems"]), (&json!(true), &json!([])), "{done:#}");
        done
    }

    /// The id of what a manifest made, by its name.
    pub async fn id_of(&self, list: &str, by: &str, name: &str) -> String {
        let data = self.ask(&format!("{{ {list}(first: 500) {{ nodes {{ id {by} }} }} }}"), json!({})).await;
        let all = data[list]["nodes"].as_array().unwrap();
        let found = all.iter().find(|one| one[by] == name).unwrap_or_else(|| panic!("no {name} in {list}"));
        found["id"].as_str().unwrap().to_owned()
    }

    /// A campaign for one record, or over a segment, of a template; launched. The run's id.
    pub async fn fly(&self, template: &str, input: Value) -> String {
        let mut all = json!({
            "name": template, "runTemplateId": self.id_of("runTemplates", "key", template).await,
        });
        if input["goalId"].is_null() {
            all["goalId"] = json!(self.create("goal", json!({ "name": "A goal" })).await);
        }
        all.as_object_mut().unwrap().extend(input.as_object().unwrap().clone());
        let campaign = self.create("campaign", all).await;
        for verb in ["submitCampaign", "approveCampaign"] {
            let query = format!(
                "mutation($id: ID!) {{ {verb}(input: {{ id: $id }}) {{ campaign {{ status }} preflight {{ ready checks {{ code status message }} }} }} }}"
            );
            let done = self.ask(&query, json!({ "id": campaign })).await;
            assert_eq!(done[verb]["preflight"]["ready"], true, "{done:#}");
        }
        let launch = "mutation($id: ID!) { runCampaign(input: { campaignId: $id }) { run { id } preflight { ready checks { code status message } } } }";
        let done = self.ask(launch, json!({ "id": campaign })).await;
        done["runCampaign"]["run"]["id"].as_str().unwrap_or_else(|| panic!("{done:#}")).to_owned()
    }

    /// The steps of a run, by key (of a fan-out, the first one).
    pub async fn steps(&self, run: &str) -> std::collections::BTreeMap<String, Value> {
        let query = "query($run: ID!) { steps(filter: { runIds: [$run] }, first: 500) { nodes { id key status error result trigger availableAt dueAt overdueAt attemptCount record { id } } } }";
        let data = self.ask(query, json!({ "run": run })).await;
        let mut all = std::collections::BTreeMap::new();
        for step in data["steps"]["nodes"].as_array().unwrap() {
            all.entry(step["key"].as_str().unwrap().to_owned()).or_insert_with(|| step.clone());
        }
        all
    }

    /// Waits until a step of a run has a status; the step.
    pub async fn until_step(&self, run: &str, key: &str, status: &str) -> Value {
        loop {
            let steps = self.steps(run).await;
            match steps.get(key) {
                Some(step) if step["status"] == status => return step.clone(),
                _ => tokio::task::yield_now().await,
            }
        }
    }

    /// Does something with a step, as somebody.
    pub async fn act_as(&self, key: &str, verb: &str, input: Value) -> (u16, Value) {
        let query =
            format!("mutation($input: StepActInput!) {{ {verb}(input: $input) {{ step {{ id status error }} }} }}");
        self.post_as(key, &query, json!({ "input": input })).await
    }
}

both! {
    async fn an_order_is_fulfilled(kind) {
        let api = Api::start(Answer::json(201, json!({ "id": "R-7", "shelf": "B3", "tracking": "T-99" }))).await;
        // The warehouse is down twice.
        api.then([Answer::json(503, json!({ "error": "down" })), Answer::Says(429, Some(("retry-after", "5".into())), "slow".into())]);
        let world = World::guarded(kind).await;
        let done = world.apply(ORDER).await;
        assert!(done["changes"].as_array().unwrap().iter().all(|change| change["action"] == "CREATE"), "{done:#}");
        let again = world.apply(ORDER).await;
        assert!(again["changes"].as_array().unwrap().iter().all(|change| change["action"] == "UNCHANGED"), "{again:#}");
        let order = json!({ "kind": "order", "externalId": "O-1", "name": "Ada", "email": "ada@example.com", "attributes": { "sku": "X", "quantity": 2, "rush": false } });
        let order = world.create("record", order).await;
        let variables = json!({ "warehouse": api.url(), "warehouse_token": "secret" });
        let run = world.fly("order-fulfilment", json!({ "recordId": order, "variables": variables })).await;
        // Two failures, each with its pause: one of its own, one that the other side asked for.
        while api.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        let again = world.until_step(&run, "reserve_stock", "QUEUED").await;
        assert_eq!(again["availableAt"], json!((noon() + Duration::seconds(1)).to_rfc3339()), "{again}");
        world.clock.set(noon() + Duration::seconds(1));
        while api.asked().len() < 2 {
            tokio::task::yield_now().await;
        }
        let again = world.until_step(&run, "reserve_stock", "QUEUED").await;
        assert_eq!(again["availableAt"], json!((noon() + Duration::seconds(6)).to_rfc3339()), "{again}");
        world.clock.set(noon() + Duration::seconds(6));
        let reserved = world.until_step(&run, "reserve_stock", "COMPLETED").await;
        assert_eq!(reserved["result"], json!({ "status": 201, "reservation": "R-7", "shelf": "B3" }));
        let asked = api.asked();
        assert_eq!(asked[0]["body"], json!({ "order": "O-1", "sku": "X", "quantity": "2" }));
        assert!(asked.iter().all(|one| one["key"] == reserved["id"] && one["authorization"] == "Bearer secret"), "{asked:#?}");
        // It waits, and nobody can approve before.
        let waits = world.until_step(&run, "cooling_off", "QUEUED").await;
        assert_eq!(waits["availableAt"], json!((noon() + Duration::seconds(6) + Duration::minutes(30)).to_rfc3339()));
        assert_eq!(world.steps(&run).await["check_address"]["status"], "PENDING");
        world.clock.set(noon() + Duration::minutes(31));
        world.until_step(&run, "cooling_off", "COMPLETED").await;
        // A person checks, too late for its time, with a result that is judged, and somebody else approves.
        let check = world.steps(&run).await["check_address"].clone();
        world.clock.set(noon() + Duration::hours(3));
        let late = world.until_overdue(&run, "check_address").await;
        assert_eq!(late["dueAt"], json!((noon() + Duration::minutes(31) + Duration::hours(2)).to_rfc3339()));
        let overdue = world.ask("{ steps(filter: { overdue: true }) { nodes { key } } }", json!({})).await;
        assert_eq!(overdue["steps"]["nodes"], json!([{ "key": "check_address" }]));
        let (mia, max) = (world.key(Role::Reviewer).await, world.key(Role::Reviewer).await);
        assert_eq!(world.act_as(&mia, "startStep", json!({ "id": check["id"] })).await.1["data"]["startStep"]["step"]["status"], "IN_PROGRESS");
        let refused = world.act_as(&mia, "completeStep", json!({ "id": check["id"], "result": { "carrier": "DHL" } })).await.1;
        assert_eq!(refused["errors"][0]["extensions"]["code"], "CONFLICT");
        let refused = world.act_as(&mia, "submitStep", json!({ "id": check["id"], "result": { "carrier": "Pigeon" } })).await.1;
        assert!(refused["errors"][0]["message"].as_str().unwrap().contains("Pigeon"), "{refused:#}");
        let sent = world.act_as(&mia, "submitStep", json!({ "id": check["id"], "result": { "carrier": "DHL" } })).await.1;
        assert_eq!(sent["data"]["submitStep"]["step"]["status"], "AWAITING_APPROVAL", "{sent:#}");
        let refused = world.act_as(&mia, "approveStep", json!({ "id": check["id"] })).await.1;
        assert_eq!(refused["errors"][0]["message"], "who submitted it may not approve it");
        let let_out = world.act_as(&max, "approveStep", json!({ "id": check["id"] })).await.1;
        assert_eq!(let_out["data"]["approveStep"]["step"]["status"], "COMPLETED", "{let_out:#}");
        world.until_run(&run, "COMPLETED").await;
        let steps = world.steps(&run).await;
        assert_eq!(api.asked()[3]["body"], json!({ "reservation": "R-7", "carrier": "DHL" }));
        assert_eq!(steps["thank_you"]["status"], "COMPLETED");
        let record = world.ask("query($id: ID!) { record(id: $id) { stage attributes } }", json!({ "id": order })).await;
        assert_eq!(record["record"], json!({ "stage": "Shipped", "attributes": { "sku": "X", "quantity": 2, "rush": false, "tracking": "T-99" } }));
        let mail = world.ask("query($run: ID!) { communications(filter: { runIds: [$run] }) { nodes { subject body status } } }", json!({ "run": run })).await;
        let mail = &mail["communications"]["nodes"][0];
        assert_eq!((&mail["subject"], &mail["status"]), (&json!("Your order O-1 is on its way"), &json!("SENT")));
        assert!(mail["body"].as_str().unwrap().contains("T-99"));
        // The campaign of one record is completed with its run; the place is accounted for.
        let all = world.ask("query($id: ID!) { run(id: $id) { campaign { status currentRun { id } } records { nodes { outcome } } } }", json!({ "id": run })).await;
        assert_eq!(all["run"]["campaign"]["status"], "COMPLETED");
        assert_eq!(all["run"]["records"]["nodes"], json!([{ "outcome": "SENT" }]));
        let told = world.ask_all_events().await.iter().filter(|event| event["kind"] == "step.overdue").count();
        assert_eq!(told, 1, "an overdue step is told once");
        world.end().await;
    }
}

impl World {
    async fn until_overdue(&self, run: &str, key: &str) -> Value {
        loop {
            let step = self.steps(run).await[key].clone();
            if !step["overdueAt"].is_null() {
                return step;
            }
            tokio::task::yield_now().await;
        }
    }
}

//! The worked examples: each manifest is applied, and a run of it is taken to its end with the
//! actions of its people and external systems.

use chrono::Duration;
use entity::member::Role;
use serde_json::{Value, json};

use crate::harness::api::{Answer, Api};
use crate::harness::{World, noon};

const ORDER: &str = include_str!("../../../examples/order-fulfilment.yaml");
const OUTREACH: &str = include_str!("../../../examples/lead-outreach.yaml");
const TICKETS: &str = include_str!("../../../examples/ticket-handling.yaml");

impl World {
    /// Applies a manifest; returns what it created, updated and left unchanged.
    pub async fn apply(&self, yaml: &str) -> Value {
        let query = "mutation($yaml: String!) { applyManifest(input: { yaml: $yaml }) { applied changes { action noun name fields } problems { line path message } } }";
        let done = self.ask(query, json!({ "yaml": yaml })).await["applyManifest"].clone();
        assert_eq!((&done["applied"], &done["problems"]), (&json!(true), &json!([])), "{done:#}");
        done
    }

    /// The id of an object that a manifest created, by its name.
    pub async fn id_of(&self, list: &str, by: &str, name: &str) -> String {
        let data = self.ask(&format!("{{ {list}(first: 500) {{ nodes {{ id {by} }} }} }}"), json!({})).await;
        let all = data[list]["nodes"].as_array().unwrap();
        let found = all.iter().find(|one| one[by] == name).unwrap_or_else(|| panic!("no {name} in {list}"));
        found["id"].as_str().unwrap().to_owned()
    }

    /// Launches a campaign of a template for one record or over a segment; returns the run's id.
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

    /// Waits until a step of a run has a status; returns the step.
    pub async fn until_step(&self, run: &str, key: &str, status: &str) -> Value {
        loop {
            let steps = self.steps(run).await;
            match steps.get(key) {
                Some(step) if step["status"] == status => return step.clone(),
                _ => tokio::task::yield_now().await,
            }
        }
    }

    /// Applies a transition to a step as a given member.
    pub async fn act_as(&self, key: &str, verb: &str, input: Value) -> (u16, Value) {
        let query =
            format!("mutation($input: StepActInput!) {{ {verb}(input: $input) {{ step {{ id status error }} }} }}");
        self.post_as(key, &query, json!({ "input": input })).await
    }
}

impl World {
    /// A key of an agent, by the agent's name.
    pub async fn agent_key(&self, agent: &str) -> String {
        let id = self.id_of("agents", "name", agent).await;
        let query =
            "mutation($id: ID!) { createApiKey(input: { name: \"worker\", role: WORKER, agentId: $id }) { key } }";
        let made = self.ask(query, json!({ "id": id })).await;
        made["createApiKey"]["key"].as_str().unwrap().to_owned()
    }

    /// Claims steps for an agent.
    pub async fn claim(&self, key: &str, limit: usize) -> Vec<Value> {
        let query = "mutation($limit: Int!) { claimSteps(input: { worker: \"w\", limit: $limit, leaseSeconds: 60 }) { steps { id runId token key type attempt config context contextError resultSchema recordId leaseExpiresAt } } }";
        let (_, answer) = self.post_as(key, query, json!({ "limit": limit })).await;
        assert!(answer["errors"].is_null(), "{answer:#}");
        answer["data"]["claimSteps"]["steps"].as_array().unwrap().clone()
    }

    /// Releases the phase of a run that waits for it.
    pub async fn release(&self, run: &str) {
        let query = "query($id: ID!) { run(id: $id) { waitingFor { code } currentPhase { id key } } }";
        let waits = |data: &Value| data["run"]["waitingFor"][0]["code"] == "RELEASE";
        let at = self.until("the gate", query, json!({ "id": run }), waits).await;
        let release = "mutation($id: ID!) { releasePhase(input: { id: $id }) { phase { status } } }";
        self.ask(release, json!({ "id": at["run"]["currentPhase"]["id"] })).await;
    }

    /// Raises an event about a record.
    pub async fn raise(&self, name: &str, record: &str) {
        let query = "mutation($name: String!, $record: ID!) { raiseEvent(input: { name: $name, recordIds: [$record] }) { name } }";
        self.ask(query, json!({ "name": name, "record": record })).await;
    }
}

both! {
    async fn leads_are_written_to_until_they_answer(kind) {
        if !crate::transport::clients::plain_python() {
            return;
        }
        let world = World::with_auth(kind).await;
        world.apply(OUTREACH).await;
        let leads = world.leads(3).await;
        let key = world.agent_key("email-drafter").await;
        let segment = world.id_of("segments", "name", "New leads").await;
        let goal = world.id_of("goals", "name", "Book a demo").await;
        let input = json!({ "goalId": goal, "segmentId": segment, "variables": { "sender": "Sam" } });
        let run = world.fly("senior-devops-leader", input).await;
        world.until_step(&run, "draft_first", "QUEUED").await;
        // A worker is killed while it holds leases; another one claims the steps when these have
        // expired.
        let mut worker = std::process::Command::new("python3");
        worker
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/worker.py"))
            .env("SORTIE_URL", format!("http://{}/graphql", world.address))
            .env("SORTIE_KEY", &key);
        let mut slow = worker.env("WORKER_SLOW", "600").stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut said = std::io::BufReader::new(slow.stdout.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut said, &mut line).unwrap();
        assert!(line.starts_with("holds step_"), "{line}");
        slow.kill().unwrap();
        slow.wait().unwrap();
        assert!(world.claim(&key, 10).await.is_empty(), "all is held by the dead");
        world.clock.set(noon() + Duration::seconds(31));
        world.until_step(&run, "draft_first", "QUEUED").await;
        let done = tokio::task::spawn_blocking(move || worker.env("WORKER_SLOW", "0").env("WORKER_ONCE", "1").output().unwrap());
        let done = done.await.unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{said} {}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(said.matches("completed step_").count(), 3, "{said}");
        let drafted = world.until_step(&run, "draft_first", "COMPLETED").await;
        assert_eq!(drafted["attemptCount"], 2);
        assert_eq!(drafted["result"]["subject"], "Book a demo, Lead 0?", "from the agent's context");
        assert!(drafted["result"]["body"].as_str().unwrap().contains("finds you well"), "the org's layer says warm: {drafted}");
        // A person releases the drafts; the first mails are sent, and the second ones wait.
        let look = world.until_step(&run, "look_over", "PENDING").await;
        for verb in ["startStep", "completeStep"] {
            world.act(verb, "step", json!({ "id": look["id"] })).await;
        }
        world.until_step(&run, "second_mail", "QUEUED").await;
        let sent = "query($run: ID!) { communications(filter: { runIds: [$run], statuses: [SENT] }, first: 50) { nodes { id subject toAddress } } }";
        let first = world.until("three mails", sent, json!({ "run": run }), |data| data["communications"]["nodes"].as_array().unwrap().len() == 3).await;
        // One recipient replies: their remaining mail is stopped, and a person handles the reply.
        let answered = first["communications"]["nodes"][0].clone();
        let reply = "mutation($id: ID!) { recordReply(input: { communicationId: $id, body: \"Yes!\" }) { reply { record { id } } } }";
        let reply = world.ask(reply, json!({ "id": answered["id"] })).await;
        let who = reply["recordReply"]["reply"]["record"]["id"].as_str().unwrap().to_owned();
        let answer = world.until_step(&run, "answer", "PENDING").await;
        assert_eq!(answer["record"]["id"], json!(who));
        for verb in ["startStep", "completeStep"] {
            world.act(verb, "step", json!({ "id": answer["id"] })).await;
        }
        world.until_step(&run, "qualified", "COMPLETED").await;
        world.clock.set(noon() + Duration::days(5) + Duration::minutes(5));
        world.until_run(&run, "COMPLETED").await;
        let all = world.ask(sent, json!({ "run": run })).await;
        let seconds = all["communications"]["nodes"].as_array().unwrap().iter().filter(|one| one["subject"].as_str().unwrap().starts_with("Re: "));
        let to: Vec<_> = seconds.map(|one| one["toAddress"].clone()).collect();
        assert!(to.len() == 2 && !to.contains(&answered["toAddress"]), "{all:#}");
        let record = world.ask("query($id: ID!) { record(id: $id) { stage } }", json!({ "id": who })).await;
        assert_eq!(record["record"]["stage"], "Talking");
        assert!(leads.contains(&who));
        world.end().await;
    }
}

both! {
    async fn tickets_are_routed_and_refunds_need_two(kind) {
        let world = World::with_auth(kind).await;
        world.apply(TICKETS).await;
        let key = world.agent_key("classifier").await;
        let mut runs = Vec::new();
        for (name, amount) in [("small", 5), ("large", 900), ("question", 0)] {
            let ticket = json!({ "kind": "ticket", "externalId": name, "name": name, "attributes": { "amount": amount } });
            let ticket = world.create("record", ticket).await;
            let run = world.fly("ticket-handling", json!({ "name": name, "recordId": ticket, "variables": { "limit": 50 } })).await;
            world.until_step(&run, "classify", "QUEUED").await;
            runs.push((run, ticket));
        }
        let claimed = world.claim(&key, 10).await;
        assert_eq!(claimed.len(), 3);
        assert_eq!(claimed[1]["context"], json!({ "record": { "name": "large", "attributes": { "amount": 900 } } }));
        let settle = "mutation($steps: [SettleStepInput!]!) { settleSteps(input: { steps: $steps }) { steps { id status code message } } }";
        let result = |step: &Value| {
            let kind = if step["context"]["record"]["name"] == "question" { "question" } else { "refund" };
            json!({ "id": step["id"], "token": step["token"], "result": { "kind": kind, "amount": step["context"]["record"]["attributes"]["amount"] } })
        };
        // A result that violates the schema is rejected and the step stays leased; a wrong token is
        // rejected.
        let wrong = json!([
            { "id": claimed[0]["id"], "token": claimed[0]["token"], "result": { "kind": "complaint" } },
            { "id": claimed[1]["id"], "token": "guessed", "result": { "kind": "refund", "amount": 1 } },
        ]);
        let refused = world.post_as(&key, settle, json!({ "steps": wrong })).await.1["data"]["settleSteps"]["steps"].clone();
        assert_eq!((&refused[0]["code"], &refused[1]["code"]), (&json!("BAD_USER_INPUT"), &json!("CONFLICT")), "{refused:#}");
        let all: Vec<Value> = claimed.iter().map(result).collect();
        let done = world.post_as(&key, settle, json!({ "steps": all })).await.1["data"]["settleSteps"]["steps"].clone();
        assert!(done.as_array().unwrap().iter().all(|one| one["status"] == "COMPLETED"), "{done:#}");
        let again = world.post_as(&key, settle, json!({ "steps": all })).await.1["data"]["settleSteps"]["steps"].clone();
        assert!(again.as_array().unwrap().iter().all(|one| one["code"] == "CONFLICT"), "a settle has one effect: {again:#}");
        // The small refund is paid at once; the phase waits for a person.
        world.until_step(&runs[0].0, "pay", "COMPLETED").await;
        let small = world.steps(&runs[0].0).await;
        assert_eq!((&small["approve_refund"]["status"], &small["reply"]["status"]), (&json!("SKIPPED"), &json!("SKIPPED")));
        assert_eq!(small["approve_refund"]["error"], "left out by route");
        world.release(&runs[0].0).await;
        world.until_run(&runs[0].0, "COMPLETED").await;
        // The large one needs approvals by two different members with the role.
        let step = world.until_step(&runs[1].0, "approve_refund", "PENDING").await;
        let (ann, ben, cleo) = (world.key(Role::Reviewer).await, world.key(Role::Reviewer).await, world.key(Role::Reviewer).await);
        let mere = world.key(Role::Operator).await;
        let refused = world.act_as(&mere, "startStep", json!({ "id": step["id"] })).await.1;
        assert_eq!(refused["errors"][0]["extensions"]["code"], "FORBIDDEN", "{refused:#}");
        // The step is assigned to Ann: on her list, and not allowed for others.
        let me = world.post_as(&ann, "{ viewer { member { id } } }", json!({})).await.1["data"]["viewer"]["member"]["id"].clone();
        let assign = "mutation($id: ID!, $member: ID) { assignStep(input: { id: $id, memberId: $member }) { step { assignee { memberId } } } }";
        let assigned = world.ask(assign, json!({ "id": step["id"], "member": me })).await;
        assert_eq!(assigned["assignStep"]["step"]["assignee"]["memberId"], me);
        let list = "{ steps(filter: { mine: true, statuses: [PENDING, QUEUED, IN_PROGRESS] }) { nodes { key assigneeRole } } }";
        assert_eq!(world.post_as(&ann, list, json!({})).await.1["data"]["steps"]["nodes"], json!([{ "key": "approve_refund", "assigneeRole": "REVIEWER" }]));
        assert_eq!(world.post_as(&ben, list, json!({})).await.1["data"]["steps"]["nodes"], json!([]));
        let others = world.act_as(&ben, "startStep", json!({ "id": step["id"] })).await.1;
        assert_eq!(others["errors"][0]["message"], "it is assigned to somebody else");
        for verb in ["startStep", "submitStep"] {
            world.act_as(&ann, verb, json!({ "id": step["id"] })).await;
        }
        let status = |answer: &Value| answer["data"]["approveStep"]["step"]["status"].clone();
        let own = world.act_as(&ann, "approveStep", json!({ "id": step["id"] })).await.1;
        assert_eq!(own["errors"][0]["extensions"]["code"], "CONFLICT");
        assert_eq!(status(&world.act_as(&ben, "approveStep", json!({ "id": step["id"] })).await.1), "AWAITING_APPROVAL");
        let twice = world.act_as(&ben, "approveStep", json!({ "id": step["id"] })).await.1;
        assert_eq!(twice["errors"][0]["message"], "you have approved it already");
        assert_eq!(status(&world.act_as(&cleo, "approveStep", json!({ "id": step["id"] })).await.1), "COMPLETED");
        world.until_run(&runs[1].0, "COMPLETED").await;
        let record = world.ask("query($id: ID!) { record(id: $id) { stage attributes } }", json!({ "id": runs[1].1 })).await;
        assert_eq!(record["record"], json!({ "stage": "Refunded", "attributes": { "amount": 900, "refunded": "900", "closed": "yes" } }));
        // The question is answered, and the customer confirms, or does not within two days.
        let reply = world.until_step(&runs[2].0, "reply", "PENDING").await;
        for verb in ["startStep", "completeStep"] {
            world.act(verb, "step", json!({ "id": reply["id"] })).await;
        }
        assert_eq!(world.steps(&runs[2].0).await["confirmed"]["status"], "PENDING");
        world.clock.set(noon() + Duration::days(2) + Duration::seconds(1));
        world.until_run(&runs[2].0, "COMPLETED").await;
        let confirmed = world.steps(&runs[2].0).await["confirmed"].clone();
        assert_eq!((&confirmed["status"], &confirmed["error"]), (&json!("SKIPPED"), &json!("event:customer.confirmed did not arrive")));
        world.end().await;
    }
}

both! {
    async fn an_order_is_fulfilled(kind) {
        let api = Api::start(Answer::json(201, json!({ "id": "R-7", "shelf": "B3", "tracking": "T-99" }))).await;
        // The warehouse is down twice.
        api.then([Answer::json(503, json!({ "error": "down" })), Answer::Says(429, Some(("retry-after", "5".into())), "slow".into())]);
        let world = World::with_config(kind, |config| {
            let file = config.data.join("secrets.toml");
            std::fs::write(&file, "warehouse = \"hidden-token\"\n").unwrap();
            config.call_secrets = Some(file);
        })
        .await;
        let done = world.apply(ORDER).await;
        assert!(done["changes"].as_array().unwrap().iter().all(|change| change["action"] == "CREATE"), "{done:#}");
        let again = world.apply(ORDER).await;
        assert!(again["changes"].as_array().unwrap().iter().all(|change| change["action"] == "UNCHANGED"), "{again:#}");
        let order = json!({ "kind": "order", "externalId": "O-1", "name": "Ada", "email": "ada@example.com", "attributes": { "sku": "X", "quantity": 2, "rush": false } });
        let order = world.create("record", order).await;
        let variables = json!({ "warehouse": api.url() });
        let run = world.fly("order-fulfilment", json!({ "recordId": order, "variables": variables })).await;
        // Two failures, each with a backoff: our own, and one that the server requested.
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
        assert!(asked.iter().all(|one| one["key"] == reserved["id"] && one["authorization"] == "Bearer hidden-token"), "{asked:#?}");
        // It waits, and nobody can approve before.
        let waits = world.until_step(&run, "cooling_off", "QUEUED").await;
        assert_eq!(waits["availableAt"], json!((noon() + Duration::seconds(6) + Duration::minutes(30)).to_rfc3339()));
        assert_eq!(world.steps(&run).await["check_address"]["status"], "PENDING");
        world.clock.set(noon() + Duration::minutes(31));
        world.until_step(&run, "cooling_off", "COMPLETED").await;
        // A person checks after the deadline, with a result that is validated, and somebody else
        // approves.
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
        assert_eq!(refused["errors"][0]["message"], "the submitter may not approve it");
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
        // The campaign of one record is completed with its run; the recipient has an outcome.
        let all = world.ask("query($id: ID!) { run(id: $id) { campaign { status currentRun { id } } records { nodes { outcome } } } }", json!({ "id": run })).await;
        assert_eq!(all["run"]["campaign"]["status"], "COMPLETED");
        assert_eq!(all["run"]["records"]["nodes"], json!([{ "outcome": "SENT" }]));
        assert!(!json!(world.ask_all_events().await).to_string().contains("hidden-token"));
        assert_eq!(world.number("SELECT COUNT(*) FROM step WHERE CAST(result AS text) LIKE '%hidden-token%' OR error LIKE '%hidden-token%'").await, 0);
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

both! {
    async fn the_sources_own_yaml_is_a_manifest(kind) {
        let world = World::with_auth(kind).await;
        world.apply(include_str!("../source.yaml")).await;
        let lead = world.leads(1).await.remove(0);
        // A live instance of one lead, with variables and one more layer of its own.
        let overrides = json!({ "phases.in_flight.tasks.eex_sequence.steps.pause.config": { "duration": "3 days" } });
        let input = json!({ "recordId": lead, "variables": { "first_name": "Jane", "company": "Acme" }, "overrides": overrides });
        let run = world.fly("senior-devops-leader", input).await;
        world.until_step(&run, "draft_initial_email", "QUEUED").await;
        let query = "query($id: ID!) { run(id: $id) { campaign { currentRun { id } currentPhase { key status } runTemplate { key layer base { key } } resolvedDefinition { problems { path message } origins { path layer } definition { phases { key tasks { key steps { key config } } } } } } } }";
        let all = world.ask(query, json!({ "id": run })).await["run"]["campaign"].clone();
        let resolved = &all["resolvedDefinition"];
        assert_eq!(resolved["problems"], json!([]));
        let layer = |path: &str| resolved["origins"].as_array().unwrap().iter().find(|one| one["path"] == path).map(|one| one["layer"].clone());
        // In the built-in org both templates belong to layer ORG; the campaign's own settings to
        // layer CAMPAIGN.
        assert_eq!(layer("phases.processing.tasks.approve_campaign"), Some(json!("ORG")));
        assert_eq!(layer("phases.in_flight.tasks.eex_sequence.steps.pause.config"), Some(json!("CAMPAIGN")));
        assert_eq!(layer("phases.in_flight.tasks.send_outreach"), None, "its place was taken");
        assert_eq!((&all["currentRun"]["id"], &all["runTemplate"]["base"]["key"]), (&json!(run), &json!("standard-outreach-of-ours")));
        assert_eq!(all["currentPhase"], json!({ "key": "processing", "status": "ACTIVE" }));
        // The agent drafts, a person reviews, the function sends, waits, sends.
        let (drafter, sender) = (world.agent_key("email-drafter").await, world.agent_key("send-email").await);
        let complete = async |key: &str, result: Value| {
            let step = loop {
                if let Some(step) = world.claim(key, 1).await.pop() {
                    break step;
                }
                tokio::task::yield_now().await;
            };
            let done = world.act_as(key, "completeStep", json!({ "id": step["id"], "token": step["token"], "result": result })).await.1;
            assert_eq!(done["data"]["completeStep"]["step"]["status"], "COMPLETED", "{done:#}");
        };
        complete(&drafter, json!({ "subject": "Hello Jane" })).await;
        let review = world.until_step(&run, "review_persona_match", "QUEUED").await;
        for verb in ["startStep", "completeStep"] {
            world.act(verb, "step", json!({ "id": review["id"] })).await;
        }
        complete(&sender, json!({})).await;
        world.until_step(&run, "pause", "QUEUED").await;
        world.clock.set(noon() + Duration::days(3) + Duration::seconds(1));
        complete(&sender, json!({})).await;
        world.until_run(&run, "COMPLETED").await;
        let lead = world.ask("query($id: ID!) { record(id: $id) { stage } }", json!({ "id": lead })).await;
        assert_eq!(lead["record"]["stage"], "Done");
        // The predictable events, at every level, with the ids above each.
        let events = world.ask_all_events().await;
        let of = |kind: &str| events.iter().find(|event| event["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"));
        assert_eq!(of("campaign.created")["payload"]["recordKind"], "lead");
        assert!(of("campaign.approved")["payload"]["approvedBy"]["name"].is_string());
        assert!(of("phase.started")["payload"]["name"] == "Processing" && of("phase.started")["runId"].is_string());
        assert!(of("task.started")["payload"]["name"].is_string() && of("task.started")["phaseId"].is_string());
        let done = events.iter().find(|event| event["kind"] == "step.completed").unwrap();
        assert_eq!(done["payload"]["result"], json!({ "subject": "Hello Jane" }));
        assert!(["campaignId", "runId", "phaseId", "taskId", "stepId"].iter().all(|id| done[*id].is_string()), "{done}");
        assert_eq!(done["actor"]["name"], "email-drafter");
        // Exporting the current state and applying it again changes nothing.
        let manifest = world.ask("{ manifest }", json!({})).await["manifest"].as_str().unwrap().to_owned();
        let again = world.apply(&manifest).await;
        assert!(again["changes"].as_array().unwrap().iter().all(|change| change["action"] == "UNCHANGED"), "{again:#}\n{manifest}");
        world.end().await;
    }
}

//! External workers: what they may see, races for claims, lost leases; and the built-in agent with
//! a model that misbehaves.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use entity::member::Role;
use serde_json::{Value, json};

use crate::harness::api::{Answer, Api};
use crate::harness::life::Home;
use crate::harness::socket::Socket;
use crate::harness::{Kind, World, noon, postgres};

/// Creates a template with one agent step per record, and two agents.
fn work(agent: &str) -> String {
    json!({
        "agents": [
            { "name": "writer", "filter": "step.type == 'write'", "context": "{ name record { name } }" },
            { "name": "other", "filter": "step.type == 'count' && record.employees >= 10" },
        ],
        "runTemplates": [{
            "key": "work", "name": "Work", "phases": [{ "key": "all", "autonomous": true, "tasks": [
                { "key": "write", "fanOut": true, "steps": [{ "key": "write", "type": "write", "assignedTo": "AGENT", "agent": agent }] },
                { "key": "count", "fanOut": true, "steps": [{ "key": "count", "type": "count", "assignedTo": "AGENT" }] },
            ] }],
        }],
    })
    .to_string()
}

both! {
    async fn each_sees_what_its_filter_admits_and_nothing_beyond(kind) {
        let world = World::with_auth(kind).await;
        world.apply(&work("writer")).await;
        world.leads(3).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let (writer, other) = (world.agent_key("writer").await, world.agent_key("other").await);
        let mut socket = Socket::open_as(world.address, &other).await;
        assert_eq!(socket.message().await["type"], "connection_ack");
        socket.subscribe("work", "subscription { workQueued { key type stepId } }", json!({})).await;
        socket.subscribe("role", "subscription { events { kind } }", json!({})).await;
        let mut refused = socket.message().await;
        while refused["id"] != "role" {
            refused = socket.message().await;
        }
        assert_eq!(refused["payload"][0]["extensions"]["code"], "FORBIDDEN", "{refused:#}");
        world.followed_by(1).await;
        let run = world.fly("work", json!({ "segmentId": segment })).await;
        world.until_step(&run, "count", "QUEUED").await;
        let told = loop {
            let message = socket.message().await;
            if message["id"] == "work" {
                break message;
            }
        };
        assert_eq!(told["payload"]["data"]["workQueued"]["type"], "count", "{told:#}");
        // Each agent claims its own steps; the one with a filter on records only those that match.
        let mine = world.claim(&other, 10).await;
        assert_eq!(mine.iter().map(|step| &step["type"]).collect::<Vec<_>>(), ["count", "count"]);
        let written = world.claim(&writer, 2).await;
        assert_eq!(written.len(), 2);
        assert_eq!(written[0]["context"], json!({ "name": "write", "record": { "name": "Lead 0" } }));
        // Steps leased by another worker can't be settled, renewed or read.
        let settle = |step: &Value| json!({ "steps": [{ "id": step["id"], "token": step["token"], "result": {} }] });
        let query = "mutation($steps: [SettleStepInput!]!) { settleSteps(input: { steps: $steps }) { steps { status code message } } }";
        let foreign = world.post_as(&other, query, settle(&written[0])).await.1;
        assert_eq!(foreign["data"]["settleSteps"]["steps"][0]["code"], "CONFLICT", "{foreign:#}");
        let renew = "mutation($steps: [HeldStepInput!]!) { renewSteps(input: { steps: $steps, leaseSeconds: 100 }) { steps { lost leaseExpiresAt } } }";
        let held = |step: &Value| json!({ "steps": [{ "id": step["id"], "token": step["token"] }] });
        assert_eq!(world.post_as(&other, renew, held(&written[0])).await.1["data"]["renewSteps"]["steps"][0]["lost"], true);
        let renewed = world.post_as(&writer, renew, held(&written[0])).await.1;
        assert_eq!(renewed["data"]["renewSteps"]["steps"][0]["leaseExpiresAt"], json!((noon() + Duration::seconds(100)).to_rfc3339()));
        for beyond in ["run { id }", "task { id }", "record { name }", "history { nodes { kind } }", "config", "availableActions { action }"] {
            let query = format!("mutation($id: ID!, $token: String!) {{ completeStep(input: {{ id: $id, token: $token, idempotencyKey: \"{beyond}\" }}) {{ step {{ status {beyond} }} }} }}");
            let answer = world.post_as(&writer, &query, json!({ "id": written[0]["id"], "token": written[0]["token"] })).await.1;
            let code = &answer["errors"][0]["extensions"]["code"];
            assert!(code == "FORBIDDEN" || code == "CONFLICT", "{beyond}: {answer:#}");
        }
        for closed in ["{ steps { nodes { id } } }", "{ runs { nodes { id } } }", "mutation { startStep(input: { id: \"step_01h455vb4pex5vsknk084sn02q\" }) { step { id } } }"] {
            assert_eq!(world.post_as(&writer, closed, json!({})).await.1["errors"][0]["extensions"]["code"], "FORBIDDEN", "{closed}");
        }
        // A worker is not a person: without a token it can't change a step.
        let bare = world.act_as(&writer, "completeStep", json!({ "id": written[1]["id"] })).await.1;
        assert_eq!(bare["errors"][0]["extensions"]["code"], "FORBIDDEN", "{bare:#}");
        // Two results for one step in a request would be ambiguous.
        let twice = |step: &Value, more: Value| {
            let one = json!({ "id": step["id"], "token": step["token"] });
            let mut one = one.as_object().unwrap().clone();
            one.extend(more.as_object().unwrap().clone());
            json!({ "steps": [one, one] })
        };
        for (query, asked) in [(query, twice(&mine[0], json!({ "result": {} }))), (renew, twice(&mine[0], json!({})))] {
            let told = world.post_as(&other, query, asked).await.1["errors"][0]["extensions"].clone();
            assert_eq!((&told["code"], &told["field"]), (&json!("BAD_USER_INPUT"), &json!("steps[1].id")));
        }
        // A failure is retried, a permanent one is not; a late settle is rejected.
        let fail = |step: &Value, again: bool| json!({ "steps": [{ "id": step["id"], "token": step["token"], "error": "no", "retryable": again }] });
        let failed = world.post_as(&other, query, fail(&mine[0], true)).await.1;
        assert_eq!(failed["data"]["settleSteps"]["steps"][0]["status"], "QUEUED");
        let failed = world.post_as(&other, query, fail(&mine[1], false)).await.1;
        assert_eq!(failed["data"]["settleSteps"]["steps"][0]["status"], "FAILED");
        world.clock.set(noon() + Duration::seconds(61));
        let late = world.post_as(&writer, query, settle(&written[1])).await.1;
        let late = &late["data"]["settleSteps"]["steps"][0];
        assert!(late["code"] == "CONFLICT" && late["message"].as_str().unwrap().contains("do not hold"), "{late}");
        world.end().await;
    }
}

/// Claims until nothing is left; returns how often each step was claimed.
async fn race(url: &str, key: &str, worker: usize) -> Vec<(String, String)> {
    let client = crate::harness::client();
    let query = "mutation($worker: String!) { claimSteps(input: { worker: $worker, limit: 7, leaseSeconds: 60 }) { steps { id token } } }";
    let mut got = Vec::new();
    let mut nothing = 0;
    while nothing < 3 {
        let request = client.post(format!("http://{url}/graphql")).bearer_auth(key);
        let answer: Value = request
            .json(&json!({ "query": query, "variables": { "worker": format!("w{worker}") } }))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let steps = answer["data"]["claimSteps"]["steps"].as_array().unwrap_or_else(|| panic!("{answer:#}")).clone();
        nothing = if steps.is_empty() { nothing + 1 } else { 0 };
        got.extend(
            steps
                .iter()
                .map(|step| (step["id"].as_str().unwrap().to_owned(), step["token"].as_str().unwrap().to_owned())),
        );
    }
    got
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_race_and_no_step_is_claimed_twice() {
    if !postgres::available() {
        return;
    }
    let home = Home::new(Kind::Postgres).await;
    home.import(400);
    let file = home.folder().join("work.json");
    std::fs::write(&file, work("writer")).unwrap();
    assert!(home.run(&["apply", "-f", file.to_str().unwrap()]).0);
    let key = |said: &str| said.lines().find(|line| line.starts_with("sortie_")).unwrap().to_owned();
    let admin = key(&home.run(&["key", "create", "--name", "a", "--role", "ADMIN"]).1);
    let (made, said) = home.run(&["key", "create", "--name", "w", "--role", "WORKER", "--agent", "writer"]);
    assert!(made, "{said}");
    let worker = key(&said);
    let (one, two) = (home.begin(), home.begin());
    let ask = |query: String, variables: Value| {
        let request = crate::harness::client().post(format!("http://{}/graphql", one.address)).bearer_auth(&admin);
        async move {
            let answer: Value = request
                .json(&json!({ "query": query, "variables": variables }))
                .send()
                .await
                .unwrap()
                .json()
                .await
                .unwrap();
            assert!(answer["errors"].is_null(), "{answer:#}");
            answer["data"].clone()
        }
    };
    let parts = ask("mutation { createGoal(input: { name: \"G\" }) { goal { id } } createSegment(input: { name: \"S\", filter: { all: true } }) { segment { id } } }".into(), json!({})).await;
    let templates = ask("{ runTemplates { nodes { id key } } }".into(), json!({})).await;
    let template =
        templates["runTemplates"]["nodes"].as_array().unwrap().iter().find(|one| one["key"] == "work").unwrap()["id"]
            .clone();
    let input = json!({ "name": "Race", "goalId": parts["createGoal"]["goal"]["id"], "segmentId": parts["createSegment"]["segment"]["id"], "runTemplateId": template });
    let campaign = ask(
        "mutation($input: CreateCampaignInput!) { createCampaign(input: $input) { campaign { id } } }".into(),
        json!({ "input": input }),
    )
    .await;
    let id = campaign["createCampaign"]["campaign"]["id"].clone();
    for verb in ["submitCampaign", "approveCampaign"] {
        ask(
            format!("mutation($id: ID!) {{ {verb}(input: {{ id: $id }}) {{ campaign {{ status }} }} }}"),
            json!({ "id": id }),
        )
        .await;
    }
    ask("mutation($id: ID!) { runCampaign(input: { campaignId: $id }) { run { id } } }".into(), json!({ "id": id }))
        .await;
    loop {
        let queued =
            ask("{ steps(filter: { types: [\"write\"], statuses: [QUEUED] }) { totalCount } }".into(), json!({})).await;
        if queued["steps"]["totalCount"] == 400 {
            break;
        }
        tokio::task::yield_now().await;
    }
    let nodes = [one.address.to_string(), two.address.to_string()];
    let racers = (0..8).map(|number| {
        let (url, key) = (nodes[number % 2].clone(), worker.clone());
        tokio::spawn(async move { race(&url, &key, number).await })
    });
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    let mut by_node = [0usize; 2];
    for (i, racer) in racers.collect::<Vec<_>>().into_iter().enumerate() {
        for (id, _) in racer.await.unwrap() {
            *times.entry(id).or_default() += 1;
            by_node[i % 2] += 1;
        }
    }
    assert_eq!((times.len(), times.values().max()), (400, Some(&1)), "each once");
    assert!(by_node.iter().all(|count| *count > 0), "both nodes had some: {by_node:?}");
    one.kill();
    two.kill();
    home.gone().await;
    home.check();
    home.remove();
}

#[test]
fn nodes_go_by_the_clock_that_they_share() {
    let (clock, hour) = (sortie::kernel::clock::Clock::real(), Duration::hours(1));
    let (before, after) = (clock.now(), clock.now());
    clock.go_by(before + hour, before, after);
    assert!((clock.now() - before - hour).abs() < Duration::minutes(1));
    // On the next request the clock is no longer ahead; the request's own duration does not count
    // as skew.
    let now = clock.now();
    clock.go_by(now + Duration::milliseconds(15), now, now + Duration::milliseconds(1));
    assert!((clock.now() - now) < Duration::milliseconds(15) + Duration::seconds(5));
    let set = sortie::kernel::clock::Clock::set_to(noon());
    set.go_by(noon() + hour, noon(), noon());
    assert_eq!(set.now(), noon());
}

both! {
    async fn thousands_of_lapsed_leases_are_taken_back_once_each(kind) {
        let world = World::new(kind).await;
        world.apply(&work("writer")).await;
        let leads = sortie::app::demo::leads(2_500, noon());
        sortie::domain::import::import(&world.db.write(), &world.viewer, "lead", "l.csv", std::io::Cursor::new(leads), |_, _| {}).await.unwrap();
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        world.fly("work", json!({ "segmentId": segment })).await;
        let count = "query($s: StepStatus!) { steps(filter: { types: [\"write\"], statuses: [$s] }) { totalCount } }";
        world.until("all steps", count, json!({ "s": "QUEUED" }), |data| data["steps"]["totalCount"] == 2_500).await;
        let claim = "mutation { claimSteps(input: { worker: \"w\", agent: \"writer\", limit: 500, leaseSeconds: 60 }) { steps { id } } }";
        let mut claimed = 0;
        while claimed < 2_500 {
            claimed += world.ask(claim, json!({})).await["claimSteps"]["steps"].as_array().unwrap().len();
        }
        assert_eq!(claimed, 2_500);
        let begun = std::time::Instant::now();
        world.clock.set(noon() + Duration::seconds(61));
        world.until("all back", count, json!({ "s": "QUEUED" }), |data| data["steps"]["totalCount"] == 2_500).await;
        println!("{kind:?}: 2,500 leases taken back in {:.2?}", begun.elapsed());
        let once = "SELECT COUNT(*) FROM step WHERE kind = 'write' AND lapse_count = 1 AND attempt_count = 1";
        assert_eq!(world.number(once).await, 2_500);
        assert_eq!(world.number("SELECT COUNT(*) FROM event WHERE kind = 'step.retried'").await, 2_500);
        world.end().await;
    }
}

fn wrote(content: &str, finish: &str) -> Answer {
    let choice = json!({ "message": { "content": content }, "finish_reason": finish });
    Answer::json(
        200,
        json!({ "model": "stand-in-1", "choices": [choice], "usage": { "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120 } }),
    )
}

both! {
    async fn the_built_in_agent_bears_a_model_that_misbehaves(kind) {
        let good = wrote("```json\n{ \"subject\": \"Hello there\", \"body\": \"A word about your work.\" }\n```", "stop");
        let api = Api::start(good).await;
        api.then([
            Answer::Says(429, Some(("retry-after", "7".into())), "slow down".into()),
            Answer::Silent,
            wrote("Sure! Here is your mail.", "stop"),
            wrote("{ \"subject\": \"Hel", "length"),
            Answer::CutOff,
            wrote("{ \"subject\": 5 }", "stop"),
        ]);
        let url = api.url();
        let world = World::with_config(kind, move |config| {
            config.model_url = Some(format!("{url}/v1"));
            config.model_key = Some("secret".into());
            config.model_seconds = 1;
        })
        .await;
        let manifest = json!({
            "agents": [{ "name": "ghost", "kind": "BUILT_IN", "instructions": "You write mails.", "filter": "step.type == 'generation'",
                "outputSchema": { "type": "object", "required": ["subject", "body"], "properties": { "subject": { "type": "string" }, "body": { "type": "string" } } } }],
            "runTemplates": [{ "key": "ghost", "name": "Ghost", "phases": [{ "key": "all", "autonomous": true, "tasks": [{ "key": "t", "steps": [
                { "key": "write", "type": "generation", "assignedTo": "AGENT", "agent": "ghost", "maxAttempts": 9, "retry": { "pause": "1s", "most": "1s", "jitter": 0 }, "config": { "tone": "kind" } },
            ] }] }] }],
        });
        world.apply(&manifest.to_string()).await;
        let lead = world.leads(1).await.remove(0);
        let run = world.fly("ghost", json!({ "recordId": lead })).await;
        let mut whys = Vec::new();
        for _ in 0..6 {
            let seen = whys.len();
            let step = loop {
                let step = world.steps(&run).await.get("write").cloned().unwrap_or_default();
                if step["status"] == "QUEUED" && step["attemptCount"] == json!(seen + 1) {
                    break step;
                }
                tokio::task::yield_now().await;
            };
            whys.push(step["error"].as_str().unwrap().to_owned());
            let at: DateTime<Utc> = step["availableAt"].as_str().unwrap().parse().unwrap();
            assert_eq!(at - world.clock.now(), Duration::seconds(if seen == 0 { 7 } else { 1 }), "{step}");
            world.clock.set(at);
        }
        let wanted = ["answered 429", "no response within", "not valid JSON", "cut off after 500 tokens", "broke off", "does not fit"];
        assert!(whys.iter().zip(wanted).all(|(why, wanted)| why.contains(wanted)), "{whys:#?}");
        let step = world.until_step(&run, "write", "COMPLETED").await;
        assert_eq!(step["result"]["subject"], "Hello there");
        assert_eq!(step["result"]["usage"], json!({ "model": "stand-in-1", "promptTokens": 100, "completionTokens": 20, "totalTokens": 120 }));
        world.until_run(&run, "COMPLETED").await;
        // The model's request: the agent's instructions, the record, the step's settings; with the
        // API key, and bounded.
        let asked = api.asked();
        assert_eq!(asked.len(), 7);
        let told = &asked[6];
        assert_eq!((&told["path"], &told["authorization"]), (&json!("/v1/chat/completions"), &json!("Bearer secret")));
        assert_eq!(told["body"]["max_tokens"], 500);
        let (system, user) = (told["body"]["messages"][0]["content"].as_str().unwrap(), told["body"]["messages"][1]["content"].as_str().unwrap());
        assert!(system.starts_with("You write mails.") && user.contains("Lead 0") && user.contains("kind"), "{told:#}");

        // A campaign with an AGENT writer: its drafts come from the model, and are reviewed and
        // sent like all others.
        let plan = world.plan("EMAIL", 0).await;
        let writer = world.create("writer", json!({ "name": "Model", "kind": "AGENT", "instructions": "Be brief." })).await;
        let change = "mutation($id: ID!, $to: ID!) { updateCampaign(input: { id: $id, writerId: $to }) { campaign { id } } }";
        world.ask(change, json!({ "id": plan.campaign, "to": writer })).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        let review = world.until_review(&run).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        world.until_run(&run, "COMPLETED").await;
        let sent = world.ask("query($run: ID!) { communications(filter: { runIds: [$run] }) { nodes { subject body status } } }", json!({ "run": run })).await;
        assert_eq!(sent["communications"]["nodes"], json!([{ "subject": "Hello there", "body": "A word about your work.", "status": "SENT" }]));
        let asked = api.asked().pop().unwrap();
        assert!(asked["body"]["messages"][0]["content"].as_str().unwrap().contains("Be brief."));
        world.end().await;
    }
}

both! {
    async fn what_failed_is_repeated_alone(kind) {
        let api = Api::start(Answer::json(200, json!({}))).await;
        let world = World::with_auth(kind).await;
        let manifest = json!({ "runTemplates": [{ "key": "calls", "name": "Calls", "phases": [
            { "key": "first", "autonomous": true, "tasks": [{ "key": "decide", "steps": [{ "key": "decide", "type": "decision", "assignedTo": "WORKFLOW", "config": { "cases": [{ "when": "true", "skip": [] }] } }] }] },
            { "key": "second", "autonomous": true, "tasks": [{ "key": "call", "fanOut": true, "failWhen": "ANY", "steps": [
                { "key": "call", "type": "api_call", "assignedTo": "WORKFLOW", "maxAttempts": 1, "config": { "url": format!("{}/{{{{ record.external_id }}}}", api.url()) } },
                { "key": "mark", "type": "update_record", "assignedTo": "WORKFLOW", "trigger": "after:call", "config": { "attributes": { "called": "{{ results.decide.case }}" } } },
            ] }] },
        ] }] });
        world.apply(&manifest.to_string()).await;
        world.leads(3).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        api.then([Answer::json(400, json!({ "no": 1 }))]);
        let run = world.fly("calls", json!({ "segmentId": segment })).await;
        world.until_run(&run, "FAILED").await;
        // Two done and one failed, with its dependents skipped.
        let query = "query($id: ID!) { run(id: $id) { status parent { id } availableActions { action allowed } audienceCount records { nodes { outcome record { id } } } steps(first: 50) { nodes { key status error } } } }";
        let before = world.ask(query, json!({ "id": run })).await["run"].clone();
        let step = |key: &str, status: &str| before["steps"]["nodes"].as_array().unwrap().iter().filter(|step| step["key"] == key && step["status"] == status).count();
        assert_eq!((step("call", "FAILED"), step("mark", "SKIPPED")), (1, 1), "{before:#}");
        assert!(before["availableActions"].as_array().unwrap().contains(&json!({ "action": "REPEAT", "allowed": true })));
        let repeat = "mutation($id: ID!, $only: Boolean!) { repeatRun(input: { id: $id, onlyFailed: $only }) { run { id parent { id } } } }";
        let again = world.ask(repeat, json!({ "id": run, "only": true })).await["repeatRun"]["run"].clone();
        assert_eq!(again["parent"]["id"], json!(run));
        let again = again["id"].as_str().unwrap().to_owned();
        world.until_run(&again, "COMPLETED").await;
        let after = world.ask(query, json!({ "id": again })).await["run"].clone();
        let decide = after["steps"]["nodes"].as_array().unwrap().iter().find(|step| step["key"] == "decide").unwrap();
        assert_eq!((&decide["status"], &decide["error"]), (&json!("SKIPPED"), &json!(format!("done in {run}"))), "{after:#}");
        let called = world.ask("{ records { nodes { attributes } } }", json!({})).await;
        assert!(called["records"]["nodes"].as_array().unwrap().iter().all(|record| record["attributes"]["called"] == "1"), "{called:#}");
        // A full repeat is over the same records.
        let whole = world.ask(repeat, json!({ "id": again, "only": false })).await["repeatRun"]["run"]["id"].as_str().unwrap().to_owned();
        world.until_run(&whole, "COMPLETED").await;
        assert_eq!(world.ask(query, json!({ "id": whole })).await["run"]["audienceCount"], after["audienceCount"]);
        // Retried in place: the failed steps and their dependents, and nothing else; many at once.
        let retry = "mutation($dry: Boolean!) { retryRuns(input: { filter: { statuses: [FAILED] }, dryRun: $dry }) { matched done refused { id } } }";
        assert_eq!(world.ask(retry, json!({ "dry": true })).await["retryRuns"], json!({ "matched": 1, "done": [], "refused": [] }));
        assert_eq!(world.ask(retry, json!({ "dry": false })).await["retryRuns"]["done"], json!([run]));
        world.until_run(&run, "COMPLETED").await;
        let cancel = "mutation { cancelRuns(input: { filter: { all: true } }) { matched done refused { code } } }";
        let refused = world.ask(cancel, json!({})).await["cancelRuns"].clone();
        assert_eq!((&refused["matched"], refused["refused"].as_array().unwrap().len()), (&json!(3), 3), "{refused:#}");
        world.end().await;
    }
}

both! {
    async fn events_from_outside_wake_and_nothing_else_does(kind) {
        let world = World::with_auth(kind).await;
        let manifest = json!({ "runTemplates": [{ "key": "paid", "name": "Paid", "phases": [{ "key": "all", "autonomous": true, "openFor": "1 day", "tasks": [
            { "key": "wait", "steps": [
                { "key": "paid", "type": "update_record", "assignedTo": "WORKFLOW", "trigger": "event:payment.received", "config": { "stage": "Paid" } },
                { "key": "thanks", "type": "decision", "assignedTo": "WORKFLOW", "trigger": "after:paid", "when": "record.stage == 'Paid'", "config": { "cases": [{ "when": "true", "skip": [] }] } },
            ] },
        ] }] }] });
        world.apply(&manifest.to_string()).await;
        let leads = world.leads(2).await;
        let run = world.fly("paid", json!({ "recordId": leads[0] })).await;
        world.until_step(&run, "paid", "PENDING").await;
        world.raise("payment.received", &leads[1]).await;
        world.raise("payment.refunded", &leads[0]).await;
        assert_eq!(world.steps(&run).await["paid"]["status"], "PENDING");
        world.raise("payment.received", &leads[0]).await;
        world.until_run(&run, "COMPLETED").await;
        let steps = world.steps(&run).await;
        assert_eq!((&steps["paid"]["status"], &steps["thanks"]["status"]), (&json!("COMPLETED"), &json!("COMPLETED")));
        let raise = "mutation($r: ID!, $name: String!) { raiseEvent(input: { name: $name, recordIds: [$r] }) { name } }";
        for name in ["run.completed", "payment", "Payment.Received"] {
            let refused = world.post(raise, json!({ "r": leads[0], "name": name })).await;
            assert_eq!(refused["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{refused:#}");
        }
        let viewer = world.key(Role::Viewer).await;
        assert_eq!(world.post_as(&viewer, raise, json!({ "r": leads[0], "name": "a.b" })).await.1["errors"][0]["extensions"]["code"], "FORBIDDEN");
        world.end().await;
    }
}

both! {
    async fn a_settle_under_a_key_is_of_one_run(kind) {
        let world = World::with_auth(kind).await;
        world.apply(&work("writer")).await;
        world.leads(3).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let key = world.agent_key("other").await;
        for _ in 0..2 {
            let run = world.fly("work", json!({ "segmentId": segment })).await;
            world.until_step(&run, "count", "QUEUED").await;
        }
        let held = world.claim(&key, 10).await;
        let of = |run: &Value| held.iter().filter(|step| step["runId"] == *run).map(|step| json!({ "id": step["id"], "token": step["token"], "result": {} })).collect::<Vec<_>>();
        let first = of(&held[0]["runId"]);
        let all: Vec<Value> = held.iter().map(|step| json!({ "id": step["id"], "token": step["token"], "result": {} })).collect();
        assert!(first.len() == 2 && all.len() == 4, "{held:#?}");
        let settle = "mutation($steps: [SettleStepInput!]!, $key: String) { settleSteps(input: { steps: $steps, idempotencyKey: $key }) { steps { status code } } }";
        let told = world.post_as(&key, settle, json!({ "steps": all, "key": "k" })).await.1["errors"][0]["extensions"].clone();
        assert_eq!((&told["code"], &told["field"]), (&json!("BAD_USER_INPUT"), &json!("idempotencyKey")));
        for _ in 0..2 {
            let done = world.post_as(&key, settle, json!({ "steps": first, "key": "k" })).await.1;
            assert_eq!(done["data"]["settleSteps"]["steps"], json!([{ "status": "COMPLETED", "code": null }, { "status": "COMPLETED", "code": null }]), "{done:#}");
        }
        // Without a key, steps of several runs; already settled ones are reported.
        let rest = world.post_as(&key, settle, json!({ "steps": all })).await.1["data"]["settleSteps"]["steps"].clone();
        let count = |code: Value| rest.as_array().unwrap().iter().filter(|step| step["code"] == code).count();
        assert_eq!((count(Value::Null), count(json!("CONFLICT"))), (2, 2), "{rest:#}");
        world.end().await;
    }
}

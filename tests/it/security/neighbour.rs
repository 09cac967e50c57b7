//! While one tenant is attacked from within, another one works: none of its requests fails, and none waits for long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::Kind;
use crate::harness::life::Home;
use crate::harness::socket::Socket;

/// A key of a tenant, at the real server.
#[derive(Clone)]
struct Tenant {
    client: reqwest::Client,
    url: String,
    key: String,
}

impl Tenant {
    /// The answer; null where there was none, or no JSON.
    async fn post(&self, query: &str, variables: Value) -> Value {
        let asked = self.client.post(format!("{}/graphql", self.url)).bearer_auth(&self.key);
        match asked.json(&json!({ "query": query, "variables": variables })).send().await {
            Ok(answer) => answer.json().await.unwrap_or_default(),
            Err(_) => Value::Null,
        }
    }

    async fn create(&self, noun: &str, input: Value) -> String {
        let upper = noun[..1].to_uppercase() + &noun[1..];
        let query =
            format!("mutation($input: Create{upper}Input!) {{ create{upper}(input: $input) {{ {noun} {{ id }} }} }}");
        let answer = self.post(&query, json!({ "input": input })).await;
        let id = answer["data"][format!("create{upper}")][noun]["id"].as_str();
        id.unwrap_or_else(|| panic!("{query}: {answer}")).to_owned()
    }

    /// One round of what an attacker with a manager's key does; what comes back matters to nobody.
    async fn attack(&self, round: usize) {
        let texts: Vec<String> = (0..12).map(|i| format!("none {i}")).collect();
        let heavy: Vec<Value> =
            (0..60).map(|i| json!({ "attributes": [{ "name": format!("a{i}"), "in": texts }] })).collect();
        let deep = (0..55).fold(json!({ "kind": { "eq": "lead" } }), |within, _| json!({ "and": [within] }));
        let many: String = (0..40).map(|i| format!("m{i}: createMember(input: {{ name: $n, email: \"x@example.com\", role: ADMIN }}) {{ member {{ id }} }} ")).collect();
        let count = "query($f: RecordFilterInput) { records(filter: $f) { totalCount } }";
        let large = "{ records(first: 500) { nodes { id name attributes runs(first: 5) { nodes { id } } } } }";
        let template = "mutation($n: String!, $b: String!) { createMessageTemplate(input: { name: $n, subject: \"s\", body: $b }) { messageTemplate { id } } }";
        let apply = "mutation($y: String!) { applyManifest(input: { yaml: $y, dryRun: true }) { applied } }";
        let chain = ["{{ a", &"|upper".repeat(2_000), " }}"].concat();
        let loops = "{% for a in [1,2,3,4,5,6,7,8,9] %}".repeat(8) + &"{% endfor %}".repeat(8);
        let yaml = format!("segments:\n  - name: M\n    filter: {}\n", "{not: ".repeat(60) + &"}".repeat(60));
        let mutation = format!("mutation($n: String!) {{ {many} }}");
        let nested = "{a".repeat(3_000);
        let aliases: String = (0..2_000).map(|i| format!("a{i}: viewer {{ role }} ")).collect();
        let aliases = format!("{{ {aliases} }}");
        let guess = Self { key: format!("{}x", self.key), ..self.clone() };
        tokio::join!(
            self.post(count, json!({ "f": { "or": heavy } })),
            self.post(count, json!({ "f": deep })),
            self.post(&mutation, json!({ "n": "long".repeat(10_000) })),
            self.post(large, json!({})),
            self.post(template, json!({ "n": format!("T{round}"), "b": chain })),
            self.post(template, json!({ "n": format!("L{round}"), "b": loops })),
            self.post(apply, json!({ "y": yaml })),
            self.post(&nested, json!({})),
            self.post(&aliases, json!({})),
            guess.post("{ viewer { role } }", json!({})),
        );
    }
}

both! {
    async fn a_second_tenant_is_served_meanwhile(kind) {
        attacked(kind).await;
    }
}

async fn attacked(kind: Kind) {
    let home = Home::new(kind).await;
    let key_of = |said: &str| said.split_whitespace().find(|word| word.starts_with("sortie_")).unwrap().to_owned();
    let (made, said) = home.run(&["key", "create", "--name", "first", "--role", "ADMIN"]);
    assert!(made, "{said}");
    let mut keys = Vec::new();
    for name in ["Loud", "Quiet"] {
        let (made, said) = home.run(&["org", "create", "--name", name, "--admin", name, "--email", "a@example.com"]);
        let org =
            said.split_whitespace().find(|word| word.starts_with("org_")).unwrap_or_else(|| panic!("{made} {said}"));
        let (made, said) = home.run(&["key", "create", "--name", "k", "--role", "ADMIN", "--org", org]);
        assert!(made, "{said}");
        let admin = key_of(&said);
        let (made, said) = home.run(&["key", "create", "--name", "m", "--role", "MANAGER", "--org", org]);
        assert!(made, "{said}");
        keys.push((admin, key_of(&said)));
        let csv = home.folder.join("leads.csv");
        std::fs::write(&csv, sortie::app::demo::leads(if name == "Loud" { 2_000 } else { 2 }, crate::harness::noon()))
            .unwrap();
        let (done, said) = home.run(&["import", "--kind", "lead", csv.to_str().unwrap(), "--org", org]);
        assert!(done, "{said}");
    }
    let life = home.begin();
    let tenant = |key: &str| Tenant {
        client: crate::harness::client(),
        url: format!("http://{}", life.address),
        key: key.to_owned(),
    };
    let (loud, quiet) = (tenant(&keys[0].1), tenant(&keys[1].0));
    let campaign = quiet.create("campaign", json!({
        "name": "Small", "variables": { "offer": "a trial" },
        "goalId": quiet.create("goal", json!({ "name": "G" })).await,
        "writerId": quiet.create("writer", json!({ "name": "W" })).await,
        "reviewerId": quiet.create("reviewer", json!({ "name": "R" })).await,
        "messageTemplateId": quiet.create("messageTemplate", json!({ "name": "Hello", "subject": "Hi {{ first_name }}", "body": "{{ offer }}" })).await,
        "segmentId": quiet.create("segment", json!({ "name": "All", "filter": { "all": true } })).await,
    })).await;
    for verb in ["submitCampaign", "approveCampaign"] {
        let query = format!("mutation($id: ID!) {{ {verb}(input: {{ id: $id }}) {{ preflight {{ ready }} }} }}");
        assert_eq!(quiet.post(&query, json!({ "id": campaign })).await["data"][verb]["preflight"]["ready"], true);
    }
    let (rest, over) = (life.memory() / 1024, Arc::new(AtomicBool::new(false)));
    let mut socket = Socket::open_as(life.address, &keys[0].1).await;
    assert_eq!(socket.message().await["type"], "connection_ack");
    for i in 0..20 {
        let query = format!("subscription {{ a{i}: events {{ kind payload actor {{ name }} recordId }} }}");
        socket.subscribe(&i.to_string(), &query, json!({})).await;
    }
    let attackers: Vec<_> = (0..2)
        .map(|nth| {
            let (loud, over) = (loud.clone(), over.clone());
            tokio::spawn(async move {
                let mut round = nth * 1_000_000;
                while !over.load(Ordering::Relaxed) {
                    loud.attack(round).await;
                    round += 1;
                }
                round - nth * 1_000_000
            })
        })
        .collect();
    let launch = "mutation($id: ID!) { runCampaign(input: { campaignId: $id, evenIfOpen: true }) { run { id } } }";
    let page = "{ runs(first: 20) { totalCount nodes { id name status waitingFor { code } progress { counts { total } } } } viewer { role } }";
    let (mut took, mut runs, mut most) = (Vec::new(), Vec::new(), rest);
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    for nth in 0..80 {
        tick.tick().await;
        let begun = Instant::now();
        let answer = quiet.post(page, json!({})).await;
        took.push(begun.elapsed());
        assert!(answer.get("errors").is_none() && answer["data"]["viewer"]["role"] == "ADMIN", "{nth}: {answer}");
        if nth % 20 == 0 {
            let launched = quiet.post(launch, json!({ "id": campaign })).await;
            runs.push(
                launched["data"]["runCampaign"]["run"]["id"]
                    .as_str()
                    .unwrap_or_else(|| panic!("{launched}"))
                    .to_owned(),
            );
            let health = quiet.client.get(format!("{}/healthz", quiet.url)).send().await.unwrap();
            assert_eq!(health.status().as_u16(), 200);
        }
        most = most.max(life.memory() / 1024);
    }
    over.store(true, Ordering::Relaxed);
    let mut rounds = 0;
    for attacker in attackers {
        rounds += attacker.await.unwrap();
    }
    took.sort_unstable();
    let p99 = took[took.len() * 99 / 100 - 1];
    println!(
        "{rounds} rounds of attacks; p50 {:?}, p99 {p99:?}; {rest} MiB at rest, {most} at most",
        took[took.len() / 2]
    );
    // The build of tests is some ten times slower than the server's, and other tests run beside it.
    assert!(p99 < Duration::from_secs(5), "{p99:?}");
    assert!(most < rest + 512, "{rest} → {most} MiB");
    // Its runs have come to their review, as ever.
    let state = "query($id: ID!) { run(id: $id) { status steps(filter: { types: [\"review_messages\"] }) { nodes { status } } } }";
    for run in &runs {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = quiet.post(state, json!({ "id": run })).await;
            if answer["data"]["run"]["steps"]["nodes"][0]["status"] == "AWAITING_APPROVAL" {
                break;
            }
            assert!(Instant::now() < deadline && answer["data"]["run"]["status"] != "FAILED", "{answer}");
            tick.tick().await;
        }
    }
    drop(socket);
    life.kill();
    home.remove();
}

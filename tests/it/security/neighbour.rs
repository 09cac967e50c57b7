//! A tenant under attack by another tenant's users: none of the neighbour's requests fails, and
//! none waits for long.

mod kinds;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kinds::{Attacker, KINDS};
use serde_json::{Value, json};

use crate::harness::Kind;
use crate::harness::life::Home;
use crate::harness::socket::Socket;

/// Maximum 99th percentile of the neighbour's query times …
const P99: Duration = Duration::from_secs(1);

/// … for a release build on two cores of its own. The test build is some ten times slower, and
/// other tests run beside it.
const SLOWER: u32 = if cfg!(debug_assertions) { 5 } else { 1 };

/// A key of a tenant, at the real server.
#[derive(Clone)]
struct Tenant {
    client: reqwest::Client,
    url: String,
    key: String,
}

impl Tenant {
    /// The response; null if there was none, or no JSON.
    async fn post(&self, query: &str, variables: Value) -> Value {
        self.send(&json!({ "query": query, "variables": variables })).await
    }

    async fn send(&self, request: &Value) -> Value {
        let asked = self.client.post(format!("{}/graphql", self.url)).bearer_auth(&self.key);
        match asked.json(request).send().await {
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
        let mut of_org = vec![admin];
        for role in ["MANAGER", "OPERATOR", "VIEWER"] {
            let (made, said) = home.run(&["key", "create", "--name", role, "--role", role, "--org", org]);
            assert!(made, "{said}");
            of_org.push(key_of(&said));
        }
        keys.push(of_org);
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
    let quiet = tenant(&keys[1][0]);
    let loud = Attacker {
        address: life.address,
        manager: tenant(&keys[0][1]),
        operator: tenant(&keys[0][2]),
        viewer: tenant(&keys[0][3]),
    };
    // An authenticated client keeps working while others guess keys from the same address.
    for key in [&loud.manager, &loud.operator, &loud.viewer] {
        assert_eq!(key.post("{ viewer { role } }", json!({})).await["errors"], Value::Null);
    }
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
    let mut socket = Socket::open_as(life.address, &keys[0][1]).await;
    assert_eq!(socket.message().await["type"], "connection_ack");
    for i in 0..20 {
        let query = format!("subscription {{ a{i}: events {{ kind payload actor {{ name }} recordId }} }}");
        socket.subscribe(&i.to_string(), &query, json!({})).await;
    }
    // Each attacker goes through all kinds, one in reverse order, so that each kind occurs alone
    // and beside others.
    let passes = Arc::new(AtomicUsize::new(0));
    let attackers: Vec<_> = [false, true]
        .into_iter()
        .map(|backwards| {
            let (loud, over, passes) = (loud.clone(), over.clone(), passes.clone());
            tokio::spawn(async move {
                let mut rounds = 0;
                while !over.load(Ordering::Relaxed) {
                    let mut kinds = KINDS.to_vec();
                    if backwards {
                        kinds.reverse();
                    }
                    for kind in kinds {
                        // The attack's result and duration are irrelevant.
                        let _ = tokio::time::timeout(Duration::from_secs(15), loud.attack(kind, rounds)).await;
                    }
                    rounds += 1;
                    passes.fetch_add(1, Ordering::Relaxed);
                }
                rounds
            })
        })
        .collect();
    let launch = "mutation($id: ID!) { runCampaign(input: { campaignId: $id, evenIfOpen: true }) { run { id } } }";
    let page = "{ runs(first: 20) { totalCount nodes { id name status waitingFor { code } progress { counts { total } } } } viewer { role } }";
    let (mut took, mut runs, mut most) = (Vec::new(), Vec::new(), rest);
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let mut nth = 0;
    while nth < 80 || (passes.load(Ordering::Relaxed) < attackers.len() && nth < 3_000) {
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
        nth += 1;
    }
    assert!(passes.load(Ordering::Relaxed) >= attackers.len(), "not every kind of attack was tried");
    over.store(true, Ordering::Relaxed);
    let mut rounds = 0;
    for attacker in attackers {
        rounds += attacker.await.unwrap();
    }
    took.sort_unstable();
    let p99 = took[took.len() * 99 / 100 - 1];
    println!(
        "{rounds} rounds of attacks, {} queries; p50 {:?}, p99 {p99:?}, at most {:?}; {rest} MiB at rest, {most} at most",
        took.len(),
        took[took.len() / 2],
        took[took.len() - 1]
    );
    assert!(p99 < P99 * SLOWER, "{p99:?}");
    assert!(most < rest + 512, "{rest} → {most} MiB");
    // Its runs have reached their review as usual.
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

//! One durable step transition with its event: people start steps and return them, in a small run
//! and in a large one.

use serde_json::{Value, json};

use crate::Size;
use crate::client::{body, load};
use crate::server::Server;

pub async fn steps(server: &Server, size: Size) {
    println!(
        "| step transition, durable, with its event | p50 | p99 | per second | CPU s per 1,000 | database's CPU |\n|---|---|---|---|---|---|"
    );
    // One run of either size, on whose lock all wait; and as many runs as people.
    for (records, runs) in [(100.min(size.large), 8), (100.min(size.large), 1), (size.large, 1)] {
        let mut chains = Vec::new();
        for _ in 0..runs {
            let run = calls(server, records).await;
            // Every other step, so that as many are started as are returned.
            let asked = json!({ "id": run, "first": 8 });
            let found = server.ask("query($id: ID!, $first: Int) { run(id: $id) { steps(first: $first, filter: { types: [\"call\"] }) { nodes { id } } } }", asked).await;
            let ids: Vec<&Value> =
                found["run"]["steps"]["nodes"].as_array().unwrap().iter().map(|step| &step["id"]).collect();
            for mine in ids.chunks(ids.len() / (8 / runs)) {
                let mut chain = Vec::new();
                for i in 0..size.requests / 16 {
                    for verb in ["startStep", "resetStep"] {
                        let query =
                            format!("mutation($id: ID!) {{ {verb}(input: {{ id: $id }}) {{ step {{ id status }} }} }}");
                        chain.push(body(&query, &json!({ "id": mine[i % mine.len()] })));
                    }
                }
                chains.push(chain);
            }
        }
        let took = load(server, chains).await;
        println!("| {} people, {runs} runs of {records} steps | {} |", 8, took.columns());
    }
    println!();
}

/// Launches a run whose call steps are done by people.
pub async fn calls(server: &Server, records: usize) -> String {
    let campaign = server.campaign("PHONE", records).await;
    let run = server.launch(&campaign).await;
    let fields = "phases { id key status } progress { counts { pending } }";
    let now = server.until(&run, fields, |now| now["phases"][0]["status"] == "ACTIVE").await;
    let release = "mutation($id: ID!) { releasePhase(input: { id: $id }) { phase { status } } }";
    // The run may still be loading its audience.
    server.ask(release, json!({ "id": now["phases"][0]["id"] })).await;
    server.until(&run, fields, |now| now["progress"]["counts"]["pending"].as_u64() >= Some(records as u64)).await;
    run
}

//! Guided work: the records that a step shows, among few and among many; each record with its
//! latest communications, replies, activities and open follow-ups.

use serde_json::{Value, json};

use crate::Size;
use crate::client::{Client, body, load};
use crate::server::Server;

const RECORDS: &str = "query($id: ID!) { step(id: $id) { records { totalCount nodes { id name stage priority lastContactedAt lastRepliedAt \
                       communications(first: 3) { nodes { id subject status } } replies(first: 3) { nodes { id body } } \
                       activities(first: 3) { nodes { id kind summary } } followUps(statuses: [OPEN], first: 3) { nodes { id title dueAt } } } } } }";

const SUGGESTIONS: &str = "query($id: ID!) { step(id: $id) { suggestions { record { id } mail { to subject body } stage slot { startsAt endsAt } title dueAt } } }";

pub async fn guided(server: &Server, size: Size) {
    println!(
        "| weekly review: what a step shows | records shown | p50 | p99 | per second | CPU s per 1,000 | database's CPU |\n|---|---|---|---|---|---|---|"
    );
    let mut there = 0;
    for partnerships in [size.large / 100, size.large] {
        import(server, there..partnerships).await;
        there = partnerships;
        let start = "mutation { startGuidedRun(input: { templateKey: \"weekly-pipeline-review\" }) { run { steps { nodes { id key } } } } }";
        let run = server.ask(start, json!({})).await["startGuidedRun"]["run"].clone();
        for step in run["steps"]["nodes"].as_array().unwrap() {
            let (id, key) = (&step["id"], step["key"].as_str().unwrap());
            let found = server.ask(RECORDS, json!({ "id": id })).await["step"]["records"]["totalCount"].clone();
            for (what, query) in [("records", RECORDS), ("suggestions", SUGGESTIONS)] {
                if what == "suggestions" && key.contains("review") {
                    continue;
                }
                let chain = vec![body(query, &json!({ "id": id })); (size.requests / 20).max(1)];
                let took = load(server, vec![chain; 4]).await;
                println!("| {key}: {what}, of {partnerships} partnerships | {found} | {} |", took.columns());
            }
        }
    }
    println!();
}

/// Creates partnerships of all stages and priorities, most of them contacted lately, some never.
async fn import(server: &Server, which: std::ops::Range<usize>) {
    const STAGES: [&str; 6] =
        ["New Lead", "Conversation Active", "MOU Drafted", "MOU Sent", "MOU Signed", "Active Partner"];
    let mut client = Client::connect(server.address).await;
    let today = sortie::kernel::clock::Clock::real().now();
    for chunk in which.collect::<Vec<_>>().chunks(5_000) {
        let mut csv = String::from("external_id,name,email,stage,priority,contact,last_contacted_at\n");
        for i in chunk {
            let ago = chrono::Duration::hours((i % 700) as i64);
            let contacted = if i % 11 == 0 { String::new() } else { (today - ago).to_rfc3339() };
            let (stage, priority) = (STAGES[i % 6], i * 7_919 % 1_000);
            csv += &format!("speed-{i},Partner {i},p{i}@example.com,{stage},{priority},Dr {i},{contacted}\n");
        }
        let report = client.post("/import/records?kind=partnership&file=speed.csv", "text/csv", csv.as_bytes()).await;
        let report: Value = serde_json::from_slice(report).unwrap();
        assert_eq!(report["created"], json!(chunk.len()), "{report:#}");
    }
}

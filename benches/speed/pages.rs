//! The list of runs: every order, each with filters for a common value, a rare one and one that
//! matches nothing; and deep pages.

use serde_json::{Value, json};

use crate::Size;
use crate::client::{Client, Took, body, repeat};
use crate::server::Server;

const PAGE: &str = "query($filter: RunFilter, $order: RunOrder, $after: String) { runs(filter: $filter, orderBy: $order, first: 50, after: $after) \
                    { nodes { id name status type channel createdAt startedAt campaign { id name } } pageInfo { endCursor hasNextPage } } }";
const ORDERS: [&str; 7] = ["CREATED_AT", "CAMPAIGN", "CHANNEL", "STATUS", "TYPE", "SCHEDULED_FOR", "STARTED_AT"];

pub async fn pages(server: &Server, size: Size) {
    let newest = json!({ "field": "CREATED_AT", "direction": "DESC" });
    let both = json!({ "statuses": ["COMPLETED"], "channels": ["EMAIL"] });
    println!(
        "| page of 50 runs with their campaign's name | p50 | p99 | per second | CPU s per 1,000 | database's CPU |\n|---|---|---|---|---|---|"
    );
    for (what, filter) in [("no filter", json!({})), ("by status and channel", both.clone())] {
        let first = repeat(server, &body(PAGE, &json!({ "filter": filter, "order": newest })), size.requests).await;
        println!("| newest first, {what} | {} |", first.columns());
        let cursor = deep(server, &filter, &newest, size.deep).await;
        let asked = json!({ "filter": filter, "order": newest, "after": cursor });
        let after = repeat(server, &body(PAGE, &asked), size.requests).await;
        println!("| the same after {} rows | {} |", size.deep, after.columns());
    }
    all(server, size).await;
}

/// The cursor after a number of rows.
async fn deep(server: &Server, filter: &Value, order: &Value, rows: usize) -> Value {
    let query = "query($filter: RunFilter, $order: RunOrder, $first: Int, $after: String) { runs(filter: $filter, orderBy: $order, first: $first, after: $after) { pageInfo { endCursor } } }";
    let (mut client, mut after) = (Client::connect(server.address).await, Value::Null);
    let page = rows.min(500);
    for _ in 0..rows / page {
        let asked = json!({ "filter": filter, "order": order, "first": page, "after": after });
        after = client.ask(query, asked).await["runs"]["pageInfo"]["endCursor"].clone();
    }
    after
}

/// Every order with every filter.
async fn all(server: &Server, size: Size) {
    let campaigns = server.ask("{ campaigns(first: 2) { nodes { id } } runs(first: 1, filter: { statuses: [COMPLETED] }) { nodes { campaign { id } } } }", json!({})).await;
    let common = &campaigns["runs"]["nodes"][0]["campaign"]["id"];
    let nobody = server.create("campaign", json!({ "name": "Nobody's" })).await;
    let filters = [
        ("campaign", [json!({ "campaignIds": [common] }), json!({ "campaignIds": [nobody] })].to_vec()),
        ("channel", [json!({ "channels": ["EMAIL"] }), json!({ "channels": ["PHONE"] })].to_vec()),
        ("status", ["COMPLETED", "SCHEDULED", "QUEUED"].map(|status| json!({ "statuses": [status] })).to_vec()),
        ("type", ["RUN", "TEST_RUN"].map(|kind| json!({ "types": [kind] })).to_vec()),
        (
            "status and channel",
            [("COMPLETED", "EMAIL"), ("SCHEDULED", "PHONE"), ("SCHEDULED", "EMAIL")]
                .map(|(status, channel)| json!({ "statuses": [status], "channels": [channel] }))
                .to_vec(),
        ),
        (
            "made in",
            [
                ("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
                ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
                ("1999-01-01T00:00:00Z", "2000-01-01T00:00:00Z"),
            ]
            .map(|(from, to)| json!({ "createdAt": { "from": from, "to": to } }))
            .to_vec(),
        ),
        ("search", ["run", "run 0000321", "zeppelin"].map(|text| json!({ "search": text })).to_vec()),
    ];
    let times = (size.requests / 50).max(4);
    println!(
        "\n| page of 50 runs, p50 / p99 in ms | no filter | {} |",
        filters.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" | ")
    );
    println!("|{}", "---|".repeat(filters.len() + 2));
    let mut worst: Option<(f64, String)> = None;
    for field in ORDERS {
        let order = json!({ "field": field, "direction": "DESC" });
        let show = |took: &Took| format!("{:.1} / {:.1}", took.percentile(50), took.percentile(99));
        let plain = repeat(server, &body(PAGE, &json!({ "order": order })), times).await;
        let mut cells = vec![show(&plain)];
        for (name, values) in &filters {
            let mut cell = Vec::new();
            for filter in values {
                let took = repeat(server, &body(PAGE, &json!({ "order": order, "filter": filter })), times).await;
                if worst.as_ref().is_none_or(|(most, _)| took.percentile(50) > *most) {
                    worst = Some((took.percentile(50), format!("{field} by {name} {filter}")));
                }
                cell.push(show(&took));
            }
            cells.push(cell.join(", "));
        }
        println!("| {field} | {} |", cells.join(" | "));
    }
    if let Some((most, what)) = worst {
        println!("\nThe slowest, by p50: {most:.1} ms, {what}\n");
    }
}

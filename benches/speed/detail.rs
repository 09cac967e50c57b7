//! The run detail query: a run with its campaign, 20 steps and 60 events.

use sea_orm::{ConnectionTrait, Database, Statement};
use serde_json::json;

use crate::Size;
use crate::client::{body, load};
use crate::server::Server;

const DETAIL: &str = "query($id: ID!) { run(id: $id) { id name status type channel createdAt startedAt endedAt outcome campaign { id name status } \
                      steps(first: 20) { nodes { id key name type status startedAt completedAt } } \
                      events(first: 60) { nodes { cursor kind at payload } } } }";

/// Gives some of the newest completed runs 20 steps and 60 events each by copying existing ones.
/// Returns their ids.
pub async fn long_runs(url: &str, count: usize) -> Vec<String> {
    let db = Database::connect(url).await.unwrap();
    let postgres = url.starts_with("postgres");
    let backend = db.get_database_backend();
    let (random, hex) = if postgres {
        ("gen_random_uuid()", "replace(id::text, '-', '')")
    } else {
        ("randomblob(16)", "lower(hex(id))")
    };
    let find = format!(
        "SELECT {hex} FROM run WHERE status = 'COMPLETED' AND name LIKE 'Run %' ORDER BY org_id DESC, created_at DESC, id DESC LIMIT {count}"
    );
    let found = db.query_all_raw(Statement::from_string(backend, find)).await.unwrap();
    let mut ids = Vec::new();
    for row in found {
        let id: String = row.try_get_by_index(0).unwrap();
        let literal = if postgres { format!("'{id}'::uuid") } else { format!("x'{id}'") };
        let columns = "org_id, run_id, phase_id, task_id, name, kind, sequence, status, trigger, content_source, assigned_to, available_at, \
                       attempt_count, failure_count, max_attempts, lapse_count, started_at, completed_at, completed_by, created_at, revision";
        let numbers = |count: i32| {
            if postgres {
                format!("generate_series(1, {count}) AS n(i)")
            } else {
                format!(
                    "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) SELECT i FROM n) AS n"
                )
            }
        };
        let have = |table: &str| {
            Statement::from_string(backend, format!("SELECT COUNT(*) FROM {table} WHERE run_id = {literal}"))
        };
        let steps: i64 = db.query_one_raw(have("step")).await.unwrap().unwrap().try_get_by_index(0).unwrap();
        if steps < 20 {
            db.execute_unprepared(&format!("INSERT INTO step (id, key, {columns}) SELECT {random}, s.key || '_' || n.i, {columns} FROM step s CROSS JOIN {} WHERE s.run_id = {literal} AND s.sequence < 5", numbers(3))).await.unwrap();
            let of = "kind, campaign_id, run_id, phase_id, actor, payload, at";
            let copies = format!(
                "SELECT e.org_id, row_number() OVER () AS nth, {of} FROM event e CROSS JOIN {} WHERE e.run_id = {literal}",
                numbers(11)
            );
            db.execute_unprepared(&format!("INSERT INTO event (org_id, position, {of}) SELECT org_id, nth + (SELECT position FROM event_counter c WHERE c.org_id = e.org_id), {of} FROM ({copies}) AS e")).await.unwrap();
            db.execute_unprepared("UPDATE event_counter SET position = COALESCE((SELECT MAX(position) FROM event e WHERE e.org_id = event_counter.org_id), 0)").await.unwrap();
        }
        let uuid = uuid::Uuid::parse_str(&id).unwrap();
        ids.push(entity::id::RunId(uuid).to_string());
    }
    db.close().await.unwrap();
    ids
}

pub async fn detail(server: &Server, size: Size, runs: &[String]) {
    let found = server.ask(DETAIL, json!({ "id": runs[0] })).await["run"].clone();
    let counts = ["steps", "events"].map(|list| found[list]["nodes"].as_array().unwrap().len());
    assert_eq!(counts, [20, 60]);
    let chain: Vec<Vec<u8>> =
        (0..size.requests / 4).map(|i| body(DETAIL, &json!({ "id": runs[i % runs.len()] }))).collect();
    let took = load(server, vec![chain; 4]).await;
    println!("| detail | p50 | p99 | per second | CPU s per 1,000 | database's CPU |\n|---|---|---|---|---|---|");
    println!("| a run with its campaign, 20 steps, 60 events | {} |\n", took.columns());
}

//! What must hold after any test: the log without gaps, counters that equal counts, rows that are what their events say.

use std::time::Duration;

use serde_json::{Value, json};

use super::World;

/// What must hold after any test (design/6-invariants.md, as far as there is something to check). The engine may be
/// at work between two looks; what is wrong for good stays wrong.
pub async fn check(world: &World) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while let Err(wrong) = look(world).await {
        assert!(tokio::time::Instant::now() < deadline, "{wrong}");
        let mut nudges = world.db.nudges();
        let _ = tokio::time::timeout(Duration::from_millis(200), nudges.changed()).await;
    }
}

async fn look(world: &World) -> Result<(), String> {
    // Positions are 1..n without a gap.
    for row in world
        .sql("SELECT COUNT(*) - MAX(position), COUNT(DISTINCT position) - COUNT(*) FROM event GROUP BY org_id")
        .await
    {
        if row != ["0", "0"] {
            return Err("the log has gaps".into());
        }
    }
    // Counters equal counts.
    for status in ["pending", "queued", "in_progress", "awaiting_approval", "completed", "skipped", "failed"] {
        let wrong = world
            .sql(&format!(
                "SELECT t.key FROM task t WHERE t.{status} <> (SELECT COUNT(*) FROM step s WHERE s.task_id = t.id AND s.status = '{}')",
                status.to_uppercase()
            ))
            .await;
        if !wrong.is_empty() {
            return Err(format!("counter {status} is wrong for {wrong:?}"));
        }
    }
    // Folding the events gives the rows.
    let mut folded: std::collections::HashMap<(String, String), Value> = std::collections::HashMap::new();
    for event in world.ask_all_events().await {
        let kind = event["kind"].as_str().unwrap();
        let noun = kind.split('.').next().unwrap();
        let (from, to) = (&event["payload"]["from"], &event["payload"]["to"]);
        let id = match noun {
            "campaign" => &event["campaignId"],
            "run" => &event["runId"],
            "phase" => &event["phaseId"],
            "task" => &event["taskId"],
            "step" => &event["stepId"],
            "communication" => &event["payload"]["communicationId"],
            _ => continue,
        };
        if !to.is_string() {
            continue;
        }
        let key = (noun.to_owned(), id.as_str().unwrap().to_owned());
        if let Some(before) = folded.insert(key.clone(), to.clone())
            && &before != from
        {
            return Err(format!("{kind} of {key:?} does not follow from what was before"));
        }
    }
    let ids: Vec<&(String, String)> = folded.keys().collect();
    for some in ids.chunks(100) {
        let query = "query($ids: [ID!]!) { nodes(ids: $ids) { id ... on Campaign { s0: status } ... on Run { s1: status } ... on Phase { s2: status } ... on Task { s3: status } ... on Step { s4: status } ... on Communication { s5: status } } }";
        let data = world.ask(query, json!({ "ids": some.iter().map(|(_, id)| id).collect::<Vec<_>>() })).await;
        for (key, node) in some.iter().zip(data["nodes"].as_array().unwrap()) {
            let status = node.as_object().unwrap().iter().find(|(name, _)| *name != "id").map(|(_, status)| status);
            if status != Some(&folded[key]) {
                return Err(format!("{key:?} is {status:?}, but its events say {}", folded[key]));
            }
        }
    }
    Ok(())
}

//! Steps whose claim could not be delivered to the worker are released: the next claim gets them at
//! once.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::harness::{Kind, World};

const CLAIM: &str = "claimSteps(input: { worker: \"w\", limit: 40, leaseSeconds: 3600 })";

/// A world with a step per record, with contexts of a multiple of 15,000 bytes, and the agent's
/// key.
async fn world(kind: Kind, records: usize, times: usize) -> (World, String) {
    let world = World::with_config(kind, |config| config.answer_mib = 1).await;
    let shown: String = (0..times).map(|i| format!("a{i}: attributes ")).collect();
    let look = json!({ "key": "look", "type": "look", "assignedTo": "AGENT", "agent": "looker", "resultSchema": {} });
    let phases = json!([{ "key": "all", "name": "All", "autonomous": true, "tasks": [{ "key": "t", "name": "T", "fanOut": true, "steps": [look] }] }]);
    let manifest = json!({
        "agents": [{ "name": "looker", "filter": "true", "context": format!("{{ record {{ {shown} }} }}") }],
        "runTemplates": [{ "key": "looks", "name": "Looks", "phases": phases }],
    });
    world.apply(&manifest.to_string()).await;
    world.fill(kind, &world.viewer, records, 15_000).await;
    let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
    world.fly("looks", json!({ "segmentId": segment })).await;
    let queued = async {
        while world.number("SELECT COUNT(*) FROM step WHERE status = 'QUEUED'").await < i64::try_from(records).unwrap()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), queued).await.expect("the steps are queued");
    let key = world.agent_key("looker").await;
    (world, key)
}

both! {
    async fn a_claim_takes_what_has_room_in_its_answer(kind) {
        let (world, key) = world(kind, 40, 4).await;
        let (mut all, mut claims) = (HashSet::new(), 0);
        while all.len() < 40 {
            let steps = world.claim(&key, 40).await;
            assert!(!steps.is_empty() && steps.len() < 40, "{} steps", steps.len());
            for step in steps {
                assert!(step["context"]["record"]["a3"]["padding"].is_string(), "{step:#}");
                assert!(all.insert(step["id"].as_str().unwrap().to_owned()), "nobody else has it");
            }
            claims += 1;
        }
        assert!(claims >= 4, "{claims} claims");
        assert_eq!(world.number("SELECT COUNT(*) FROM step WHERE status = 'IN_PROGRESS' AND lease_token IS NOT NULL").await, 40);
        world.end().await;
    }
}

both! {
    async fn a_context_that_is_too_large_is_told_beside_its_step(kind) {
        let (world, key) = world(kind, 3, 120).await;
        let steps = world.claim(&key, 40).await;
        assert_eq!(steps.len(), 3);
        for step in steps {
            assert!(step["context"].is_null() && step["contextError"].as_str().unwrap().contains("fewer"), "{step:#}");
        }
        world.end().await;
    }
}

both! {
    /// A response that is too large as a whole, or that is lost because of another field of the
    /// request.
    async fn a_claim_whose_answer_is_lost_is_given_back(kind) {
        let (world, key) = world(kind, 20, 4).await;
        let many: String = (0..40).map(|i| format!("c{i}: context ")).collect();
        let bad = "bad: settleSteps(input: { steps: [] }) { steps { id } }";
        for fields in [format!("{CLAIM} {{ steps {{ token {many} }} }}"), format!("{CLAIM} {{ steps {{ token }} }} {bad}")] {
            let (_, answer) = world.post_as(&key, &format!("mutation {{ {fields} }}"), json!({})).await;
            assert_eq!(answer["errors"][0]["extensions"]["code"], "LIMIT_EXCEEDED", "{}", answer.to_string().chars().take(500).collect::<String>());
            assert!(answer.get("data").is_none_or(Value::is_null));
            assert_eq!(world.number("SELECT COUNT(*) FROM step WHERE status = 'QUEUED'").await, 20);
            assert_eq!(world.number("SELECT COUNT(*) FROM step WHERE failure_count > 0 OR lapse_count > 0").await, 0);
        }
        assert!(!world.claim(&key, 40).await.is_empty(), "the next claim gets it at once");
        world.end().await;
    }
}

//! Fairness between orgs on one engine: an org with very much work to start leaves the others their
//! turns.

use serde_json::json;
use sortie::engine::begin;
use sortie::kernel::viewer::Viewer;

use crate::harness::World;

const LAUNCH: &str =
    "mutation($id: ID!) { runCampaign(input: { campaignId: $id, evenIfOpen: true }) { run { id status } } }";

both! {
    async fn what_one_org_has_to_begin_leaves_the_others_theirs(kind) {
        let mut world = World::still(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        for _ in 0..40 {
            world.ask(LAUNCH, json!({ "id": plan.campaign })).await;
        }
        let (_, small): (_, Viewer) = sortie::domain::people::org::create(&world.db, "Small", "Ann", "ann@small.example").await.unwrap();
        let large = std::mem::replace(&mut world.viewer, small);
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let mine = world.ask(LAUNCH, json!({ "id": plan.campaign })).await["runCampaign"]["run"]["id"].clone();
        begin::tick(world.gear()).await.unwrap();
        let status = "query($id: ID!) { run(id: $id) { status } }";
        assert_eq!(world.ask(status, json!({ "id": mine })).await["run"]["status"], "IN_PROGRESS");
        world.viewer = large;
        let left = "{ runs(filter: { statuses: [QUEUED] }) { totalCount } }";
        let many = world.ask(left, json!({})).await["runs"]["totalCount"].as_u64().unwrap();
        assert!((1..40).contains(&many), "one look takes a part of what one org has: {many}");
        world.tick(false).await;
        assert_eq!(world.ask(left, json!({})).await["runs"]["totalCount"], 0);
        world.end().await;
    }
}

both! {
    async fn steps_of_one_org_leave_the_others_theirs(kind) {
        let mut world = World::still(kind, None).await;
        let step = json!({ "key": "update", "type": "update_record", "assignedTo": "WORKFLOW", "trigger": "immediate", "config": { "attributes": { "seen": "yes" } } });
        let phases = json!([{ "key": "all", "name": "All", "autonomous": true, "tasks": [{ "key": "t", "name": "T", "fanOut": true, "steps": [step] }] }]);
        let template = json!({ "runTemplates": [{ "key": "marks", "name": "marks", "phases": phases }] }).to_string();
        // Three orgs: one with very much work, which was first, and two with a little.
        for (name, count) in [("Large", 900), ("Small", 3), ("Tiny", 1)] {
            if name != "Large" {
                let (_, viewer): (_, Viewer) = sortie::domain::people::org::create(&world.db, name, "Ann", &format!("ann@{name}.example")).await.unwrap();
                world.viewer = viewer;
            }
            world.apply(&template).await;
            let plan = world.plan("EMAIL", count).await;
            let run = world.fly("marks", json!({ "segmentId": plan.segment, "channel": "EMAIL" })).await;
            for _ in 0..4 {
                world.tick(false).await;
            }
            let query = "query($id: ID!) { run(id: $id) { status steps(first: 1) { totalCount } } }";
            let found = world.ask(query, json!({ "id": run })).await["run"].clone();
            assert_eq!((&found["status"], &found["steps"]["totalCount"]), (&json!("IN_PROGRESS"), &json!(count)), "{name}");
        }
        world.perform_once(&sortie::step_kind::update_record::UpdateRecord).await;
        let done = "SELECT COUNT(*) FROM step WHERE kind = 'update_record' AND status = 'COMPLETED' GROUP BY org_id ORDER BY 1";
        let done: Vec<i64> = world.sql(done).await.iter().map(|row| row[0].parse().unwrap()).collect();
        assert!(done.len() == 3 && done[..2] == [1, 3] && done[2] < 900, "{done:?}");
        world.drop_unchecked().await;
    }
}

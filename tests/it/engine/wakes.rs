//! Commits wake only those loops of the engine that they may have given work.

use std::time::Instant;

use serde_json::json;

use crate::harness::World;

/// The most looks at the queues that the loops make in one second without any commit.
const LOOKS_PER_TICK: u64 = 60;

both! {
    async fn a_person_s_step_wakes_no_queue(kind) {
        let world = World::new(kind).await;
        let mut steps = Vec::new();
        for _ in 0..100 {
            steps.extend(world.own_run(&[("a", "custom", json!({}))], json!({})).await.1);
        }
        world.db.keep_statements();
        world.db.take_statements();
        let began = Instant::now();
        for step in &steps {
            world.ask("mutation($id: ID!) { startStep(input: { id: $id }) { step { status } } }", json!({ "id": step })).await;
        }
        let ticks = began.elapsed().as_secs() + 2;
        let looks = world.db.take_statements().iter().filter(|statement| is_look(&statement.sql)).count() as u64;
        // Each commit woke every loop before: with its own looks, that were two thousand.
        assert!(looks <= ticks * LOOKS_PER_TICK, "{looks} looks in {ticks} ticks");
        world.end().await;
    }
}

/// True for a statement by which an idle loop looks for work.
fn is_look(sql: &str) -> bool {
    ["WITH RECURSIVE found", "FROM \"sweep\"", "FROM \"schedule\"", "FROM \"bulk_action\"", "FROM \"follow_up\""]
        .iter()
        .any(|part| sql.contains(part))
}

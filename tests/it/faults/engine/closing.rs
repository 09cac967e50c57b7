//! Phases that wait for events: those of paused runs stay open and block no others.

use serde_json::json;

use crate::harness::{Kind, World};

both! {
    async fn phases_of_held_runs_take_no_place_among_those_that_can_be_closed(kind) {
        let world = World::without_server(kind, None).await;
        let (held, paused, open) = (world.plan("EMAIL", 1).await, world.plan("EMAIL", 0).await, world.plan("EMAIL", 0).await);
        let mut runs = Vec::new();
        for plan in [&held, &paused, &open, &open] {
            if runs.len() < 3 {
                world.activate(plan).await;
            }
            runs.push(world.launch(plan).await);
        }
        world.tick(false).await;
        // The phases' waiting time is over, the last one's for the longest.
        for (run, until) in runs.iter().zip(["01", "02", "04", "03"]) {
            let id: entity::id::RunId = run.parse().unwrap();
            let id = if kind == Kind::Sqlite { format!("x'{}'", id.0.simple()) } else { format!("'{}'", id.0) };
            world.force(&format!("UPDATE phase SET open_until = '2026-11-{until}T11:00:00+00:00' WHERE status = 'ACTIVE' AND run_id = {id}")).await;
        }
        world.clock.set("2026-11-20T12:00:00Z".parse().unwrap());
        world.act("pauseRun", "run", json!({ "id": runs[0] })).await;
        world.act("pauseCampaign", "campaign", json!({ "id": paused.campaign })).await;
        let found = async || -> Vec<String> {
            sortie::domain::run::overdue::expired_phases(&world.db).await.unwrap().into_iter().map(|(_, run, _)| run.to_string()).collect()
        };
        assert_eq!(found().await, [runs[3].clone(), runs[2].clone()]);
        // Resumed, they are closed in their turn.
        world.act("resumeRun", "run", json!({ "id": runs[0] })).await;
        world.act("resumeCampaign", "campaign", json!({ "id": paused.campaign })).await;
        assert_eq!(found().await, [runs[0].clone(), runs[1].clone(), runs[3].clone(), runs[2].clone()]);
        world.drop_unchecked().await;
    }
}

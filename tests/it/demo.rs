//! The demo: a stranger's first minute.

use serde_json::json;

use crate::harness::World;

both! {
    async fn one_flies_and_one_waits(kind) {
        let world = World::new(kind).await;
        let run = sortie::demo::seed(&world.db, &world.viewer).await.unwrap().unwrap();
        sortie::demo::approve(world.db.clone(), world.viewer.clone(), run).await.unwrap();
        let done = world.until_run(&run.to_string(), "COMPLETED").await;
        let sent = world.outbox().len();
        assert!(sent > 500, "{sent}");
        assert_eq!(done["outcome"], format!("{sent} of {sent} sent, 0 failed, 0 skipped"));
        let data = world.ask("{ records { totalCount } campaigns(orderBy: { field: NAME, direction: ASC }) { nodes { name status preflight(action: RUN) { checks { status message } } } } }", json!({})).await;
        assert_eq!(data["records"]["totalCount"], sortie::demo::LEADS);
        let campaigns = data["campaigns"]["nodes"].as_array().unwrap();
        assert_eq!((&campaigns[1]["name"], &campaigns[1]["status"]), (&json!("Win back quiet leads"), &json!("PENDING_APPROVAL")));
        let failing: Vec<_> = campaigns[1]["preflight"]["checks"].as_array().unwrap().iter().filter(|check| check["status"] == "FAILED").collect();
        assert_eq!(failing.len(), 1, "all but the approval: {failing:?}");
        // Started again, it seeds nothing more.
        assert!(sortie::demo::seed(&world.db, &world.viewer).await.unwrap().is_none());
        world.end().await;
    }
}

//! Orgs take turns at the one engine: whoever has very much to begin leaves the others theirs.

use serde_json::json;
use sortie::engine::begin;
use sortie::viewer::Viewer;

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
        let (_, small): (_, Viewer) = sortie::org::create(&world.db, "Small", "Ann", "ann@small.example").await.unwrap();
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

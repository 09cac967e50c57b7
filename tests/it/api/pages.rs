//! Pagination: for every order and filter, walking by cursor in either direction returns exactly
//! the list, at any page size.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::harness::World;

const LIST: &str = "query($filter: RunFilter, $by: RunOrder, $first: Int, $after: String, $last: Int, $before: String) { \
    runs(filter: $filter, orderBy: $by, first: $first, after: $after, last: $last, before: $before) { \
    nodes { id } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";

fn ids(data: &Value) -> Vec<String> {
    data["runs"]["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap().to_owned()).collect()
}

/// Creates runs with ties in every order, some scheduled, some not.
async fn runs(world: &World) -> String {
    let plan = world.plan("EMAIL", 1).await;
    world.activate(&plan).await;
    for i in 0..9 {
        match i % 3 {
            0 => drop(world.launch(&plan).await),
            1 => {
                let query = "mutation($id: ID!, $at: DateTime!) { scheduleCampaign(input: { campaignId: $id, at: $at }) { run { id } } }";
                world
                    .ask(query, json!({ "id": plan.campaign, "at": format!("2027-01-0{}T00:00:00Z", 1 + i % 2) }))
                    .await;
            }
            _ => {
                let query = "mutation($id: ID!) { testRunCampaign(input: { campaignId: $id, sample: 1, name: \"Trial\" }) { run { id } } }";
                world.ask(query, json!({ "id": plan.campaign })).await;
            }
        }
    }
    plan.campaign
}

both! {
    async fn walking_either_way_gives_the_list(kind) {
        let world = World::without_server(kind, None).await;
        runs(&world).await;
        let fields = ["CREATED_AT", "CAMPAIGN", "CHANNEL", "STATUS", "TYPE", "SCHEDULED_FOR", "STARTED_AT"];
        let strategy = (0..fields.len(), any::<bool>(), 1i32..5, any::<bool>(), any::<bool>());
        let mut runner = TestRunner::deterministic();
        for _ in 0..40 {
            let (field, descending, size, back, filtered) = strategy.new_tree(&mut runner).unwrap().current();
            let by = json!({ "field": fields[field], "direction": if descending { "DESC" } else { "ASC" } });
            let filter = if filtered { json!({ "not": { "types": ["TEST_RUN"] } }) } else { Value::Null };
            let whole = ids(&world.ask(LIST, json!({ "filter": filter, "by": by, "first": 500 })).await);
            assert_eq!(whole.len(), if filtered { 6 } else { 9 });
            let mut walked: Vec<String> = Vec::new();
            let mut cursor = Value::Null;
            loop {
                let window = if back {
                    json!({ "filter": filter, "by": by, "last": size, "before": cursor })
                } else {
                    json!({ "filter": filter, "by": by, "first": size, "after": cursor })
                };
                let data = world.ask(LIST, window).await;
                let info = &data["runs"]["pageInfo"];
                let page = ids(&data);
                assert!(page.len() <= size as usize);
                if back {
                    walked.splice(0..0, page);
                } else {
                    walked.extend(page);
                }
                let (more, next) = if back { ("hasPreviousPage", "startCursor") } else { ("hasNextPage", "endCursor") };
                if info[more] != true {
                    break;
                }
                cursor = info[next].clone();
            }
            assert_eq!(walked, whole, "{by} {size} back: {back} filtered: {filtered}");
        }
        world.drop_unchecked().await;
    }
}

both! {
    async fn orders_counts_and_refusals(kind) {
        let world = World::without_server(kind, None).await;
        let campaign = runs(&world).await;
        let sorted = "query($by: RunOrder!) { runs(orderBy: $by) { nodes { scheduledFor status type } } }";
        let by = |field: &str, direction: &str| json!({ "by": { "field": field, "direction": direction } });
        for direction in ["ASC", "DESC"] {
            let data = world.ask(sorted, by("SCHEDULED_FOR", direction)).await;
            let times: Vec<&Value> = data["runs"]["nodes"].as_array().unwrap().iter().map(|node| &node["scheduledFor"]).collect();
            assert!(times[..3].iter().all(|at| at.is_string()) && times[3..].iter().all(|at| at.is_null()), "nulls come last: {times:?}");
assert_eq!(times[0].as_str() < times[2].as_str(), direction == "ASC", "{times:?}");
        }
        let counts = "query($filter: RunFilter) { runs(filter: $filter, first: 1) { totalCount countsByStatus { status count } nodes { id } } }";
        let data = world.ask(counts, json!({ "filter": { "campaignIds": [campaign], "search": "OUTREACH" } })).await;
        assert_eq!(data["runs"]["totalCount"], 9);
        let count = |status: &str| data["runs"]["countsByStatus"].as_array().unwrap().iter().find(|of| of["status"] == status).unwrap()["count"].clone();
        assert_eq!((count("QUEUED"), count("SCHEDULED"), count("FAILED")), (json!(6), json!(3), json!(0)));
        for (filter, total) in [
            (json!({ "types": ["TEST_RUN"] }), 3),
            (json!({ "search": "trial" }), 3),
            (json!({ "search": "t_ial" }), 0),
            (json!({ "search": "%" }), 0),
            (json!({ "scheduledFor": { "from": "2027-01-02T00:00:00Z" } }), 2),
            (json!({ "or": [{ "types": ["RUN"] }, { "statuses": ["SCHEDULED"] }] }), 6),
            (json!({ "channels": ["PHONE"] }), 0),
            (json!({ "createdAt": { "to": "2026-11-02T12:00:00Z" } }), 0),
        ] {
            assert_eq!(world.ask(counts, json!({ "filter": filter })).await["runs"]["totalCount"], total, "{filter}");
        }
        // A cursor of another order or filter, contradictory arguments, and too large pages are
        // rejected.
        let cursor = world.ask(LIST, json!({ "first": 2 })).await["runs"]["pageInfo"]["endCursor"].clone();
        for window in [
            json!({ "first": 2, "after": cursor, "by": { "field": "STATUS", "direction": "DESC" } }),
            json!({ "first": 2, "after": cursor, "filter": { "types": ["RUN"] } }),
            json!({ "first": 2, "after": "nonsense" }),
            json!({ "first": 2, "last": 2 }),
            json!({ "first": 501 }),
            json!({ "first": -1 }),
        ] {
            assert_eq!(world.refused(LIST, window.clone()).await.0, "BAD_USER_INPUT", "{window}");
        }
        world.drop_unchecked().await;
    }
}

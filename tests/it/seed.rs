//! Seeded rows: so many as were asked for, and the API reads them like any others.

use serde_json::json;
use sortie::seed::Size;

use crate::harness::World;

both! {
    async fn rows_to_measure_on(kind) {
        let world = World::still(kind, None).await;
        let size = Size { campaigns: 10, runs: 300, steps_per_run: 5 };
        let mut heard = Vec::new();
        sortie::seed::seed(&world.db, &world.viewer, size, |runs| heard.push(runs)).await.unwrap();
        assert_eq!(heard, [300]);
        let counts = world.ask("{ campaigns { totalCount } runs(first: 1) { totalCount countsByStatus { status count } } steps(first: 1) { totalCount } }", json!({})).await;
        assert_eq!((&counts["campaigns"]["totalCount"], &counts["runs"]["totalCount"], &counts["steps"]["totalCount"]), (&json!(11), &json!(300), &json!(1500)));
        assert!(counts["runs"]["countsByStatus"].as_array().unwrap().contains(&json!({ "status": "COMPLETED", "count": 270 })));
        assert_eq!(world.ask_all_events().await.iter().filter(|event| !event["runId"].is_null()).count(), 1500);
        // Every order, page by page, each run once.
        for field in ["CREATED_AT", "CAMPAIGN", "CHANNEL", "STATUS", "TYPE", "SCHEDULED_FOR", "STARTED_AT"] {
            let query = "query($o: RunOrder, $after: String) { runs(orderBy: $o, first: 100, after: $after) { nodes { id name campaign { name } } pageInfo { endCursor } } }";
            let (mut seen, mut after) = (std::collections::BTreeSet::new(), json!(null));
            for _ in 0..3 {
                let page = world.ask(query, json!({ "o": { "field": field, "direction": "DESC" }, "after": after })).await["runs"].clone();
                seen.extend(page["nodes"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()));
                after = page["pageInfo"]["endCursor"].clone();
            }
            assert_eq!(seen.len(), 300, "{field}");
        }
        let detail = "{ runs(first: 1, filter: { statuses: [COMPLETED] }) { nodes { name campaign { name } progress { fraction counts { completed } } phases { status tasks { key } } steps { nodes { status } } events { nodes { kind } } instructions { goal { name } } outcome } } }";
        let run = world.ask(detail, json!({})).await["runs"]["nodes"][0].clone();
        assert_eq!((&run["progress"]["fraction"], &run["progress"]["counts"]["completed"]), (&json!(1.0), &json!(5)), "{run:#}");
        assert_eq!((run["steps"]["nodes"].as_array().unwrap().len(), run["events"]["nodes"].as_array().unwrap().len()), (5, 5));
        let refused = sortie::seed::seed(&world.db, &world.viewer, size, |_| {}).await.unwrap_err();
        assert!(refused.to_string().contains("seed an empty database"));
        // The log of these rows is not whole, and so does not hold.
        world.drop_unchecked().await;
    }
}

//! Seeded rows: exactly the requested number, readable through the API like any others.

use serde_json::json;
use sortie::app::seed::Size;

use crate::harness::World;

both! {
    async fn rows_to_measure_on(kind) {
        let world = World::without_server(kind, None).await;
        let size = Size { campaigns: 10, runs: 300, steps_per_run: 5 };
        let mut heard = Vec::new();
        sortie::app::seed::seed(&world.db, &world.viewer, size, |runs| heard.push(runs)).await.unwrap();
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
        let refused = sortie::app::seed::seed(&world.db, &world.viewer, size, |_| {}).await.unwrap_err();
        assert!(refused.to_string().contains("seed an empty database"));
        // Seeded rows have no complete log, so the log's invariants do not hold for them.
        world.drop_unchecked().await;
    }
}

both! {
    async fn only_an_empty_org_is_seeded(kind) {
        let size = Size { campaigns: 1, runs: 1, steps_per_run: 1 };
        for (create, noun) in [
            ("mutation { createRecord(input: { kind: \"lead\", name: \"L\" }) { record { id } } }", "records"),
            ("mutation { createGoal(input: { name: \"G\" }) { goal { id } } }", "goals"),
            ("mutation { createApiKey(input: { name: \"k\", role: ADMIN }) { apiKey { id } } }", "keys"),
        ] {
            let world = World::without_server(kind, None).await;
            world.ask(create, json!({})).await;
            let refused = sortie::app::seed::seed(&world.db, &world.viewer, size, |_| {}).await.unwrap_err().to_string();
            assert!(refused.contains(noun) && refused.contains("seed an empty database"), "{refused}");
            assert_eq!(world.number("SELECT COUNT(*) FROM run").await, 0);
            world.drop_unchecked().await;
        }
    }
}

both! {
    /// Every order of the runs list, in both directions, from the front, the back and a cursor, is served by an index: nothing is
    /// sorted, and nothing before the cursor is read.
    async fn every_order_has_its_index(kind) {
        use sea_orm::{ConnectionTrait, TransactionTrait};
        use sortie::kernel::page::Args;
        use sortie::domain::run::list::{SortBy, RunFilter, plan, window};

        let world = World::without_server(kind, None).await;
        let size = Size { campaigns: 10, runs: 3_000, steps_per_run: 1 };
        sortie::app::seed::seed(&world.db, &world.viewer, size, |_| {}).await.unwrap();
        let tx = world.db.read().connection().begin().await.unwrap();
        if kind == crate::harness::Kind::Postgres {
            // The planner would read a few thousand rows as a whole and sort them, unless that is
            // disabled.
            tx.execute_unprepared("SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off").await.unwrap();
        }
        let filter = RunFilter::default();
        for by in [SortBy::CreatedAt, SortBy::Campaign, SortBy::Channel, SortBy::Status, SortBy::Type, SortBy::ScheduledFor, SortBy::StartedAt] {
            for descending in [false, true] {
                let first = window(&world.db, &world.viewer, &filter, by, descending, Args { first: Some(500), ..Args::default() }).unwrap();
                let first = first.read(world.db.read()).await.unwrap();
                let cursor = async_graphql::connection::CursorType::encode_cursor(&first.rows.last().unwrap().0);
                for args in [
                    Args { first: Some(50), ..Args::default() },
                    Args { last: Some(50), ..Args::default() },
                    Args { first: Some(50), after: Some(cursor.clone()), ..Args::default() },
                    Args { last: Some(50), before: Some(cursor.clone()), ..Args::default() },
                ] {
                    let plan = plan(&tx, &world.viewer, &filter, by, descending, &args).await.unwrap();
                    let sorts = plan.contains("Sort") || plan.contains("TEMP B-TREE");
                    let indexed = match kind {
                        crate::harness::Kind::Postgres => plan.contains("Index Scan") && (args.after.is_none() || plan.lines().any(|line| line.contains("Index Cond") && line.contains("ROW("))),
                        // `(org_id=? AND …>?)`: the scan starts at the cursor.
                        crate::harness::Kind::Sqlite => plan.contains("SEARCH run USING INDEX") && (args.after.is_none() || plan.contains(" AND ")),
                    };
                    assert!(!sorts && indexed, "{by:?} {descending} {args:?}: {plan}");
                }
            }
        }
        tx.rollback().await.unwrap();
        world.drop_unchecked().await;
    }
}

//! Introspection responses are produced off the async threads.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use super::documents::whole_schema;
use crate::harness::World;

both! {
    /// The largest allowed introspection query, eight times at once.
    async fn the_schema_holds_no_async_thread(kind) {
        let world = World::with_auth(kind).await;
        let (_, other) = world.tenant("other").await;
        let whole = format!("{{ {} {} }}", whole_schema("a: "), whole_schema("b: "));
        let all = join_all((0..8).map(|_| world.post(&whole, json!({}))));
        let mut all = Box::pin(all);
        let (begun, mut small, mut health, mut asked) = (Instant::now(), Duration::ZERO, Duration::ZERO, 0);
        let answers = loop {
            let since = Instant::now();
            let beside = async {
                assert_eq!(world.post_as(&other, "{ viewer { role } }", json!({})).await.0, 200);
                let query = since.elapsed();
                assert_eq!(world.status("/healthz").await, 200);
                (query, since.elapsed() - query)
            };
            tokio::select! {
                answers = &mut all => break answers,
                (query, alive) = beside => {
                    (small, health, asked) = (small.max(query), health.max(alive), asked + 1);
                }
            }
        };
        println!("eight times the schema in {:?}; {asked} small queries beside it: {small:?} at most, /healthz {health:?}", begun.elapsed());
        drop(all);
        for answer in answers {
            assert!(answer["data"]["a"]["types"].is_array(), "{:.300}", answer.to_string());
        }
        assert!(small < Duration::from_secs(1) && health < Duration::from_secs(1), "{small:?} {health:?}");
        world.end().await;
    }
}

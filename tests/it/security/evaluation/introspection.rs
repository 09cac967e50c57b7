//! Introspection responses are produced off the async threads.

use std::time::{Duration, Instant};

use entity::member::Role;
use futures_util::future::join_all;
use serde_json::json;
use sortie::kernel::limits;

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

both! {
    async fn one_keys_introspection_holds_up_no_other_org(kind) {
        let world = World::with_auth(kind).await;
        let (_, other) = world.tenant("other").await;
        let key = world.key(Role::Viewer).await;
        // Each is different, so that none is answered from the cache.
        let many: Vec<String> = (0..40).map(|i| format!("{{ __schema {{ types {{ name fields {{ name args {{ name }} }} }} }} }} # {i}")).collect();
        let mut many = Box::pin(join_all(many.iter().map(|query| world.post_as(&key, query, json!({})))));
        let (mut most, mut asked) = (Duration::ZERO, 0);
        let answers = loop {
            let small = async {
                let begun = Instant::now();
                let (status, told) = world.post_as(&other, "{ __type(name: \"Run\") { name } }", json!({})).await;
                assert_eq!((status, &told["data"]["__type"]["name"]), (200, &json!("Run")), "{told}");
                begun.elapsed()
            };
            tokio::select! {
                answers = &mut many => break answers,
                time = small => (most, asked) = (most.max(time), asked + 1),
            }
        };
        drop(many);
        assert!(most < Duration::from_secs(2), "{asked} small queries took {most:?} at most");
        let refused: Vec<_> = answers.iter().filter(|(status, _)| *status != 200).collect();
        assert!(refused.len() <= 40 - limits::INTROSPECTIONS_OF_KEY, "{} were refused", refused.len());
        for (status, told) in refused {
            let extensions = &told["errors"][0]["extensions"];
            assert_eq!((*status, &extensions["code"]), (429, &json!("LIMIT_EXCEEDED")), "{told:.300}");
            assert!(extensions["retryAfterSeconds"].is_u64(), "{told:.300}");
        }
        world.end().await;
    }
}

both! {
    async fn a_response_of_the_schema_is_kept_for_its_document_and_variables(kind) {
        let world = World::with_auth(kind).await;
        let (_, other) = world.tenant("other").await;
        let part = "name description fields { name description type { name } args { name description type { name } } }";
        let query = format!("query One($name: String!) {{ __type(name: $name) {{ {part} }} }}");
        let first = world.post_as(&other, &query, json!({ "name": "Run" })).await;
        for _ in 0..3 {
            assert_eq!(world.post_as(&other, &query, json!({ "name": "Run" })).await, first);
            let campaign = world.post_as(&other, &query, json!({ "name": "Campaign" })).await.1;
            assert_eq!(campaign["data"]["__type"]["name"], "Campaign");
            // What has more than the schema is not kept.
            let more = format!("{{ __type(name: \"Run\") {{ {part} }} viewer {{ role }} }}");
            let role = world.post_as(&other, &more, json!({})).await.1["data"]["viewer"]["role"].clone();
            let admin = world.ask(&more, json!({})).await["viewer"]["role"].clone();
            assert!(role.is_string() && admin == "ADMIN", "{role} {admin}");
        }
        // Errors are not kept, nor is their absence.
        let wrong = world.post_as(&other, &query, json!({})).await.1;
        assert!(wrong["errors"].is_array(), "{wrong:.300}");
        world.end().await;
    }
}

//! Cron patterns that occur rarely cost little, and their previews add up.

use std::time::{Duration, Instant};

use entity::schedule::{FoldPolicy, GapPolicy};
use serde_json::json;
use sortie::domain::plan::schedule::Pattern;

use super::soon;
use crate::harness::World;

#[test]
fn a_rare_pattern_is_searched_by_kinds_of_months() {
    let first = "0001-01-01T00:00:00Z".parse().unwrap();
    for cron in ["0 0 29 2 +MON#5", "0 0 29 2 +SUN", "0 0 31 1-12 +MON#5", "0 0 29 2 *"] {
        let found = soon(cron, || {
            (0..10)
                .map(|_| {
                    Pattern::parse(cron, "Europe/Berlin", GapPolicy::Shift, FoldPolicy::Once).unwrap().take(first, 100)
                })
                .next_back()
        });
        assert!(!found.unwrap().is_empty(), "{cron}");
    }
    for never in ["0 0 1 * +MON#2", "0 0 30 2 *", "0 0 31 2,4,6,9,11 *"] {
        soon(never, || {
            for _ in 0..20 {
                assert!(Pattern::parse(never, "Europe/Berlin", GapPolicy::Shift, FoldPolicy::Once).is_err(), "{never}");
            }
        });
    }
}

both! {
    async fn previews_of_rare_patterns_hold_up_nobody(kind) {
        let world = World::with_auth(kind).await;
        let (_, other) = world.tenant("other").await;
        let times = |aliases: usize| {
            let one = |i| format!("a{i}: nextFireTimes(cron: \"0 0 29 2 +MON#5\", timezone: \"Europe/Berlin\", count: 100, after: \"0001-01-01T00:00:00Z\") {{ at localTime offsetMinutes note notes }} ");
            format!("{{ {} }}", (0..aliases).map(one).collect::<String>())
        };
        // Each counts by its times: fifty are too many for one request.
        let (_, told) = world.refused(&times(50), json!({})).await;
        assert!(told.contains("omplex"), "{told}");
        let all = world.ask(&times(25), json!({})).await;
        assert_eq!(all["a24"].as_array().unwrap().len(), 100);
        assert_eq!(all["a0"], all["a24"]);
        let asked = times(25);
        let mut many = Box::pin(futures_util::future::join_all((0..2).map(|_| world.post(&asked, json!({})))));
        let mut most = Duration::ZERO;
        let answers = loop {
            let small = async {
                let begun = Instant::now();
                assert_eq!(world.post_as(&other, "{ viewer { role } }", json!({})).await.0, 200);
                assert_eq!(world.status("/healthz").await, 200);
                begun.elapsed()
            };
            tokio::select! {
                answers = &mut many => break answers,
                time = small => most = most.max(time),
            }
        };
        drop(many);
        assert!(answers.iter().all(|answer| answer.get("errors").is_none()) && most < Duration::from_secs(2), "{most:?}");
        world.end().await;
    }
}

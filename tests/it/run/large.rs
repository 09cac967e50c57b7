//! A large audience: launched, followed, paged through, cancelled halfway; then run to its end.
//! Memory stays flat, pages stay quick, nothing is reserved after the response to the cancel, and
//! the invariants hold.
//!
//! `SORTIE_LARGE` is the number of leads (default 1,500), `SORTIE_BIN` another binary, such as a
//! release build; the figures are printed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::life::{Home, Life};
use crate::harness::socket::{Came, Socket};

const RUN: &str = "query($id: ID!) { run(id: $id) { status audienceCount progress { counts { total pending queued inProgress awaitingApproval completed skipped failed } } } }";

/// Subscribes to the whole log from its beginning and asserts that it has no gap.
fn follow(address: std::net::SocketAddr, seen: Arc<AtomicI64>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut socket = Socket::open(address).await;
        let feed = "subscription($after: String) { events(after: $after) { cursor kind } }";
        socket.subscribe("log", feed, json!({ "after": crate::harness::cursor::at(0) })).await;
        loop {
            let Came::Message(message) = socket.came().await else { return };
            let cursor = message["payload"]["data"]["events"]["cursor"].as_str().unwrap();
            let position = crate::harness::cursor::position(cursor);
            assert_eq!(position, seen.load(Ordering::Relaxed) + 1, "a gap in the feed");
            seen.store(position, Ordering::Relaxed);
        }
    })
}

/// Reads pages of runs and steps as fast as possible; returns the time of each.
fn page(life: &Arc<Life>, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<Vec<Duration>> {
    let (life, stop) = (life.clone(), stop.clone());
    tokio::spawn(async move {
        let query = "query($after: String) { runs(first: 20) { nodes { name status campaign { name } } } steps(first: 50, after: $after) { nodes { key status } pageInfo { endCursor hasNextPage } } }";
        let (mut after, mut took) = (Value::Null, Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let data = life.ask(query, json!({ "after": after })).await.unwrap();
            took.push(begun.elapsed());
            let info = &data["steps"]["pageInfo"];
            after = if info["hasNextPage"] == true { info["endCursor"].clone() } else { Value::Null };
        }
        took.sort();
        took
    })
}

fn of(took: &[Duration], percent: usize) -> Duration {
    took[(took.len() - 1) * percent / 100]
}

both! {
    async fn flies_and_is_cancelled(kind) {
        let leads: usize = std::env::var("SORTIE_LARGE").ok().and_then(|said| said.parse().ok()).unwrap_or(1_500);
        let home = Home::new(kind).await.with("SORTIE_LEASE_SECONDS", "60");
        home.import(leads);
        let life = Arc::new(home.begin());
        let (seen, stop) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
        let follower = follow(life.address, seen.clone());
        let pages = page(&life, &stop);
        let campaign = life.campaign().await;
        let before = life.memory();

        // Cancelled while drafting, with its audience loaded and its steps created: nothing starts
        // after the response.
        let launched = Instant::now();
        let run = life.launch(&campaign, "cancelled").await.unwrap();
        let at = |counts: &Value, key: &str| counts[key].as_i64().unwrap();
        let mut most = before;
        let (mut drafted, mut cancelled) = (None, None);
        loop {
            let now = life.ask(RUN, json!({ "id": run })).await.unwrap()["run"].clone();
            let counts = &now["progress"]["counts"];
            most = most.max(life.memory());
            if cancelled.is_none() && at(counts, "completed") as usize > leads / 3 {
                drafted = Some(launched.elapsed());
                let begun = Instant::now();
                let answer = life.ask("mutation($id: ID!) { cancelRun(input: { id: $id, reason: \"wrong list\" }) { run { status } } }", json!({ "id": run })).await.unwrap();
                cancelled = Some(begun.elapsed());
                assert_eq!(answer["cancelRun"]["run"]["status"], "CANCELLED");
            }
            let open: i64 = ["pending", "queued", "inProgress", "awaitingApproval"].iter().map(|key| at(counts, key)).sum();
            if cancelled.is_some() && open == 0 {
                break;
            }
            assert!(launched.elapsed() < Duration::from_secs(1_800), "{now:#}");
        }
        let swept = launched.elapsed();

        // Cancelled while sending; and once more, with everybody unsubscribing while it sends:
        // nothing is reserved after the response, and the run ends.
        let mut sent = Vec::new();
        for (key, mutation) in [
            ("sending", "mutation($id: ID!) { cancelRun(input: { id: $id }) { run { status } } }"),
            ("unsubscribed", "mutation { unsubscribeRecords(input: { filter: { all: true } }) { count } }"),
        ] {
            let launched = Instant::now();
            let run = life.launch(&campaign, key).await.unwrap();
            loop {
                life.push(&run).await;
                let now = life.ask(RUN, json!({ "id": run })).await.unwrap()["run"].clone();
                most = most.max(life.memory());
                if at(&now["progress"]["counts"], "completed") as usize > leads + leads / 4 {
                    break;
                }
                assert!(launched.elapsed() < Duration::from_secs(1_800), "{now:#}");
            }
            let (quarter, begun) = (launched.elapsed(), Instant::now());
            life.ask(mutation, json!({ "id": run })).await.unwrap();
            let answered = begun.elapsed();
            let now = sortie::kernel::clock::Clock::real().now().to_rfc3339();
            sent.push((key, quarter, answered));
            let deadline = Instant::now() + Duration::from_secs(1_800);
            let busy = "SELECT (SELECT COUNT(*) FROM sweep) + (SELECT COUNT(*) FROM step WHERE lease_owner IS NOT NULL)";
            while home.count(busy).await > 0 || (key == "unsubscribed" && life.push(&run).await.as_deref() != Some("COMPLETED")) {
                most = most.max(life.memory());
                assert!(Instant::now() < deadline, "the sweep after {key} did not end");
            }
            let late = home.count(&format!("SELECT COUNT(*) FROM communication WHERE reserved_at > '{now}'")).await;
            assert_eq!(late, 0, "reserved after the answer of {key}");
        }
        let deadline = Instant::now() + Duration::from_secs(600);
        // The subscriber has received the whole log, and the pages were read meanwhile.
        let wanted = home.count("SELECT MAX(position) FROM event").await;
        while seen.load(Ordering::Relaxed) < wanted {
            assert!(Instant::now() < deadline && !follower.is_finished(), "the follower is at {seen:?} of {wanted}");
            tokio::task::yield_now().await;
        }
        stop.store(true, Ordering::Relaxed);
        let took = pages.await.unwrap();
        let after = life.memory();
        println!(
            "{kind:?}, {leads} leads: a third drafted after {drafted:?}, cancel answered in {cancelled:?}, swept after {swept:?}; \
             a quarter sent after, and cancelled or unsubscribed in: {sent:?}; {wanted} events followed; \
             {} pages, p50 {:?}, p99 {:?}; memory {before} KiB before, {most} at most, {after} after",
            took.len(), of(&took, 50), of(&took, 99),
        );
        // Memory grows by a few chunks at most, however large the audience.
        assert!(most < before + 120 * 1024, "memory grew from {before} to {most} KiB");
        follower.abort();
        let Ok(life) = Arc::try_unwrap(life) else { panic!("still shared") };
        life.kill();
        home.check();
        home.remove();
    }
}

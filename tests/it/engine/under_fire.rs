//! Subscriptions under load: readers that connect and disconnect at random under concurrent
//! writers, across kills of the server; readers that stop reading; streams that share a socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::harness::World;
use crate::harness::life::Home;
use crate::harness::socket::{Came, Socket};

const FEED: &str = "subscription($after: String) { events(after: $after) { cursor } }";

/// Creates records as fast as possible until it is stopped.
fn write(world: &Arc<World>, stop: &Arc<AtomicBool>, writer: usize) -> tokio::task::JoinHandle<()> {
    let (world, stop) = (world.clone(), stop.clone());
    tokio::spawn(async move {
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let input = json!({ "kind": "lead", "externalId": format!("{writer}-{number}"), "name": "L" });
            world.create("record", input).await;
        }
    })
}

both! {
    async fn a_thousand_readers_that_come_and_go(kind) {
        const READERS: u64 = 4;
        const EACH: usize = 250;
        let world = Arc::new(World::new(kind).await);
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..3).map(|writer| write(&world, &stop, writer)).collect();
        let mut readers = tokio::task::JoinSet::new();
        for reader in 0..READERS {
            let address = world.address;
            readers.spawn(async move {
                let mut random = StdRng::seed_from_u64(reader);
                // Start cursor of each connection, and the events it received.
                let mut seen: Vec<(i64, Vec<i64>)> = Vec::new();
                let mut newest = 0;
                for _ in 0..EACH {
                    // Mostly near the end, where catching up meets live events.
                    let after = if random.random_bool(0.7) { newest } else { random.random_range(0..=newest) };
                    let mut socket = Socket::open(address).await;
                    socket.subscribe("log", FEED, json!({ "after": crate::harness::cursor::at(after) })).await;
                    let mut mine = Vec::new();
                    for _ in 0..random.random_range(1..12) {
                        let cursor = socket.next().await["events"]["cursor"].as_str().unwrap().to_owned();
                        mine.push(crate::harness::cursor::position(&cursor));
                    }
                    newest = newest.max(*mine.last().unwrap());
                    seen.push((after, mine));
                }
                seen
            });
        }
        let mut connections = 0;
        while let Some(seen) = readers.join_next().await {
            for (after, mine) in seen.unwrap() {
                connections += 1;
                // Exactly the log: it is gapless, so each position is the previous one plus one.
                let wanted: Vec<i64> = (after + 1..).take(mine.len()).collect();
                assert_eq!(mine, wanted, "after {after}");
            }
        }
        assert_eq!(connections, 1_000);
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
        let Ok(world) = Arc::try_unwrap(world) else { panic!("still shared") };
        world.end().await;
    }
}

both! {
    async fn a_reader_that_outlives_the_server(kind) {
        let home = Home::new(kind).await;
        home.import(200);
        let mut life = home.begin();
        let campaign = life.campaign().await;
        let mut seen: Vec<i64> = Vec::new();
        let mut random = StdRng::seed_from_u64(7);
        for round in 0..6 {
            let run = life.launch(&campaign, &format!("run-{round}")).await.unwrap();
            let mut socket = Socket::open(life.address).await;
            let after = crate::harness::cursor::at(seen.last().copied().unwrap_or(0));
            socket.subscribe("log", FEED, json!({ "after": after })).await;
            // After a number of events the server is killed; events in flight may still arrive.
            let until = seen.len() + random.random_range(50..400);
            let mut pushed = 0;
            while seen.len() < until {
                if seen.len() / 20 > pushed {
                    pushed = seen.len() / 20;
                    life.push(&run).await;
                }
                let cursor = socket.next().await["events"]["cursor"].as_str().unwrap().to_owned();
                seen.push(crate::harness::cursor::position(&cursor));
            }
            life.kill();
            while let Came::Message(message) = socket.came().await {
                let cursor = message["payload"]["data"]["events"]["cursor"].as_str().unwrap();
                seen.push(crate::harness::cursor::position(cursor));
            }
            life = home.begin();
        }
        let wanted: Vec<i64> = (1..).take(seen.len()).collect();
        assert_eq!(seen, wanted, "not the log, once each, in order");
        life.kill();
        home.check();
        home.remove();
    }
}

/// Subscription with a large payload per event, for a slow reader.
fn heavy() -> String {
    let many: Vec<String> = (0..60).map(|i| format!("p{i}: payload k{i}: kind")).collect();
    format!("subscription($after: String) {{ events(after: $after) {{ cursor {} }} }}", many.join(" "))
}

both! {
    async fn a_reader_that_stops_reading_is_told_where_to_resume(kind) {
        let world = World::new(kind).await;
        let mut log = 0;
        while log < 3_000 {
            for _ in 0..100 {
                let input = json!({ "kind": "ticket", "name": "a name that is as long as names may well be, and a little longer than that" });
                world.create("record", input).await;
            }
            log += 100;
        }
        let mut slow = Socket::open(world.address).await;
        slow.subscribe("slow", &heavy(), json!({ "after": crate::harness::cursor::at(0) })).await;
        // The slow client does not read; others are served meanwhile.
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut other = Socket::open(world.address).await;
        let (mut asked, mut followed) = (0, false);
        // Waits until the server has dropped the client: it no longer follows the log.
        while !followed || world.db.followers() > 0 {
            followed |= world.db.followers() > 0;
            assert!(Instant::now() < deadline, "a reader that does not read is kept");
            other.subscribe(&format!("q{asked}"), "{ viewer { role } }", json!({})).await;
            assert_eq!(other.next().await["viewer"]["role"], "ADMIN");
            assert_eq!(other.message().await["type"], "complete");
            asked += 1;
        }
        // Events in flight arrive; then the client is told that it was too slow, and from which
        // cursor to resume.
        let mut seen: Vec<i64> = Vec::new();
        let told = loop {
            let message = slow.message().await;
            if message["type"] == "error" {
                break message["payload"][0].clone();
            }
            let cursor = message["payload"]["data"]["events"]["cursor"].as_str().unwrap();
            seen.push(crate::harness::cursor::position(cursor));
        };
        assert_eq!(told["extensions"]["code"], "LIMIT_EXCEEDED", "{told}");
        let resume = told["extensions"]["cursor"].clone();
        assert_eq!(crate::harness::cursor::position(resume.as_str().unwrap()), *seen.last().unwrap());
        slow.subscribe("again", FEED, json!({ "after": resume })).await;
        while seen.len() < 3_000 {
            let cursor = slow.next().await["events"]["cursor"].as_str().unwrap().to_owned();
            seen.push(crate::harness::cursor::position(&cursor));
        }
        let wanted: Vec<i64> = (1..).take(seen.len()).collect();
        assert_eq!(seen, wanted);
        world.end().await;
    }
}

both! {
    async fn a_busy_stream_starves_no_other(kind) {
        let world = World::new(kind).await;
        const LOG: usize = 2_000;
        let fields = sortie::domain::audience::record::Fields { kind: Some("lead".into()), name: Some("L".into()), ..Default::default() };
        for _ in 0..LOG {
            sortie::domain::audience::record::create(&world.db.write(), &world.viewer, &fields).await.unwrap();
        }
        let mut socket = Socket::open(world.address).await;
        for stream in 0..8 {
            socket.subscribe(&stream.to_string(), FEED, json!({ "after": crate::harness::cursor::at(0) })).await;
        }
        let mut counts = [0_usize; 8];
        let mut begun = None;
        while counts.iter().all(|count| *count < LOG) {
            let message: Value = socket.message().await;
            let stream: usize = message["id"].as_str().unwrap().parse().unwrap();
            counts[stream] += 1;
            // Each starts with a read of its own; once all have started, each gets its share.
            if begun.is_none() && counts.iter().all(|count| *count > 0) {
                begun = Some(counts);
            }
        }
        let begun = begun.unwrap_or_else(|| panic!("some never began: {counts:?}"));
        let since: Vec<usize> = counts.iter().zip(begun).map(|(count, begun)| count - begun).collect();
        let most = *since.iter().max().unwrap();
        // If the others started late, as on a busy machine, too little is left to compare.
        assert!(most < LOG / 4 || since.iter().all(|count| *count >= most / 4), "{since:?}");
        world.end().await;
    }
}

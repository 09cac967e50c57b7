//! Fan-out of live updates: one status change of a run to many subscribers, with and without the
//! names of the run and its campaign.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::Size;
use crate::client::{Client, percentile};
use crate::server::Server;
use crate::socket::{frame, pong, subscribe};

/// Events received by all subscribers together.
#[derive(Default)]
struct Buffer {
    count: AtomicU64,
    /// Number of subscribers that have received at least one event.
    there: AtomicU64,
    /// Latencies from the change's timestamp to its arrival; empty unless they are measured.
    late: Mutex<Vec<Duration>>,
}

pub async fn live(server: &Server, size: Size) {
    println!(
        "| subscribers | names | deliveries per second | p50, p99 at 5 events/s | KiB each | CPU s per 1,000,000 deliveries |\n|---|---|---|---|---|---|"
    );
    let mut runs = Vec::new();
    for _ in 0..8 {
        let campaign = server.campaign("PHONE", 1).await;
        let run = server.launch(&campaign).await;
        server.until(&run, "", |now| now["status"] == "IN_PROGRESS").await;
        runs.push(run);
    }
    for crowd in size.crowds {
        for names in [false, true] {
            crowd_of(server, size, &runs, *crowd, names).await;
        }
    }
    println!();
}

async fn crowd_of(server: &Server, size: Size, runs: &[String], crowd: usize, names: bool) {
    let selection = if names { "cursor to at run { name campaign { name } }" } else { "cursor to at runId" };
    let query = format!("subscription {{ runStatusChanged {{ {selection} }} }}");
    let [before, _] = server.memory();
    let heard = Arc::new(Buffer::default());
    let mut readers = tokio::task::JoinSet::new();
    let begun = Arc::new(AtomicU64::new(0));
    for i in 0..crowd {
        let stream = subscribe(server, &query, i).await;
        readers.spawn(read(stream, heard.clone(), begun.clone()));
    }
    let mut wanted = all_there(server, runs, &heard, crowd as u64).await;
    let [there, _] = server.memory();

    let (at, cpu) = (Instant::now(), server.cpu());
    let mut writers = tokio::task::JoinSet::new();
    for mine in runs.chunks(2) {
        let (mine, address) = (mine.to_vec(), server.address);
        let count = size.burst / runs.chunks(2).len();
        writers.spawn(async move { publish_at(address, &mine, count).await });
    }
    let told: usize = writers.join_all().await.into_iter().sum();
    wanted += (told * crowd) as u64;
    until(&heard, wanted).await;
    let (took, cpu) = (at.elapsed(), server.cpu().since(cpu));
    let deliveries = (told * crowd) as f64;

    begun.store(1, Ordering::Relaxed);
    for _ in 0..size.paced {
        publish(server, runs, 1).await;
        wanted += crowd as u64;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    until(&heard, wanted).await;
    let mut late = std::mem::take(&mut *heard.late.lock().await);
    late.sort();
    println!(
        "| {crowd} | {} | {:.0} | {:.1} ms, {:.1} ms | {:.1} | {:.1} |",
        if names { "run's and campaign's" } else { "none" },
        deliveries / took.as_secs_f64(),
        percentile(&late, 50),
        percentile(&late, 99),
        there.saturating_sub(before) as f64 / crowd as f64,
        cpu.server * 1e6 / deliveries,
    );
    readers.shutdown().await;
    // Waits until the server has noticed the disconnects, before the next subscribers come.
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// Publishes changes until each subscriber has received one, because the protocol does not confirm
/// a subscription. Returns the number of items received once all is quiet again.
async fn all_there(server: &Server, runs: &[String], heard: &Buffer, crowd: u64) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(120);
    while heard.there.load(Ordering::Relaxed) < crowd {
        assert!(Instant::now() < deadline, "{} of {crowd} heard", heard.there.load(Ordering::Relaxed));
        publish(server, runs, 1).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    loop {
        let before = heard.count.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(500)).await;
        if heard.count.load(Ordering::Relaxed) == before {
            return before;
        }
    }
}

async fn until(heard: &Buffer, wanted: u64) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while heard.count.load(Ordering::Relaxed) < wanted {
        assert!(Instant::now() < deadline, "{} of {wanted} came", heard.count.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(heard.count.load(Ordering::Relaxed), wanted);
}

async fn publish(server: &Server, runs: &[String], count: usize) {
    publish_at(server.address, &runs[..1], count).await;
}

/// Makes `count` changes (pauses and resumes) and returns their number.
async fn publish_at(address: std::net::SocketAddr, runs: &[String], count: usize) -> usize {
    let mut client = Client::connect(address).await;
    for i in 0..count {
        let run = &runs[i / 2 % runs.len()];
        let status = client.ask("query($id: ID!) { run(id: $id) { status } }", json!({ "id": run })).await;
        let verb = if status["run"]["status"] == "PAUSED" { "resumeRun" } else { "pauseRun" };
        let query = format!("mutation($id: ID!) {{ {verb}(input: {{ id: $id }}) {{ run {{ status }} }} }}");
        client.ask(&query, json!({ "id": run })).await;
    }
    count
}

/// Counts the items that come.
async fn read(mut stream: TcpStream, heard: Arc<Buffer>, paced: Arc<AtomicU64>) {
    let mut buffer: Vec<u8> = Vec::with_capacity(1024);
    let mut new = true;
    while stream.read_buf(&mut buffer).await.is_ok_and(|count| count > 0) {
        let mut from = 0;
        while let Some((opcode, start, end)) = frame(&buffer[from..]) {
            let payload = &buffer[from + start..from + end];
            match opcode {
                1 if payload.windows(13).any(|word| word == br#""type":"next""#) => {
                    if paced.load(Ordering::Relaxed) == 1 {
                        let text = std::str::from_utf8(payload).unwrap();
                        let at = text.split_once(r#""at":""#).unwrap().1.split('"').next().unwrap();
                        let at: DateTime<Utc> = at.parse().unwrap();
                        // The server's clock is this machine's.
                        let now: DateTime<Utc> = std::time::SystemTime::now().into();
                        heard.late.lock().await.push((now - at).to_std().unwrap_or_default());
                    }
                    heard.count.fetch_add(1, Ordering::Relaxed);
                    if std::mem::take(&mut new) {
                        heard.there.fetch_add(1, Ordering::Relaxed);
                    }
                }
                1 => assert!(
                    payload.windows(14).any(|word| word == b"connection_ack"),
                    "{}",
                    String::from_utf8_lossy(payload)
                ),
                9 => pong(&mut stream, payload).await,
                _ => panic!("the server closed: {}", String::from_utf8_lossy(payload)),
            }
            from += end;
        }
        buffer.drain(..from);
    }
}

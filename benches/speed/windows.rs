//! Live windows: many clients hold the first fifty rows of twenty different lists over all runs,
//! while runs change. Beside it, the cost of clients that poll the same pages each second.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::Size;
use crate::client::{self, Client, percentile};
use crate::server::Server;
use crate::socket::{frame, pong, subscribe};

const ROWS: usize = 50;
/// Every nth client reads what it gets and notes the time of each change; the others count.
const READERS: usize = 20;
/// Number of lists that have a campaign of their own; as many are over all runs.
const CAMPAIGNS: usize = 10;
/// Number of runs that change, each of a campaign of its own.
const RUNS: usize = 40;
const RUNS_OF_SMALL: usize = 12;

/// Items that all clients received.
#[derive(Default)]
struct Got {
    items: AtomicU64,
    bytes: AtomicU64,
    /// Clients that have their SNAPSHOT.
    there: AtomicU64,
    /// Time of the request of each change, by the run's id and the revision that the change gave it.
    asked: Mutex<HashMap<(String, i64), Instant>>,
    /// Times from then to the arrival of the row, for the clients that read.
    late: Mutex<Vec<Duration>>,
}

pub async fn windows(server: &Server, size: Size) {
    let (mut campaigns, mut runs) = (Vec::new(), Vec::new());
    for _ in 0..if size.limits { RUNS } else { RUNS_OF_SMALL } {
        let campaign = server.campaign("PHONE", 1).await;
        let run = server.launch(&campaign).await;
        server.until(&run, "", |now| now["status"] == "IN_PROGRESS").await;
        runs.push(run);
        campaigns.push(campaign);
    }
    campaigns.truncate(CAMPAIGNS);
    let lists = lists(&campaigns);
    let got = Arc::new(Got::default());
    let [before, _] = server.memory();
    let mut clients = tokio::task::JoinSet::new();
    for i in 0..size.watchers {
        let stream = subscribe(server, &live(&lists[i % lists.len()]), i).await;
        // One client of each list.
        let reads = (i / lists.len()).is_multiple_of(READERS);
        clients.spawn(read(stream, got.clone(), reads));
    }
    let deadline = Instant::now() + Duration::from_secs(120);
    while got.there.load(Ordering::Relaxed) < size.watchers as u64 {
        assert!(Instant::now() < deadline, "{} snapshots", got.there.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let [there, _] = server.memory();
    // The first seconds fill caches and pools.
    change(server.address, &runs, size.rate, 2, &got).await;
    got.late.lock().await.clear();
    let (items, bytes) = (got.items.load(Ordering::Relaxed), got.bytes.load(Ordering::Relaxed));
    let (begun, cpu) = (Instant::now(), server.cpu());
    let changes = change(server.address, &runs, size.rate, size.seconds, &got).await;
    let (took, cpu) = (begun.elapsed().as_secs_f64(), server.cpu().since(cpu));
    let items = got.items.load(Ordering::Relaxed) - items;
    let bytes = got.bytes.load(Ordering::Relaxed) - bytes;
    let [_, peak] = server.memory();
    clients.shutdown().await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    // The changes alone, and the pages that clients would poll.
    let (alone_begun, alone) = (Instant::now(), server.cpu());
    change(server.address, &runs, size.rate, size.seconds.div_ceil(2), &got).await;
    let (alone_took, alone) = (alone_begun.elapsed().as_secs_f64(), server.cpu().since(alone));
    let bodies: Vec<_> = lists.iter().map(|list| client::body(&page(list), &json!({}))).collect();
    let chains = vec![bodies.iter().cycle().take(size.requests / 4).cloned().collect::<Vec<_>>(); 4];
    let polled = client::load(server, chains).await;

    let mut late = std::mem::take(&mut *got.late.lock().await);
    late.sort();
    let share = |seconds: Option<f64>, of: f64| seconds.map_or("in it".to_owned(), |s| format!("{:.2}", s / of));
    println!(
        "{} clients, {} lists of {ROWS} rows, {:.0} changes a second: {:.0} items and {:.1} MB a second; \
         from the request of a change to its row p50 {:.0} ms, p99 {:.0} ms ({} rows read); KiB of memory for each client {:.1}, peak {} MiB",
        size.watchers,
        lists.len(),
        changes as f64 / took,
        items as f64 / took,
        bytes as f64 / took / 1e6,
        percentile(&late, 50),
        percentile(&late, 99),
        late.len(),
        there.saturating_sub(before) as f64 / size.watchers as f64,
        peak / 1_024,
    );
    println!("\n| | cores of the server | cores of the database |\n|---|---|---|");
    println!("| changes and live lists | {:.2} | {} |", cpu.server / took, share(cpu.database, took));
    println!("| the changes alone | {:.2} | {} |", alone.server / alone_took, share(alone.database, alone_took));
    println!(
        "| {} queries a second in place of the lists ({:.0} a second were reached) | {:.2} | {} |\n",
        size.watchers,
        polled.per_second(),
        polled.cpu_of(polled.cpu.server) * size.watchers as f64 / 1_000.0,
        share(polled.cpu.database.map(|seconds| polled.cpu_of(seconds)), 1_000.0 / size.watchers as f64),
    );
}

/// The filter and order of each list: those of one campaign, and those over all runs.
fn lists(campaigns: &[String]) -> Vec<String> {
    let of_one = campaigns.iter().map(|id| {
        format!(
            "filter: {{ campaignIds: [\"{id}\"] }}, orderBy: {{ field: CREATED_AT, direction: DESC }}, first: {ROWS}"
        )
    });
    let over_all = [
        "orderBy: { field: SCHEDULED_FOR, direction: DESC },",
        "orderBy: { field: CREATED_AT, direction: DESC },",
        "orderBy: { field: STARTED_AT, direction: DESC },",
        "filter: { statuses: [IN_PROGRESS] },",
        "filter: { statuses: [PAUSED] },",
        "filter: { statuses: [PAUSED] }, orderBy: { field: STARTED_AT, direction: DESC },",
        "filter: { statuses: [QUEUED, IN_PROGRESS, PAUSED] },",
        "filter: { channels: [PHONE] },",
        "filter: { channels: [PHONE], statuses: [IN_PROGRESS] },",
        "filter: { statuses: [COMPLETED] },",
    ];
    of_one.chain(over_all.map(|list| format!("{list} first: {ROWS}"))).collect()
}

const FIELDS: &str = "id name status revision startedAt progress { fraction } campaign { name }";

fn live(list: &str) -> String {
    format!("subscription {{ runList({list}) {{ cursor kind nodes {{ {FIELDS} }} entered {{ node after }} left }} }}")
}

fn page(list: &str) -> String {
    format!("{{ runs({list}) {{ nodes {{ {FIELDS} }} }} }}")
}

/// Pauses and resumes runs at this rate over four connections. Returns the number of changes.
async fn change(address: SocketAddr, runs: &[String], rate: usize, seconds: usize, got: &Arc<Got>) -> usize {
    let mut writers = tokio::task::JoinSet::new();
    for mine in runs.chunks(runs.len() / 4) {
        let (mine, got) = (mine.to_vec(), got.clone());
        writers.spawn(async move {
            let mut client = Client::connect(address).await;
            let mut ticks = tokio::time::interval(Duration::from_secs(4) / rate as u32);
            // A pause, then a resume of each: an even number leaves all of them as they were.
            let count = (rate * seconds / 4).next_multiple_of(2 * mine.len());
            for i in 0..count {
                ticks.tick().await;
                let verb = if i / mine.len() % 2 == 0 { "pauseRun" } else { "resumeRun" };
                let query = format!("mutation($id: ID!) {{ {verb}(input: {{ id: $id }}) {{ run {{ revision }} }} }}");
                let (run, at) = (&mine[i % mine.len()], Instant::now());
                let answer = client.ask(&query, json!({ "id": run })).await;
                let revision = answer[verb]["run"]["revision"].as_i64().unwrap();
                got.asked.lock().await.insert((run.clone(), revision), at);
            }
            count
        });
    }
    writers.join_all().await.into_iter().sum()
}

/// Counts the items that come; a client that `reads` notes the time of each changed row.
async fn read(mut stream: TcpStream, got: Arc<Got>, reads: bool) {
    let mut buffer: Vec<u8> = Vec::with_capacity(1024);
    let mut known: HashMap<String, i64> = HashMap::new();
    let mut new = true;
    while stream.read_buf(&mut buffer).await.is_ok_and(|count| count > 0) {
        let mut from = 0;
        while let Some((opcode, start, end)) = frame(&buffer[from..]) {
            let payload = &buffer[from + start..from + end];
            if opcode == 1 && payload.windows(13).any(|word| word == br#""type":"next""#) {
                got.items.fetch_add(1, Ordering::Relaxed);
                got.bytes.fetch_add(payload.len() as u64, Ordering::Relaxed);
                if reads {
                    let item: Value = serde_json::from_slice(payload).unwrap();
                    note(&item["payload"]["data"]["runList"], &mut known, &got).await;
                }
                if std::mem::take(&mut new) {
                    got.there.fetch_add(1, Ordering::Relaxed);
                }
            } else if opcode == 9 {
                pong(&mut stream, payload).await;
            } else {
                assert!(opcode == 1, "the server closed: {}", String::from_utf8_lossy(payload));
                let ack = payload.windows(14).any(|word| word == b"connection_ack");
                assert!(ack, "{}", String::from_utf8_lossy(payload));
            }
            from += end;
        }
        buffer.drain(..from);
    }
}

async fn note(item: &Value, known: &mut HashMap<String, i64>, got: &Got) {
    let now = Instant::now();
    let nodes = item["nodes"].as_array().unwrap_or_else(|| panic!("{item:#}"));
    let (mut late, asked) = (Vec::new(), got.asked.lock().await);
    for node in nodes {
        let (id, revision) = (node["id"].as_str().unwrap().to_owned(), node["revision"].as_i64().unwrap());
        // Rows of a SNAPSHOT, and those that came in for another one, changed at any time before.
        if known.insert(id.clone(), revision).is_some_and(|before| before != revision) {
            late.extend(asked.get(&(id, revision)).map(|at| now.saturating_duration_since(*at)));
        }
    }
    drop(asked);
    got.late.lock().await.extend(late);
}

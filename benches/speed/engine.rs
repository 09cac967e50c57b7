//! The engine: built-in steps from claim to settle, and a launch over a large audience.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Size;
use crate::client::{Client, percentile};
use crate::server::Server;

const COUNTS: &str = "audienceCount phases { id key status tasks { key progress { awaitingApproval } } } progress { counts { total queued inProgress awaitingApproval completed } }";

pub async fn engine(server: &Server, size: Size) {
    println!(
        "| built-in steps, claim to settle | steps | seconds | steps per second | CPU s per 1,000 | database's CPU |\n|---|---|---|---|---|---|"
    );
    let campaign = server.campaign("EMAIL", size.records).await;
    let run = server.launch(&campaign).await;
    for (what, mut steps) in
        [("draft a message", size.records as u64), ("send it into the outbox", size.records as u64)]
    {
        // Measured from the time when all steps exist: the work, not their creation.
        let made = |now: &Value| at(now, "total") >= if what.starts_with("draft") { steps } else { 2 * steps };
        let now = server.until(&run, COUNTS, made).await;
        let before = at(&now, "completed");
        let (begun, cpu) = (Instant::now(), server.cpu());
        let reviewed = |now: &Value| now["phases"][0]["tasks"][1]["progress"]["awaitingApproval"] == 1;
        let now =
            server
                .until(&run, COUNTS, |now| {
                    if what.starts_with("draft") { reviewed(now) } else { now["status"] == "COMPLETED" }
                })
                .await;
        let (took, cpu) = (begun.elapsed().as_secs_f64(), server.cpu().since(cpu));
        steps = (at(&now, "completed") - before).max(1);
        let per = |seconds: f64| seconds * 1_000.0 / steps as f64;
        let database = cpu.database.map_or("in it".to_owned(), |seconds| format!("{:.3}", per(seconds)));
        println!("| {what} | {steps} | {took:.1} | {:.0} | {:.3} | {database} |", steps as f64 / took, per(cpu.server));
        if reviewed(&now) {
            let find = "query($id: ID!) { run(id: $id) { phases { tasks { steps(first: 1) { nodes { id } } } } } }";
            let found = server.ask(find, json!({ "id": run })).await;
            let step = &found["run"]["phases"][0]["tasks"][1]["steps"]["nodes"][0]["id"];
            let approve = "mutation($id: ID!) { approveStep(input: { id: $id }) { step { status } } }";
            server.ask(approve, json!({ "id": step })).await;
        }
    }
    println!();
}

fn at(now: &Value, key: &str) -> u64 {
    now["progress"]["counts"][key].as_u64().unwrap_or_default()
}

/// Launches a run, snapshots its audience, creates its steps, cancels it; pages are read meanwhile.
pub async fn launch(server: &Server, size: Size) {
    let campaign = server.campaign("PHONE", size.large).await;
    let [before, _] = server.memory();
    let (address, stop) = (server.address, Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let pages = tokio::spawn(async move {
        let (mut client, mut all) = (Client::connect(address).await, Vec::<Duration>::new());
        while !stopped.load(Ordering::Relaxed) {
            let begun = Instant::now();
            client.ask("{ runs(first: 20) { nodes { name status campaign { name } } } }", json!({})).await;
            all.push(begun.elapsed());
        }
        all.sort();
        all
    });
    let (begun, cpu) = (Instant::now(), server.cpu());
    let run = server.launch(&campaign).await;
    let answered = begun.elapsed();
    let now = server.until(&run, COUNTS, |now| now["audienceCount"].as_u64() >= Some(size.large as u64)).await;
    let taken = begun.elapsed();
    server
        .ask(
            "mutation($id: ID!) { releasePhase(input: { id: $id }) { phase { status } } }",
            json!({ "id": now["phases"][0]["id"] }),
        )
        .await;
    server.until(&run, COUNTS, |now| at(now, "total") >= size.large as u64).await;
    let (made, cpu) = (begun.elapsed(), server.cpu().since(cpu));
    let cancelling = Instant::now();
    server.ask("mutation($id: ID!) { cancelRun(input: { id: $id }) { run { status } } }", json!({ "id": run })).await;
    let cancelled = cancelling.elapsed();
    stop.store(true, Ordering::Relaxed);
    let pages = pages.await.unwrap();
    let [now, most] = server.memory();
    println!(
        "A launch over {} records: answered in {answered:.0?}, audience taken in after {taken:.1?}, its steps made after {made:.1?} \
         ({:.1} s of CPU, the database's {}), the cancel answered in {cancelled:.0?}; {} pages of 20 runs meanwhile, p50 {:.1} ms, p99 {:.1} ms; \
         memory {before} KiB before, {now} after, {most} at most since the start\n",
        size.large,
        cpu.server,
        cpu.database.map_or_else(|| "in it".to_owned(), |seconds| format!("{seconds:.1} s")),
        pages.len(),
        percentile(&pages, 50),
        percentile(&pages, 99),
    );
}

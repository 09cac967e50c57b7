//! External workers: claims and settles by several workers at once, in batches and one by one, with
//! few and with many open steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use crate::Size;
use crate::client::Client;
use crate::server::Server;

const WORKERS: usize = 4;

/// Creates a function of the org, whose key all workers use, and a template with one step per
/// record for it.
const MANIFEST: &str = "{ functions: [{ name: bench, filter: \"step.type == 'bench_work'\" }], runTemplates: [{ key: bench, name: Bench, \
    phases: [{ key: all, name: All, autonomous: true, tasks: [{ key: work, name: Work, fanOut: true, \
    steps: [{ key: work, name: Work, type: bench_work, assignedTo: WORKFLOW, agent: bench }] }] }] }] }";

pub async fn claims(server: &Server, size: Size) {
    let apply = "mutation($yaml: String!) { applyManifest(input: { yaml: $yaml }) { applied problems { message } } }";
    let applied = server.ask(apply, json!({ "yaml": MANIFEST })).await;
    assert_eq!(applied["applyManifest"]["applied"], true, "{applied:#}");
    let templates = server.ask("{ runTemplates(first: 100) { nodes { id key } } }", json!({})).await;
    let all = templates["runTemplates"]["nodes"].as_array().unwrap();
    let template = all.iter().find(|one| one["key"] == "bench").unwrap()["id"].clone();
    println!(
        "| steps by workers outside, claimed and settled, {WORKERS} at once | open | steps | seconds | steps per second | CPU s per 1,000 | database's CPU |\n|---|---|---|---|---|---|---|"
    );
    for (open, batch) in [(size.few, 100), (size.few, 1), (size.large, 100), (size.large, 1)] {
        let campaign = server.campaign_of("PHONE", open, template.clone()).await;
        let run = server.launch(&campaign).await;
        let counts = "progress { counts { queued completed } }";
        server.until(&run, counts, |now| now["progress"]["counts"]["queued"].as_u64() >= Some(open as u64)).await;
        let most = open.min(if batch == 1 { size.few } else { size.records });
        let (begun, cpu) = (Instant::now(), server.cpu());
        let left = Arc::new(AtomicUsize::new(most));
        let workers = (0..WORKERS).map(|worker| tokio::spawn(work(server.address, worker, batch, left.clone())));
        let mut done = 0;
        for worker in workers.collect::<Vec<_>>() {
            done += worker.await.unwrap();
        }
        let (took, cpu) = (begun.elapsed().as_secs_f64(), server.cpu().since(cpu));
        let per = |seconds: f64| seconds * 1_000.0 / done.max(1) as f64;
        let database = cpu.database.map_or("in it".to_owned(), |seconds| format!("{:.3}", per(seconds)));
        println!(
            "| {batch} at a time | {open} | {done} | {took:.1} | {:.0} | {:.3} | {database} |",
            done as f64 / took,
            per(cpu.server)
        );
        let cancel = "mutation($id: ID!) { cancelRun(input: { id: $id }) { run { status } } }";
        server.ask(cancel, json!({ "id": run })).await;
        // Its remaining work must not be measured together with the next section.
        let counts = "progress { counts { queued inProgress } }";
        let over = |now: &Value| now["progress"]["counts"] == json!({ "queued": 0, "inProgress": 0 });
        server.until(&run, counts, over).await;
    }
    println!();
}

async fn work(address: std::net::SocketAddr, worker: usize, batch: usize, left: Arc<AtomicUsize>) -> usize {
    let mut client = Client::connect(address).await;
    let claim = "mutation($worker: String!, $limit: Int!) { claimSteps(input: { worker: $worker, agent: \"bench\", limit: $limit, leaseSeconds: 600 }) { steps { id token } } }";
    let settle = "mutation($steps: [SettleStepInput!]!) { settleSteps(input: { agent: \"bench\", steps: $steps }) { steps { status message } } }";
    let mut done = 0;
    loop {
        let take = left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| Some(left.saturating_sub(batch)))
            .unwrap()
            .min(batch);
        if take == 0 {
            return done;
        }
        let variables = json!({ "worker": format!("w{worker}"), "limit": take });
        let claimed = client.ask(claim, variables).await;
        let steps = claimed["claimSteps"]["steps"].as_array().unwrap().clone();
        let each = |step: &Value| json!({ "id": step["id"], "token": step["token"], "result": { "ok": true } });
        let steps: Vec<Value> = steps.iter().map(each).collect();
        if steps.is_empty() {
            return done;
        }
        let settled = client.ask(settle, json!({ "steps": steps })).await;
        let settled = settled["settleSteps"]["steps"].as_array().unwrap();
        assert!(settled.iter().all(|step| step["status"] == "COMPLETED"), "{settled:#?}");
        done += settled.len();
    }
}

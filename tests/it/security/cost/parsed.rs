//! JSON counts as what it becomes when it is parsed: in rows, in the cache of snapshots, in the tail
//! of the log.

use entity::event::Payload;
use serde_json::{Value, json};
use sortie::domain::run::snapshot;
use sortie::kernel::{json_size, limits};

use crate::harness::socket::Socket;
use crate::harness::{Kind, World};

#[test]
fn json_is_measured_as_it_is_parsed() {
    let ones = json!(vec![1; 1_000]);
    let text = ones.to_string();
    let size = json_size::of_text(text.as_bytes());
    assert!((32_000..64_000).contains(&size), "{size}");
    let (few, many) = (json!({ "a": "x".repeat(10_000) }), json!({ "a": "[{,:".repeat(2_500) }));
    assert_eq!(json_size::of(&few), json_size::of(&many), "what stands in a string is no value");
    let quoted = json!({ "a\\\"b": ["\\", "\"", "{,\"[", { "c": null }], "d": "" });
    for value in [&ones, &few, &quoted] {
        assert_eq!(json_size::of(value), json_size::of_text(value.to_string().as_bytes()), "{value}");
    }
    assert!(json_size::of(&quoted) < json_size::of(&json!([quoted, 1])));
}

#[test]
fn a_payload_gives_its_fields_without_the_others() {
    let value = json!({ "to": "QUEUED", "n": { "to": "x" }, "a\"b": [1, 2], "none": null });
    let payload: Payload = serde_json::from_value(value.clone()).unwrap();
    for name in ["to", "n", "a\"b", "none", "absent"] {
        assert_eq!(payload.field(name), value.get(name).cloned(), "{name}");
    }
    assert_eq!(payload.value(), value);
    let list: Payload = serde_json::from_str("[1]").unwrap();
    assert_eq!((list.field("to"), list.value()), (None, json!([1])));
}

/// Starts guided runs whose structure is 30 KB of text, and 700 KB parsed.
async fn runs(world: &World, number: usize) -> Vec<String> {
    let query = "mutation($input: StartGuidedRunInput!) { startGuidedRun(input: $input) { run { id } } }";
    let schema = json!({ "type": "object", "examples": vec![1; 15_000] });
    let step = json!({ "key": "a", "name": "A", "type": "custom", "assignedTo": "HUMAN", "resultSchema": schema });
    let input = json!({ "name": "Many values", "steps": [{ "definition": step }] });
    let mut ids = Vec::new();
    for _ in 0..number {
        let started = world.ask(query, json!({ "input": input })).await;
        ids.push(started["startGuidedRun"]["run"]["id"].as_str().unwrap().to_owned());
    }
    ids
}

both! {
    async fn rows_count_with_their_json_parsed(kind) {
        let world = World::with_config(kind, |config| config.answer_mib = 1).await;
        runs(&world, 8).await;
        let query = "query($first: Int) { runs(first: $first, filter: { types: [GUIDED] }) { nodes { definition { template } } } }";
        // 240 KB of text are almost six megabytes parsed, of four that a request may read.
        let (code, message) = world.refused(query, json!({ "first": 8 })).await;
        assert_eq!(code, "LIMIT_EXCEEDED", "{message}");
        let one = world.ask(query, json!({ "first": 1 })).await;
        assert_eq!(one["runs"]["nodes"].as_array().map(Vec::len), Some(1));
        world.end().await;
    }
}

/// The cache is one for the process: other tests use it, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_are_cached_by_their_size() {
    let world = World::new(Kind::Sqlite).await;
    for id in runs(&world, 80).await {
        world.ask("query($id: ID!) { run(id: $id) { waitingFor { code } } }", json!({ "id": id })).await;
    }
    let cached = snapshot::cached_bytes();
    assert!((1..=limits::SNAPSHOTS_BYTES).contains(&cached), "{cached} bytes");
    world.end().await;
}

const RAISE: &str = "mutation($input: RaiseEventInput!) { raiseEvent(input: $input) { name } }";

fn raised(records: &[String], bytes: usize) -> Value {
    json!({ "input": { "name": "payment.received", "recordIds": records, "payload": { "text": "p".repeat(bytes) } } })
}

/// Position of the next event, whose payload is complete.
async fn position(socket: &mut Socket) -> i64 {
    let event = socket.next().await["events"].clone();
    assert_eq!(event["payload"]["text"].as_str().map(str::len), Some(15_500));
    crate::harness::cursor::position(event["cursor"].as_str().unwrap())
}

both! {
    /// The tail of the log is bounded in bytes; who is behind it misses nothing.
    async fn the_tail_of_the_log_is_bounded_in_bytes(kind) {
        const EVENTS: usize = 600;
        let world = World::new(kind).await;
        let records = world.leads(15).await;
        let after = json!({ "after": world.ask("{ viewer { cursor } }", json!({})).await["viewer"]["cursor"] });
        let query = "subscription($after: String) { events(after: $after) { cursor payload } }";
        let mut socket = Socket::open(world.address).await;
        socket.subscribe("live", query, after.clone()).await;
        // Nine megabytes of payloads, read as they come …
        let mut live = Vec::new();
        for _ in 0..EVENTS / records.len() {
            world.ask(RAISE, raised(&records, 15_500)).await;
            for _ in &records {
                live.push(position(&mut socket).await);
            }
        }
        // … and once more from their beginning.
        let mut late = Socket::open(world.address).await;
        late.subscribe("late", query, after).await;
        let mut again = Vec::new();
        for _ in 0..EVENTS {
            again.push(position(&mut late).await);
        }
        assert_eq!(live, again);
        assert!(live.windows(2).all(|pair| pair[1] == pair[0] + 1), "{live:?}");
        let kept = world.db.followed_bytes();
        assert!((1..=limits::RING_BYTES).contains(&kept), "{kept} bytes");
        drop((socket, late));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while world.db.followed_bytes() > 0 {
            assert!(std::time::Instant::now() < deadline, "{} bytes are kept for nobody", world.db.followed_bytes());
            tokio::task::yield_now().await;
        }
        world.end().await;
    }
}

both! {
    async fn a_payload_for_many_records_is_bounded(kind) {
        let world = World::new(kind).await;
        let records = world.leads(20).await;
        let refused = world.post(RAISE, raised(&records, 15_000)).await;
        let error = &refused["errors"][0];
        assert_eq!((&error["extensions"]["code"], &error["extensions"]["field"]), (&json!("LIMIT_EXCEEDED"), &json!("payload")), "{error}");
        world.ask(RAISE, raised(&records[..17], 15_000)).await;
        world.ask(RAISE, raised(&records, 10_000)).await;
        world.end().await;
    }
}

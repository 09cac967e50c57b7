//! Bodies and messages: not read before authentication, bounded while in flight, and within a time
//! limit.

use std::time::Duration;

use futures_util::SinkExt;
use futures_util::future::{join_all, select_all};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{head, header, rest, said};
use crate::harness::socket::{Came, Socket};
use crate::harness::{Kind, World, client};

const MIB: usize = 1024 * 1024;

pub(super) fn post(path: &str, kind: &str, length: usize, more: &str) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}\r\n"
    );
    head.into_bytes()
}

pub(super) fn bearer(key: &str) -> String {
    format!("Authorization: Bearer {key}\r\n")
}

impl World {
    fn own_key(&self) -> String {
        self.shown.lock().unwrap().clone().unwrap()
    }
}

/// An unauthenticated client is rejected before any byte of the body has arrived, on every
/// endpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_before_their_body() {
    // The response does not wait for the body's time limit.
    let world = World::with_config(Kind::Sqlite, |config| config.client_seconds = 600).await;
    let wrong = bearer("sortie_01h455vb4pex5vsknk084sn02q_wrong");
    for path in ["/graphql", "/graphql/stream", "/graphql/stream?token=abc", "/import/records?kind=lead"] {
        for shown in ["", wrong.as_str(), "Authorization: Basic YTpi\r\n", "Expect: 100-continue\r\n"] {
            let kind = if path.starts_with("/import") { "text/csv" } else { "application/json" };
            let mut stream = said(world.address, &post(path, kind, MIB - 1, shown)).await;
            let told = head(&mut stream).await;
            assert!(told.starts_with("HTTP/1.1 401"), "{path} {shown}: {told}");
        }
        let chunked = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut stream = said(world.address, chunked.as_bytes()).await;
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 401"), "{path}");
    }
    // A client that sends its whole body nevertheless gets the response, and no connection reset.
    let clients = (0..40).map(|_| async {
        let request = client().post(format!("http://{}/graphql", world.address));
        let request = request.header("content-type", "application/json").body(vec![b' '; MIB]);
        request.send().await.unwrap().status().as_u16()
    });
    assert!(join_all(clients).await.into_iter().all(|status| status == 401));
    // A body that is too large by its `Content-Length` is not read, either.
    let mut stream =
        said(world.address, &post("/graphql", "application/json", MIB + 1, &bearer(&world.own_key()))).await;
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 413"));
    world.end().await;
}

/// Bodies that lack their last byte: of one address, and of many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_under_way_are_bounded() {
    let world = World::with_config(Kind::Sqlite, |config| config.client_seconds = 600).await;
    let key = world.own_key();
    let held = async |address: String| {
        let named = format!("X-Forwarded-For: {address}\r\n{}", bearer(&key));
        let bytes = [post("/graphql", "application/json", MIB, &named), vec![b' '; MIB - 1]].concat();
        said(world.address, &bytes).await
    };
    let first = async |streams: &mut Vec<TcpStream>| {
        let heads = streams.iter_mut().map(|stream| Box::pin(head(stream)));
        select_all(heads).await.0
    };
    let mut one = join_all((0..10).map(|_| held("203.0.113.7".into()))).await;
    let told = first(&mut one).await;
    assert!(told.starts_with("HTTP/1.1 429") && header(&told, "retry-after").is_some(), "{told}");
    // Other clients' bodies are read meanwhile.
    assert_eq!(world.ask("{ viewer { role } }", json!({})).await["viewer"]["role"], "ADMIN");
    drop(one);
    // One key does not get more from many addresses.
    let mut many = join_all((0..40).map(|i| held(format!("198.51.100.{}", i / 4)))).await;
    let told = first(&mut many).await;
    assert!(told.starts_with("HTTP/1.1 429") && header(&told, "retry-after").is_some(), "{told}");
    // Small requests are still served.
    assert_eq!(world.ask("{ viewer { role } }", json!({})).await["viewer"]["role"], "ADMIN");
    drop(many);
    // Once the memory is free again, large ones are served, too.
    loop {
        let request = client().post(format!("http://{}/graphql", world.address)).bearer_auth(&key);
        let body = json!({ "query": "{ viewer { role } }", "variables": { "long": "x".repeat(MIB - 100) } });
        if request.json(&body).send().await.unwrap().status().as_u16() != 429 {
            break;
        }
    }
    world.end().await;
}

/// Bodies that trickle in are aborted, also uploads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drops_are_not_waited_for() {
    let world = World::with_config(Kind::Sqlite, |config| config.client_seconds = 1).await;
    let key = bearer(&world.own_key());
    for (path, kind) in [("/graphql", "application/json"), ("/import/records?kind=lead", "text/csv")] {
        let stream = said(world.address, &post(path, kind, MIB - 1, &key)).await;
        let (mut read, mut write) = stream.into_split();
        let drops = tokio::spawn(async move {
            // The attack itself: a byte now and then, so that no single read waits long.
            let mut beat = tokio::time::interval(Duration::from_millis(100));
            while write.write_all(b"a,b\n").await.is_ok() {
                beat.tick().await;
            }
        });
        let mut told = vec![0; 12];
        let come =
            tokio::time::timeout(Duration::from_secs(20), tokio::io::AsyncReadExt::read_exact(&mut read, &mut told));
        come.await.expect("it was waited for").unwrap();
        assert_eq!(String::from_utf8_lossy(&told), "HTTP/1.1 408", "{path}");
        drops.abort();
    }
    world.end().await;
}

/// The header of a text frame of a given length, masked with zeros.
fn frame(length: usize) -> Vec<u8> {
    let mut head = vec![0x81, 0x80 | 127];
    head.extend((length as u64).to_be_bytes());
    head.extend([0; 4]);
    head
}

pub(super) async fn socket(world: &World, named: &str) -> TcpStream {
    let upgrade = format!(
        "GET /graphql HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n{named}\r\n"
    );
    let mut stream = said(world.address, upgrade.as_bytes()).await;
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 101"));
    stream
}

/// WebSocket messages are buffered until they are complete: a little before authentication,
/// afterwards within the same bounds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_sockets_are_bounded() {
    let world = World::with_config(Kind::Sqlite, |config| config.client_seconds = 600).await;
    let mut stranger = socket(&world, "").await;
    let _ = stranger.write_all(&[frame(MIB - 1), vec![b' '; 200_000]].concat()).await;
    rest(&mut stranger).await;
    let mut stranger = Socket::connect(world.address).await;
    stranger.say(json!({ "type": "connection_init", "payload": { "long": "x".repeat(100_000) } })).await;
    assert!(matches!(stranger.came().await, Came::Closed(_)));

    let named = format!("X-Forwarded-For: 203.0.113.9\r\n{}", bearer(&world.own_key()));
    let init = br#"{"type":"connection_init"}"#;
    let mut held = Vec::new();
    for _ in 0..10 {
        let mut stream = socket(&world, &named).await;
        stream.write_all(&[&frame(init.len()), &init[..]].concat()).await.unwrap();
        let ack = br#"{"type":"connection_ack"}"#;
        let mut answer = vec![0; ack.len() + 2];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer).await.unwrap();
        assert!(answer.ends_with(ack));
        held.push(stream);
    }
    for stream in &mut held {
        let _ = stream.write_all(&[frame(MIB), vec![b' '; MIB - 1]].concat()).await;
    }
    // One of them is closed.
    select_all(held.iter_mut().map(|stream| Box::pin(rest(stream)))).await;
    drop(held);
    world.end().await;
}

/// A message that is never completed closes its socket, whatever comes between its fragments.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_sockets_come_in_time() {
    let world = World::with_config(Kind::Sqlite, |config| config.client_seconds = 1).await;
    let named = bearer(&world.own_key());
    let mut stream = socket(&world, &named).await;
    let init = br#"{"type":"connection_init"}"#;
    stream.write_all(&[&frame(init.len()), &init[..]].concat()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let drops = tokio::spawn(async move {
        // A text message without an end, and pings between its fragments.
        let mut beat = tokio::time::interval(Duration::from_millis(100));
        let _ = write.write_all(&[0x01, 0x81, 0, 0, 0, 0, b' ']).await;
        while write.write_all(&[0x00, 0x81, 0, 0, 0, 0, b' ', 0x89, 0x80, 0, 0, 0, 0]).await.is_ok() {
            beat.tick().await;
        }
    });
    let mut told = Vec::new();
    let end = tokio::io::AsyncReadExt::read_to_end(&mut read, &mut told);
    let _ = tokio::time::timeout(Duration::from_secs(20), end).await.expect("it was kept open");
    drops.abort();
    world.end().await;
}

/// A compressed body is refused as such, before it is read as JSON or as a file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_bodies_are_refused() {
    let world = World::with_auth(Kind::Sqlite).await;
    let key = world.own_key();
    let kinds = [
        ("/graphql", "application/json"),
        ("/graphql/stream", "application/json"),
        ("/import/records?kind=lead", "text/csv"),
    ];
    for (path, kind) in kinds {
        for coding in ["gzip", "br", "identity, gzip", "x"] {
            let request = client().post(format!("http://{}{path}", world.address)).bearer_auth(&key);
            let request = request.header("content-type", kind).header("content-encoding", coding);
            let answer = request
                .header("accept", "application/json, text/event-stream")
                .body(vec![0x1f, 0x8b, 8, 0])
                .send()
                .await
                .unwrap();
            let (status, told) = (answer.status().as_u16(), answer.text().await.unwrap());
            assert!(status == 415 && told.contains("Content-Encoding"), "{path} {coding}: {status} {told}");
        }
    }
    for (coding, status) in [("chunked", 200), ("Chunked", 200), ("gzip, chunked", 415), ("identity, chunked", 415)] {
        let head = format!(
            "POST /graphql HTTP/1.1\r\nHost: localhost\r\n{}Content-Type: application/json\r\nTransfer-Encoding: {coding}\r\n\r\n",
            bearer(&key)
        );
        let body = "1c\r\n{\"query\":\"{ __typename }\"}  \r\n0\r\n\r\n";
        let told = self::head(&mut said(world.address, format!("{head}{body}").as_bytes()).await).await;
        assert!(told.starts_with(&format!("HTTP/1.1 {status}")), "{coding}: {told}");
    }
    let request = client().post(format!("http://{}/graphql", world.address)).bearer_auth(&key);
    let request = request.header("content-encoding", "identity").json(&json!({ "query": "{ viewer { role } }" }));
    assert_eq!(request.send().await.unwrap().status(), 200);
    world.end().await;
}

/// The last value of a key that stands twice in a request is the one that is checked, counted and
/// executed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_keys_that_stand_twice_the_last_counts() {
    let world = World::new(Kind::Sqlite).await;
    let cheap = r#""query": "query($n: Int!) { goals(first: $n) { totalCount } }""#;
    let dear = r#""query": "{ runs(first: 500) { nodes { steps(first: 500) { nodes { id run { id } } } } } }""#;
    let (fits, does_not) = (r#""variables": { "n": 1 }"#, r#""variables": { "n": "one" }"#);
    for (body, is_executed) in [
        (format!("{{ {dear}, {cheap}, {fits} }}"), true),
        (format!("{{ {cheap}, {dear} }}"), false),
        (format!("{{ {cheap}, {does_not}, {fits} }}"), true),
        (format!("{{ {cheap}, {fits}, {does_not} }}"), false),
        (format!(r#"{{ {cheap}, "variables": {{ "n": "one", "n": 1 }} }}"#), true),
        (format!(r#"{{ {cheap}, "variables": {{ "n": 1, "n": "one" }} }}"#), false),
    ] {
        let request =
            client().post(format!("http://{}/graphql", world.address)).header("content-type", "application/json");
        let told: serde_json::Value = request.body(body.clone()).send().await.unwrap().json().await.unwrap();
        assert_eq!(told["data"].is_object(), is_executed, "{body}: {told}");
        // The same over a socket.
        let mut socket = Socket::open(world.address).await;
        let message = format!(r#"{{ "type": "subscribe", "id": "1", "payload": {body} }}"#);
        socket.0.send(tokio_tungstenite::tungstenite::Message::text(message)).await.unwrap();
        let told = socket.message().await;
        assert_eq!(told["type"] == "next" && told["payload"]["data"].is_object(), is_executed, "{body}: {told}");
    }
    world.end().await;
}

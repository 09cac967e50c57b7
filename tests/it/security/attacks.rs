//! Each limit of the HTTP server, tested against the real binary with the attack that it is for:
//! the server's cost in CPU and memory is measured, and printed with `--nocapture`.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::Kind;
use crate::harness::life::{Home, Life};
use crate::harness::socket::{Came, Socket};

/// An attack: its name, its request, and the expected error.
pub(super) struct Attack {
    name: &'static str,
    pub(super) request: Value,
    told: &'static str,
}

fn attack(name: &'static str, query: String, told: &'static str) -> Attack {
    Attack { name, request: json!({ "query": query }), told }
}

/// Fragments that spread each other: ten spreads on each level.
fn exploding(levels: usize) -> String {
    let mut query = "{...f0}".to_owned();
    for level in 0..levels {
        let spreads = format!("...f{}", level + 1).repeat(10);
        query += &format!("fragment f{level} on Query{{{spreads}}}");
    }
    query + &format!("fragment f{levels} on Query{{__typename}}")
}

pub(super) fn attacks() -> Vec<Attack> {
    let of = |count: usize, each: &dyn Fn(usize) -> String| (0..count).map(each).collect::<String>();
    vec![
        attack("exploding fragments, 7 levels", exploding(7), "more than 5000 fields and fragments"),
        attack("exploding fragments, 60 levels", exploding(60), "more than 5000 fields and fragments"),
        attack("exploding fragments of a subscription", exploding(7).replacen('{', "subscription{", 1).replace("on Query", "on Subscription"), "more than 5000"),
        attack("exploding fragments that nobody spreads", format!("{{viewer{{role}}}}{}", exploding(7).replacen("{...f0}", "", 1)), ""),
        attack("deep fragments within each other", (0..60).fold("{...f0}".to_owned(), |query, level| query + &format!("fragment f{level} on Query{}...f{}{}", "{a".repeat(60), level + 1, "}".repeat(60)).replacen("{a...", "{...", 1)) + "fragment f60 on Query{a}", "nest deeper than 64"),
        attack("operations", of(190, &|i| format!("query q{i}{{__typename}}")), "several operations"),
        attack("more operations", of(2_700, &|i| format!("query q{i}{{__typename}}")), "more than 200 operations"),
        attack("many variables", format!("query({}){{viewer{{role}}}}", of(4_500, &|i| format!("$v{i}:Int "))), ""),
        attack("one field, again and again", format!("{{viewer{{{}}}}}", "role ".repeat(4_900)), ""),
        attack("nested fields, again and again", format!("{{{}}}", "viewer{member{name role}}".repeat(50)), ""),
        attack("a fragment that spreads itself", "{...a} fragment a on Query{...b} fragment b on Query{...a}".into(), "spreads itself"),
        attack("aliases", format!("{{{}}}", of(3_000, &|i| format!("a{i}:__typename "))), "more than 200 aliases"),
        attack("root fields", format!("{{{}}}", of(60, &|i| format!("a{i}:viewer{{role}}"))), "at most 50 root fields"),
        attack("depth", format!("{{{}id{}}}", "campaigns{nodes{runs{nodes{campaign{".repeat(5), "}".repeat(25)), "more than 18 levels"),
        attack("braces", "{a".repeat(30_000), "nests deeper than 64 brackets"),
        attack("lists within lists", format!("{{a(b:{})}}", "[".repeat(60_000)), "nests deeper than 64 brackets"),
        attack("types within types", format!("query($a:{}Int{}){{a}}", "[".repeat(30_000), "]".repeat(30_000)), "nests deeper than 64 brackets"),
        attack("directives", format!("{{viewer {}{{role}}}}", "@include(if:true)".repeat(3_000)), "more than 100 directives"),
        attack("a long document", format!("{{viewer{{role}}}}#{}", "x".repeat(70_000)), "longer than 65536 bytes"),
        attack("unknown fields", format!("{{viewer{{{}}}}}", of(4_500, &|i| format!("f{i} "))), "Unknown field"),
        attack("pages within pages", "{campaigns(first:500){nodes{runs(first:500){nodes{steps(first:500){nodes{id name status}}}}}}}".into(), "too complex"),
        attack("a page that is too long", "{campaigns(first:100000){nodes{id}}}".into(), "at most 500"),
        attack("a page of 2147483647 within such a page", "{campaigns(first:2147483647){nodes{runs(first:2147483647){nodes{steps(first:2147483647){nodes{communications{status}}}}}}}}".into(), "too complex"),
        attack("two roots of a subscription", "subscription{a:events{kind} b:events{kind}}".into(), "one root field"),
        attack("introspection within introspection", format!("{{__schema{{types{{{}name{}}}}}}}", "fields{type{".repeat(12), "}}".repeat(12)), "more than 18 levels"),
        Attack { name: "variables within variables", request: serde_json::from_str(&format!("{{\"query\":\"{{viewer{{role}}}}\",\"variables\":{{\"a\":{}1{}}}}}", "[".repeat(100), "]".repeat(100))).unwrap(), told: "" },
        Attack { name: "a batch", request: json!([{ "query": "{viewer{role}}" }, { "query": "{viewer{role}}" }]), told: "batches are not taken" },
        attack("ids", format!("{{nodes(ids:[{}]){{id}}}}", of(900, &|_| "\"run_01h455vb4pex5vsknk084sn02q\",".into())), "at most 100"),
        attack("a filter within filters", format!("{{records(filter:{}{{kind:{{eq:\"a\"}}}}{}){{totalCount}}}}", "{not:".repeat(40), "}".repeat(40)), "deep"),
    ]
}

async fn post(life: &Life, request: &Value, accept: &str) -> String {
    let sent = crate::harness::client().post(format!("http://{}/graphql", life.address)).header("accept", accept);
    sent.json(request).send().await.unwrap().text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_that_ask_too_much() {
    const TIMES: u32 = 20;
    let home = Home::new(Kind::Sqlite).await;
    let life = home.begin();
    post(&life, &json!({ "query": "{viewer{role}}" }), "*/*").await;
    let memory = life.memory();
    println!("{:48} {:>12} {:>10}", "attack", "CPU of each", "KiB more");
    for attack in attacks() {
        let before = (life.cpu(), life.memory());
        for _ in 0..TIMES {
            let told = post(&life, &attack.request, "application/json").await;
            assert!(told.contains(attack.told), "{}: {told:.400}", attack.name);
        }
        let cost = (life.cpu() - before.0) / TIMES;
        println!("{:48} {cost:>12.1?} {:>10}", attack.name, life.memory() as i64 - before.1 as i64);
        // One that is not rejected occupies a core for seconds.
        assert!(cost < Duration::from_millis(500), "{} costs {cost:?}", attack.name);
        // The same over the other transports.
        if attack.request.is_object() {
            let mut socket = Socket::open(life.address).await;
            socket.say(json!({ "id": "1", "type": "subscribe", "payload": attack.request })).await;
            let told = socket.message().await;
            assert!(told.to_string().contains(attack.told), "{}: {told:.400}", attack.name);
            let told = post(&life, &attack.request, "text/event-stream").await;
            assert!(told.contains(attack.told), "{}: {told:.400}", attack.name);
        }
    }
    let grown = life.memory().saturating_sub(memory);
    assert!(grown < 64 * 1024, "{grown} KiB more than before");
    life.kill();
    home.remove();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_too_much() {
    let home = Home::new(Kind::Sqlite).await.with("SORTIE_CLIENT_SECONDS", "1");
    let life = home.begin();
    let url = format!("http://{}/graphql", life.address);
    let post = |body: Vec<u8>, kind: &'static str| {
        crate::harness::client().post(&url).header("content-type", kind).body(body).send()
    };
    let huge = post(vec![b' '; 3 * 1024 * 1024], "application/json").await.unwrap();
    assert_eq!(huge.status(), 413);
    assert_eq!(post(b"{\"query\":\"{viewer{role}}\"}".to_vec(), "text/plain").await.unwrap().status(), 415);
    assert_eq!(post(b"\xff\xfe".to_vec(), "application/json").await.unwrap().status(), 400);
    assert_eq!(post("[".repeat(500_000).into_bytes(), "application/json").await.unwrap().status(), 400);
    // A body that arrives byte by byte, or not at all.
    let mut slow = TcpStream::connect(life.address).await.unwrap();
    slow.write_all(
        b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
    )
    .await
    .unwrap();
    let mut told = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), slow.read_to_end(&mut told)).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&told).starts_with("HTTP/1.1 408"), "{}", String::from_utf8_lossy(&told));
    // Too large request headers.
    let mut large = TcpStream::connect(life.address).await.unwrap();
    let _ = large
        .write_all(format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(100_000)).as_bytes())
        .await;
    let mut told = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), large.read_to_end(&mut told)).await.unwrap();
    assert!(
        told.is_empty() || String::from_utf8_lossy(&told).starts_with("HTTP/1.1 431"),
        "{}",
        String::from_utf8_lossy(&told)
    );
    life.kill();
    home.remove();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing() {
    let home = Home::new(Kind::Sqlite)
        .await
        .with("SORTIE_CLIENT_SECONDS", "1")
        .with("SORTIE_PING_SECONDS", "1")
        .with("SORTIE_CONNECTIONS", "40");
    let life = home.begin();
    let gone = |mut stream: TcpStream| async move {
        let mut told = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut told))
            .await
            .expect("it was kept open");
    };
    // Silent connections, and those that never complete their headers: the maximum number, and some
    // more.
    let mut open = Vec::new();
    for i in 0..60 {
        let mut stream = TcpStream::connect(life.address).await.unwrap();
        if i % 2 == 0 {
            let _ = stream.write_all(b"POST /graphql HTTP/1.1\r\nHost: local").await;
        }
        open.push(stream);
    }
    futures_util::future::join_all(open.into_iter().map(gone)).await;
    // Then there is capacity again.
    let answer = life.ask("{ viewer { role } }", json!({})).await.unwrap();
    assert_eq!(answer["viewer"]["role"], "ADMIN");
    // A socket that never authenticates, and one that answers no ping.
    let mut mute = Socket::connect(life.address).await;
    assert!(matches!(mute.came().await, Came::Closed(4408)));
    let mut dead = TcpStream::connect(life.address).await.unwrap();
    let upgrade = "GET /graphql HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n";
    dead.write_all(upgrade.as_bytes()).await.unwrap();
    // `{"type":"connection_init"}`, masked with zeros.
    let init = br#"{"type":"connection_init"}"#;
    dead.write_all(&[&[0x81, 0x80 | init.len() as u8, 0, 0, 0, 0], &init[..]].concat()).await.unwrap();
    gone(dead).await;
    life.kill();
    home.remove();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_count_among_the_connections() {
    let home = Home::new(Kind::Sqlite).await.with("SORTIE_CONNECTIONS", "3");
    let life = home.begin();
    let sockets =
        [Socket::open(life.address).await, Socket::connect(life.address).await, Socket::open(life.address).await];
    let mut turned_away = TcpStream::connect(life.address).await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(10), turned_away.read(&mut [0; 8])).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "a fourth connection was taken");
    drop(sockets);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while life.post("{ viewer { role } }", json!({})).await.is_none() {
        assert!(std::time::Instant::now() < deadline, "the places are not free again");
    }
    life.kill();
    home.remove();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_and_streams_without_end() {
    let home = Home::new(Kind::Sqlite).await.with("SORTIE_STREAMS_PER_KEY", "10");
    let life = home.begin();
    let mut sockets = Vec::new();
    for _ in 0..10 {
        sockets.push(Socket::open(life.address).await);
    }
    let mut more = Socket::connect(life.address).await;
    more.say(json!({ "type": "connection_init" })).await;
    assert!(matches!(more.came().await, Came::Closed(1013)));
    let told = post(&life, &json!({ "query": "subscription { events { kind } }" }), "text/event-stream").await;
    assert!(told.contains("at most 10 sockets and streams"), "{told}");
    // The maximum number of operations on one socket.
    let socket = &mut sockets[0];
    for i in 0..sortie::kernel::limits::SOCKET_STREAMS {
        socket.subscribe(&i.to_string(), "subscription { events { kind } }", json!({})).await;
    }
    socket.subscribe("more", "subscription { events { kind } }", json!({})).await;
    let told = socket.message().await;
    assert_eq!(
        (&told["id"], &told["type"], &told["payload"][0]["extensions"]["code"]),
        (&json!("more"), &json!("error"), &json!("LIMIT_EXCEEDED"))
    );
    // An operation that ends makes room.
    drop(sockets.pop());
    loop {
        let mut socket = Socket::connect(life.address).await;
        socket.say(json!({ "type": "connection_init" })).await;
        if let Came::Message(ack) = socket.came().await {
            assert_eq!(ack["type"], "connection_ack");
            break;
        }
    }
    life.kill();
    home.remove();
}

/// A panic in a resolver becomes an error response, over every transport, and the server keeps
/// running.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panics_are_caught() {
    if std::env::var_os("SORTIE_BIN").is_some() {
        return;
    }
    let home = Home::new(Kind::Sqlite).await;
    for way in ["http", "socket", "stream"] {
        let life = home.begin_at(Some("resolving:2")).unwrap();
        let request = json!({ "query": "{ viewer { role } }" });
        assert!(post(&life, &request, "*/*").await.contains("ADMIN"));
        let told = match way {
            "http" => post(&life, &request, "application/graphql-response+json").await,
            "stream" => post(&life, &request, "text/event-stream").await,
            _ => {
                let mut socket = Socket::open(life.address).await;
                socket.say(json!({ "id": "1", "type": "subscribe", "payload": request })).await;
                socket.message().await.to_string()
            }
        };
        assert!(
            told.contains("INTERNAL") && told.contains("it is logged as") && !told.contains("stumbled"),
            "{way}: {told}"
        );
        assert!(post(&life, &request, "*/*").await.contains("ADMIN"));
        life.kill();
    }
    home.remove();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_by_name() {
    use sha2::{Digest, Sha256};
    let digest = |text: &str| Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let home = Home::new(Kind::Sqlite).await;
    let life = home.begin();
    let query = "{ viewer { role } }";
    let named = json!({ "extensions": { "persistedQuery": { "version": 1, "sha256Hash": digest(query) } } });
    let mut sent = named.clone();
    assert!(post(&life, &named, "*/*").await.contains("PERSISTED_QUERY_NOT_FOUND"));
    sent["query"] = json!("{ viewer { orgId } }");
    assert!(post(&life, &sent, "*/*").await.contains("not the hash of the document"));
    sent["query"] = json!(query);
    for request in [&sent, &named] {
        assert!(post(&life, request, "*/*").await.contains("ADMIN"));
    }
    life.kill();
    // Only registered documents, by id, by hash, or in full.
    let file = home.folder().join("documents.json");
    std::fs::write(&file, json!({ "me": query }).to_string()).unwrap();
    let home = home.with("SORTIE_DOCUMENTS", file.to_str().unwrap());
    let life = home.begin();
    for request in [json!({ "documentId": "me" }), named, json!({ "query": query })] {
        assert!(post(&life, &request, "*/*").await.contains("ADMIN"), "{request}");
    }
    // The same by GET and over a socket.
    let got =
        crate::harness::client().get(format!("http://{}/graphql?documentId=me", life.address)).send().await.unwrap();
    assert!(got.text().await.unwrap().contains("ADMIN"));
    let mut socket = Socket::open(life.address).await;
    for (id, payload, wanted) in
        [("1", json!({ "documentId": "me" }), "ADMIN"), ("2", json!({ "documentId": "you" }), "only registered")]
    {
        socket.say(json!({ "id": id, "type": "subscribe", "payload": payload })).await;
        let came = socket.message().await;
        assert!(came["id"] == id && came.to_string().contains(wanted), "{came}");
        if wanted == "ADMIN" {
            assert_eq!(socket.message().await["type"], "complete");
        }
    }
    for request in [
        json!({ "query": "{ viewer { orgId } }" }),
        json!({ "documentId": "you" }),
        json!({ "query": "{ __schema { types { name } } }" }),
    ] {
        assert!(post(&life, &request, "*/*").await.contains("only registered documents"), "{request}");
    }
    life.kill();
    std::fs::write(&file, "{\"me\": \"{ viewer\"}").unwrap();
    let (up, said) = home.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(!up && said.contains("document `me`"), "{said}");
    home.remove();
}

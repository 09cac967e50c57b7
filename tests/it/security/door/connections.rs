//! Connections: their protocol, idle timeouts and number.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;
use sortie::transport::address_limits::{Addresses, Network};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{head, header, rest, said};
use crate::harness::life::Home;
use crate::harness::socket::{Came, Socket};
use crate::harness::{Kind, World};

pub(in crate::security) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const ALIVE: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// An HTTP/2 preface, whole, in pieces or as an upgrade, does not give a connection without limits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_is_not_spoken() {
    let world = World::with_config(Kind::Sqlite, |config| config.client_seconds = 2).await;
    for bytes in [PREFACE, &PREFACE[..16], &PREFACE[..24], &PREFACE[..3]] {
        let mut stream = said(world.address, bytes).await;
        let told = rest(&mut stream).await;
        assert!(told.is_empty() || told.starts_with("HTTP/1.1 4"), "{told}");
    }
    // After a request of HTTP/1.1, too.
    let mut stream = said(world.address, &[ALIVE, PREFACE].concat()).await;
    let told = rest(&mut stream).await;
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    assert!(!told.contains('\0'), "{told}");
    let upgrade = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    let mut stream = said(world.address, upgrade).await;
    let told = head(&mut stream).await;
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    world.end().await;
}

/// Hundreds of connections that idle in different ways are closed after the client timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_end() {
    let world = World::with_config(Kind::Sqlite, |config| config.client_seconds = 1).await;
    let mut idle = Vec::new();
    for i in 0..300 {
        let bytes: &[u8] = match i % 6 {
            0 => b"",
            1 => PREFACE,
            2 => b"POST /graphql HTTP/1.1\r\nHost: loc",
            3 => b"\r\n",
            // Kept alive after a response: one request, and two in one write.
            4 => ALIVE,
            _ => b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        };
        idle.push(said(world.address, bytes).await);
    }
    let told = futures_util::future::join_all(idle.iter_mut().map(rest)).await;
    assert_eq!(told.iter().filter(|told| told.starts_with("HTTP/1.1 200")).count(), 100);
    // A connection in use is kept.
    let mut used = said(world.address, b"").await;
    for _ in 0..10 {
        used.write_all(ALIVE).await.unwrap();
        let told = head(&mut used).await;
        let length: usize = header(&told, "content-length").unwrap().parse().unwrap();
        used.read_exact(&mut vec![0; length]).await.unwrap();
    }
    world.end().await;
}

/// The address of this machine in its network, if it has one.
fn own() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: only the route is looked up.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback() && !address.is_unspecified())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_has_so_many() {
    let world = World::with_config(Kind::Sqlite, |config| {
        config.listen = "0.0.0.0:0".parse().unwrap();
        config.connections_per_address = 4;
    })
    .await;
    let near: SocketAddr = (IpAddr::from([127, 0, 0, 1]), world.address.port()).into();
    if let Some(own) = own() {
        let far: SocketAddr = (own, world.address.port()).into();
        // Sockets count for as long as they are open.
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(Socket::connect(far).await);
        }
        let _kept = [said(far, ALIVE).await, said(far, b"").await];
        let mut more = said(far, ALIVE).await;
        assert_eq!(rest(&mut more).await, "");
        // Others are served meanwhile; this machine's address has no limit of its own.
        let mut others = Vec::new();
        for _ in 0..20 {
            let mut other = said(near, ALIVE).await;
            assert!(head(&mut other).await.starts_with("HTTP/1.1 200"));
            others.push(other);
        }
        drop(held);
        while !head(&mut said(far, ALIVE).await).await.starts_with("HTTP/1.1 200") {
            tokio::task::yield_now().await;
        }
    }
    world.drop_unchecked().await;
}

/// The table counts IPv6 addresses by their /64, and drops entries without connections.
#[test]
fn addresses_are_counted() {
    let table = Addresses::new(2);
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let first = table.connect(address("2001:db8::1"), false).unwrap();
    let second = table.connect(address("2001:db8::ffff:2"), false).unwrap();
    assert!(table.connect(address("2001:db8::3"), false).is_none());
    assert!(table.connect(address("2001:db8::3"), true).is_some());
    let other = table.connect(address("2001:db8:0:1::1"), false).unwrap();
    let mapped = table.connect(address("::ffff:192.0.2.1"), false).unwrap();
    assert_eq!(Network::from(address("::ffff:192.0.2.1")), Network::from(address("192.0.2.1")));
    assert_eq!(table.count(), 3);
    drop((first, second, other, mapped));
    assert_eq!(table.count(), 0);
}

/// A low limit of open files lowers the limit of connections; the server keeps working when all of
/// them are in use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_files_run_short() {
    let home = Home::new(Kind::Sqlite).await.with("SORTIE_CLIENT_SECONDS", "60");
    let plain = home.command();
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -S -n 64 && ulimit -H -n 160 && exec \"$0\" \"$@\""]);
    limited.arg(plain.get_program()).args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(home.folder());
    limited.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut process = limited.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let line = lines.find_map(|line| line.ok().filter(|line| line.contains("POST"))).expect("it did not come up");
    let address = line.split_whitespace().find_map(|word| word.strip_prefix("http://")).unwrap();
    let address: SocketAddr = address.trim_end_matches("/graphql").parse().unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().collect::<Vec<_>>()[3..5], ["160", "160"]);
    // A connection that is open before the others come.
    let mut first = said(address, ALIVE).await;
    assert!(head(&mut first).await.starts_with("HTTP/1.1 200"));
    first.read_exact(&mut [0; 14]).await.unwrap();
    let mut open = Vec::new();
    let mut turned_away = 0;
    for _ in 0..200 {
        let mut stream = said(address, ALIVE).await;
        match head(&mut stream).await {
            told if told.starts_with("HTTP/1.1 200") => open.push(stream),
            _ => turned_away += 1,
        }
    }
    assert_eq!((open.len(), turned_away), (79, 121));
    // The database and the outbox still have file descriptors: a write, and the full health check.
    let body = json!({ "query": "mutation { createGoal(input: { name: \"Hold\" }) { goal { id } } }" }).to_string();
    let post = format!(
        "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        body.len()
    );
    first.write_all(post.as_bytes()).await.unwrap();
    let told = rest(&mut first).await;
    assert!(told.contains("\"createGoal\":{\"goal\"") && told.contains("{\"ready\":true}"), "{told}");
    // Closed connections make room.
    drop(open);
    while !head(&mut said(address, ALIVE).await).await.starts_with("HTTP/1.1 200") {
        tokio::task::yield_now().await;
    }
    process.kill().unwrap();
    let output = process.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(log.contains("the limit of open files allows fewer connections than configured"), "{log}");
    // 121 were rejected, which is logged once.
    assert_eq!(log.matches("connections were rejected").count(), 1, "{log}");
    home.check();
    home.remove();
}

/// A ping's payload is returned in the pong, before and after authentication.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_are_given_back() {
    let world = World::with_auth(Kind::Sqlite).await;
    let key = world.shown.lock().unwrap().clone().unwrap();
    let mut socket = Socket::connect(world.address).await;
    for payload in [json!({ "at": 17 }), json!({ "nested": { "list": [1, "two", null] } }), json!({})] {
        socket.say(json!({ "type": "ping", "payload": payload })).await;
        assert_eq!(socket.message().await, json!({ "type": "pong", "payload": payload }));
    }
    socket.say(json!({ "type": "connection_init", "payload": { "Authorization": key } })).await;
    assert_eq!(socket.message().await["type"], "connection_ack");
    socket.say(json!({ "type": "ping", "payload": { "again": true } })).await;
    assert_eq!(socket.message().await, json!({ "type": "pong", "payload": { "again": true } }));
    socket.say(json!({ "type": "ping" })).await;
    assert_eq!(socket.message().await, json!({ "type": "pong" }));
    socket.say(json!({ "type": "ping", "payload": { "long": "x".repeat(10_000) } })).await;
    assert!(matches!(socket.came().await, Came::Closed(4400)));
    world.end().await;
}

/// An authenticated socket that only answers pings stays open beyond the time limit of a message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quiet_sockets_live_on() {
    use futures_util::StreamExt;
    use tokio_tungstenite::tungstenite::Message;
    let world = World::with_config(Kind::Sqlite, |config| {
        config.client_seconds = 1;
        config.ping_seconds = 1;
    })
    .await;
    let key = world.shown.lock().unwrap().clone().unwrap();
    let mut socket = Socket::open_as(world.address, &key).await;
    assert_eq!(socket.message().await["type"], "connection_ack");
    for _ in 0..4 {
        let frame = tokio::time::timeout(Duration::from_secs(20), socket.0.next()).await.unwrap();
        assert!(matches!(frame, Some(Ok(Message::Ping(_)))), "{frame:?}");
    }
    socket.say(json!({ "type": "ping" })).await;
    assert_eq!(socket.message().await["type"], "pong");
    world.end().await;
}

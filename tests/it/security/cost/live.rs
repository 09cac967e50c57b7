//! Live executions have a share of the machine per key; a key over its share is notified later, and
//! misses nothing.

use std::time::{Duration, Instant};

use entity::id::OrgId;
use entity::member::Role;
use serde_json::json;
use sortie::kernel::cost::execution_time::TimeUsed;
use sortie::kernel::cost::{CostAccount, CostOwner, Costs};
use sortie::kernel::limits::SOCKET_STREAMS;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::World;
use crate::harness::socket::Socket;

#[test]
fn what_is_taken_is_given_back_by_time() {
    let begin = Instant::now();
    let at = |seconds: f64| begin + Duration::from_secs_f64(seconds);
    let mut pace = TimeUsed::new(begin);
    assert_eq!(pace.wait(at(0.0), 0.5), None);
    pace.take(Duration::from_secs(1));
    assert_eq!(pace.wait(at(0.0), 0.5), None, "one second at once");
    pace.take(Duration::from_secs(2));
    assert_eq!(pace.wait(at(0.0), 0.5), Some(Duration::from_secs(4)));
    assert_eq!(pace.wait(at(2.0), 0.5), Some(Duration::from_secs(2)));
    assert_eq!(pace.wait(at(4.0), 0.5), None);
    // A clock that goes backwards restores no quota; a long idle time accumulates none.
    pace.take(Duration::from_secs(1));
    assert_eq!(pace.wait(at(3.0), 0.5), Some(Duration::from_secs(2)));
    assert_eq!(pace.wait(at(1_000.0), 0.5), None);
    pace.take(Duration::from_secs(2));
    assert_eq!(pace.wait(at(1_000.0), 0.5), Some(Duration::from_secs(2)));
}

both! {
    async fn many_large_subscriptions_of_one_key_hold_up_nobody(kind) {
        let world = World::with_auth(kind).await;
        let (greedy, other) = (world.key(Role::Viewer).await, world.key(Role::Manager).await);
        let steps: Vec<String> = (0..50).map(|i| format!("s{i}")).collect();
        let given: Vec<(&str, &str, serde_json::Value)> = steps.iter().map(|key| (key.as_str(), "custom", json!({}))).collect();
        let (run, steps) = world.own_run(&given, json!({})).await;
        let mut socket = Socket::open_as(world.address, &greedy).await;
        assert_eq!(socket.message().await["type"], "connection_ack");
        // Each one different, so that none is shared.
        let many = 20;
        for i in 0..many {
            let query = format!("subscription($id: ID) {{ stepStatusChanged(runId: $id) {{ a{i}: to name step {{ run {{ steps(first: 50) {{ nodes {{ id name status availableActions {{ action allowed blockedBecause }} }} }} }} }} }} }}");
            socket.subscribe(&i.to_string(), &query, json!({ "id": run })).await;
        }
        socket.say(json!({ "type": "ping" })).await;
        let message = socket.message().await;
        assert_eq!(message["type"], "pong", "{message}");
        world.followed_by(many).await;
        for step in &steps[..8] {
            let begun = Instant::now();
            let (_, started) = world.act_as(&other, "startStep", json!({ "id": step })).await;
            assert!(started.get("errors").is_none(), "{started}");
            assert!(begun.elapsed() < Duration::from_secs(10), "others wait");
        }
        // Every subscriber gets each event, in order.
        let mut came = vec![Vec::new(); many];
        while came.iter().any(|names| names.len() < 8) {
            let message = socket.message().await;
            assert_eq!(message["type"], "next", "{message}");
            let of: usize = message["id"].as_str().unwrap().parse().unwrap();
            let data = &message["payload"]["data"]["stepStatusChanged"];
            if data[format!("a{of}")] == "IN_PROGRESS" {
                came[of].push(data["name"].as_str().unwrap().to_owned());
            }
        }
        let wanted: Vec<String> = (0..8).map(|i| format!("s{i}")).collect();
        assert!(came.iter().all(|names| *names == wanted), "{came:?}");
        drop(socket);
        world.end().await;
    }
}

both! {
    async fn a_key_has_so_many_subscriptions_open(kind) {
        let world = World::with_config(kind, |config| config.streams_per_key = 5).await;
        let key = world.key(Role::Viewer).await;
        let mut sockets = Vec::new();
        for _ in 0..2 {
            let mut socket = Socket::open_as(world.address, &key).await;
            assert_eq!(socket.message().await["type"], "connection_ack");
            sockets.push(socket);
        }
        // The maximum of one socket, over all sockets.
        for i in 0..SOCKET_STREAMS {
            sockets[i % 2].subscribe(&i.to_string(), "subscription { events { kind } }", json!({})).await;
        }
        for socket in &mut sockets {
            socket.say(json!({ "type": "ping" })).await;
            assert_eq!(socket.message().await["type"], "pong");
        }
        let one_more = async |socket: &mut Socket| {
            socket.subscribe("more", "subscription { events { kind } }", json!({})).await;
            socket.say(json!({ "type": "ping" })).await;
            socket.message().await
        };
        let refused = one_more(&mut sockets[0]).await;
        assert_eq!((&refused["id"], &refused["type"]), (&json!("more"), &json!("error")), "{refused}");
        assert_eq!(refused["payload"][0]["extensions"]["code"], "LIMIT_EXCEEDED", "{refused}");
        assert_eq!(sockets[0].message().await["type"], "pong");
        // Ending one subscription allows another.
        sockets[1].say(json!({ "id": "1", "type": "complete" })).await;
        while one_more(&mut sockets[0]).await["type"] == "error" {
            assert_eq!(sockets[0].message().await["type"], "pong");
        }
        drop(sockets);
        world.end().await;
    }
}

both! {
    /// Memory held by a subscription counts for as long as it is open; an operation's id has a
    /// maximum length.
    async fn long_subscriptions_count_as_several(kind) {
        let world = World::with_config(kind, |config| config.streams_per_key = 5).await;
        let key = world.key(Role::Viewer).await;
        let mut socket = Socket::open_as(world.address, &key).await;
        assert_eq!(socket.message().await["type"], "connection_ack");
        let query = "subscription($s: String!) { events(filter: { kinds: [$s] }) { cursor } }";
        let mut refused = None;
        for i in 0..4 {
            socket.subscribe(&i.to_string(), query, json!({ "s": format!("own{i}.{}", "x".repeat(900_000)) })).await;
            socket.say(json!({ "type": "ping" })).await;
            let message = socket.message().await;
            if message["type"] == "error" {
                refused = Some(message["payload"][0]["extensions"]["code"].clone());
                assert_eq!(socket.message().await["type"], "pong");
            }
        }
        assert_eq!(refused, Some(json!("LIMIT_EXCEEDED")), "four of 900 KB are more than a hundred short ones");
        socket.subscribe(&"i".repeat(257), "subscription { events { kind } }", json!({})).await;
        assert!(matches!(socket.came().await, crate::harness::socket::Came::Closed(4400)));
        world.end().await;
    }
}

#[test]
fn a_debt_outlasts_whoever_made_it() {
    let costs = Costs::new(1024);
    let owner = CostOwner { org: OrgId::new(), key: uuid::Uuid::now_v7() };
    let payer = CostAccount::of(owner);
    let live = || costs.live(payer.clone());
    let all: Vec<_> = (0..4).map(|_| costs.item(&payer)).collect();
    let threads = all.into_iter().map(|item| std::thread::spawn(move || item.read(10).unwrap()));
    threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(costs.usage_count(), 0, "nothing is kept of who owes nothing");
    let one = live();
    one.take(Duration::from_secs(60));
    drop(one);
    costs.item(&payer).read(10).unwrap();
    assert!(live().wait(Instant::now()).is_some(), "it is owed yet");
    // Another key of the org is delayed by the org's own debt only.
    let other = CostOwner { key: uuid::Uuid::now_v7(), ..owner };
    let own = |owner: CostOwner| costs.live(CostAccount::of(owner)).wait(Instant::now()).unwrap();
    assert!(own(other) < own(owner));
    assert_eq!(costs.usage_count(), 2, "what owes nothing is gone");
}

/// Requests large responses with a credential without reading any, until one more is rejected.
async fn hoard(world: &World, key: &str) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    let body = json!({ "query": "{ records(first: 370) { nodes { attributes } } }" }).to_string();
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        // Bytes in the operating system's buffers count as read.
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut stream = socket.connect(world.address).await.unwrap();
        let head = format!(
            "POST /graphql HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            world.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut read = [0; 12];
        stream.read_exact(&mut read).await.unwrap();
        if read.ends_with(b"429") {
            return streams;
        }
        assert!(read.ends_with(b"200"), "{:?}", String::from_utf8_lossy(&read));
        streams.push(stream);
        assert!(streams.len() < 100, "answers that nobody reads are counted");
    }
}

both! {
    /// Executions shared by several keys count for their org alone: a key that holds too much ends
    /// its own streams only.
    async fn a_key_that_holds_too_much_ends_no_stream_of_another(kind) {
        let world = World::with_config(kind, |config| config.answer_mib = 6).await;
        world.fill(kind, &world.viewer, 370, 15_000).await;
        let (greedy, other, operator) =
            (world.key(Role::Viewer).await, world.key(Role::Viewer).await, world.key(Role::Operator).await);
        let about = json!({ "records": { "filter": { "kind": { "eq": "lead" } }, "limit": 370 } });
        let (run, steps) = world.own_run(&[("a", "review", about.clone()), ("b", "review", about)], json!({})).await;
        let watch = "subscription($id: ID) { stepStatusChanged(runId: $id) { to step { id records(first: 370) { nodes { attributes } } } } }";
        let mut sockets = Vec::new();
        for key in [&greedy, &other] {
            let mut socket = Socket::open_as(world.address, key).await;
            assert_eq!(socket.message().await["type"], "connection_ack");
            socket.subscribe("1", watch, json!({ "id": run })).await;
            socket.say(json!({ "type": "ping" })).await;
            assert_eq!(socket.message().await["type"], "pong");
            sockets.push(socket);
        }
        // One execution for both.
        world.followed_by(1).await;
        let held = hoard(&world, &greedy).await;
        for step in &steps[..1] {
            let (_, started) = world.act_as(&operator, "startStep", json!({ "id": step })).await;
            assert!(started.get("errors").is_none(), "{started}");
            // Both subscribed: each item is large, and the subscriber that does not read is
            // dropped.
            let each = sockets.iter_mut().enumerate().map(async |(reader, socket)| {
                loop {
                    let message = socket.message().await;
                    // There may be no memory left for the copy that the greedy key's socket needs.
                    if reader == 0 && message["type"] == "error" {
                        assert_eq!(message["payload"][0]["extensions"]["code"], "LIMIT_EXCEEDED", "{message}");
                        break;
                    }
                    assert_eq!(message["type"], "next", "{}", message.to_string().chars().take(400).collect::<String>());
                    let change = &message["payload"]["data"]["stepStatusChanged"];
                    if change["to"] == "IN_PROGRESS" && change["step"]["id"] == *step {
                        break;
                    }
                }
            });
            futures_util::future::join_all(each).await;
        }
        drop((held, sockets));
        world.end().await;
    }
}

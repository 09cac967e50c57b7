//! Bounds of a response, enforced while it is produced: by rows, values, aliases, rendered texts,
//! and the keys themselves.

use std::time::{Duration, Instant};

use entity::member::Role;
use serde_json::{Value, json};
use sortie::kernel::{large, limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::socket::Socket;
use crate::harness::{Kind, World};

/// A field under many aliases.
fn aliases(field: &str, count: usize) -> String {
    (0..count).map(|i| format!("a{i}: {field} ")).collect()
}

/// Another task of the only async thread gets its turn while large work lasts.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn large_work_leaves_the_async_threads() {
    for is_polled in [false, true] {
        let work = async move {
            let (send, receive) = std::sync::mpsc::channel();
            tokio::spawn(async move { send.send(()).unwrap() });
            let wait = move || receive.recv_timeout(Duration::from_secs(30));
            match is_polled {
                true => large::polled(limits::LARGE_BYTES, async move { wait() }).await,
                false => large::run(limits::LARGE_BYTES, wait).await,
            }
        };
        tokio::spawn(work).await.unwrap().expect("the other task did not run");
    }
    // Small work stays where it is.
    let here = std::thread::current().id();
    assert_eq!(large::run(1, || std::thread::current().id()).await, here);
}

async fn too_large(world: &World, key: &str, query: &str, variables: Value) {
    let begun = Instant::now();
    let (_, answer) = world.post_as(key, query, variables).await;
    let shown = answer.to_string().chars().take(400).collect::<String>();
    assert_eq!(answer["errors"][0]["extensions"]["code"], "LIMIT_EXCEEDED", "{shown}");
    assert!(answer.get("data").is_none_or(Value::is_null), "{shown}");
    assert!(answer["errors"][0]["message"].as_str().unwrap().contains("fewer"), "{shown}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

both! {
    async fn answers_are_bounded(kind) {
        let world = World::with_auth(kind).await;
        world.fill(kind, &world.viewer, 500, 15_000).await;
        let key = world.key(Role::Viewer).await;
        let of = |fields: &str| format!("{{ records(first: 500) {{ nodes {{ {fields} }} }} }}");
        // Seven MiB are returned in full, and so are fifteen.
        for (fields, least) in [("attributes".to_owned(), 7_000_000), (aliases("attributes", 2), 14_900_000)] {
            let (status, answer) = world.post_as(&key, &of(&fields), json!({})).await;
            assert_eq!((status, answer.get("errors")), (200, None));
            assert!(answer.to_string().len() > least);
        }
        // More is rejected, however it is requested: by aliases of one field, of one list, by long
        // aliases.
        too_large(&world, &key, &of(&aliases("attributes", 3)), json!({})).await;
        too_large(&world, &key, &of(&aliases("attributes", 190)), json!({})).await;
        let lists: String = (0..40).map(|i| format!("l{i}: records(first: 500) {{ nodes {{ attributes }} }} ")).collect();
        too_large(&world, &key, &format!("{{ {lists} }}"), json!({})).await;
        let long: String = (0..190).map(|i| format!("{}{i}: id ", "a".repeat(250))).collect();
        too_large(&world, &key, &of(&long), json!({})).await;
        // Columns that nothing selects are not read, and cost nothing. A field that its resolver answers
        // from the whole row has the row read, which is bounded even if little of it is returned.
        let lists = |count: usize, fields: &str| -> String {
            let list = |i| format!("l{i}: records(first: 500) {{ nodes {{ {fields} }} }} ");
            format!("{{ {} }}", (0..count).map(list).collect::<String>())
        };
        let (status, answer) = world.post_as(&key, &lists(40, "id"), json!({})).await;
        assert_eq!((status, answer.get("errors")), (200, None));
        assert_eq!(answer["data"]["l39"]["nodes"].as_array().map(Vec::len), Some(500));
        too_large(&world, &key, &lists(10, "id followUps(first: 1) { nodes { id } }"), json!({})).await;
        world.end().await;
    }
}

both! {
    async fn previews_are_part_of_the_answer(kind) {
        let world = World::new(kind).await;
        let (_, steps) = world.own_run(&[("write", "email", json!({}))], json!({})).await;
        world.fill(kind, &world.viewer, 300, 10).await;
        world.force("UPDATE record SET email = 'somebody@example.com'").await;
        let found = world.ask("{ records(first: 300) { nodes { id } } }", json!({})).await;
        let ids: Vec<&Value> = found["records"]["nodes"].as_array().unwrap().iter().map(|node| &node["id"]).collect();
        let body = "long ".repeat(12_000);
        let input = json!({ "stepId": steps[0], "recordIds": ids, "subject": "Hello", "body": body });
        let query = "query($input: PreviewStepEmailInput!) { previewStepEmail(input: $input) { mail { body again: body } } }";
        let (code, message) = world.refused(query, json!({ "input": input })).await;
        assert_eq!(code, "LIMIT_EXCEEDED", "{message}");
        let few = json!({ "stepId": steps[0], "recordIds": ids[..20], "subject": "Hello", "body": "long ".repeat(12_000) });
        let shown = world.ask(query, json!({ "input": few })).await;
        assert_eq!(shown["previewStepEmail"].as_array().unwrap().len(), 20);
        world.end().await;
    }
}

both! {
    /// Subscription items over WebSocket and SSE have the same bound, and so have queries over
    /// these.
    async fn items_are_bounded(kind) {
        let world = World::with_config(kind, |config| config.answer_mib = 1).await;
        let key = world.key(Role::Operator).await;
        world.fill(kind, &world.viewer, 200, 15_000).await;
        let query = "{ records(first: 200) { nodes { attributes } } }";
        let mut socket = Socket::open_as(world.address, &key).await;
        assert_eq!(socket.message().await["type"], "connection_ack");
        socket.subscribe("query", query, json!({})).await;
        let message = socket.message().await;
        assert_eq!((&message["type"], &message["payload"][0]["extensions"]["code"]), (&json!("error"), &json!("LIMIT_EXCEEDED")), "{message}");
        let sse = crate::harness::client().post(format!("http://{}/graphql", world.address)).bearer_auth(&key);
        let sse = sse.header("accept", "text/event-stream").json(&json!({ "query": query }));
        let told = sse.send().await.unwrap().text().await.unwrap();
        assert!(told.contains("LIMIT_EXCEEDED") && told.len() < 2_000, "{told}");
        world.end().await;
    }
}

/// The responses in flight of one key have a bound together, too; memory stays flat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_answers_at_once_are_bounded() {
    let world = World::with_auth(Kind::Sqlite).await;
    world.fill(Kind::Sqlite, &world.viewer, 500, 15_000).await;
    let key = world.key(Role::Viewer).await;
    let query = format!("{{ records(first: 500) {{ nodes {{ {} }} }} }}", aliases("attributes", 2));
    let all = (0..30).map(|_| world.post_as(&key, &query, json!({})));
    let all = futures_util::future::join_all(all).await;
    let served = all.iter().filter(|(status, _)| *status == 200).count();
    assert!((1..30).contains(&served), "{served} of 30 were served");
    for (status, answer) in all.iter().filter(|(status, _)| *status != 200) {
        assert_eq!((*status, &answer["errors"][0]["extensions"]["code"]), (429, &json!("LIMIT_EXCEEDED")), "{answer}");
    }
    // None of the memory is counted any longer.
    let (status, _) = world.post_as(&key, &query, json!({})).await;
    assert_eq!(status, 200);
    world.end().await;
}

/// A response counts for its key until the client has read it, over every transport.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_are_counted() {
    let world = World::with_auth(Kind::Sqlite).await;
    world.fill(Kind::Sqlite, &world.viewer, 500, 15_000).await;
    let key = world.key(Role::Viewer).await;
    let query = format!("{{ records(first: 500) {{ nodes {{ {} }} }} }}", aliases("attributes", 2));
    let body = json!({ "query": query }).to_string();
    let mut streams = Vec::new();
    let mut refused = false;
    for _ in 0..20 {
        // The client sends a request, reads the response headers, and then nothing.
        let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
        let head = format!(
            "POST /graphql HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {key}\r\nAccept: text/event-stream\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            world.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut first = vec![0; 4_096];
        let mut read = 0;
        // The headers, the comment that begins the stream, and the start of the response.
        while read < 1_000 && !refused {
            read += stream.read(&mut first[read..]).await.unwrap();
            refused = String::from_utf8_lossy(&first[..read]).contains("LIMIT_EXCEEDED");
        }
        streams.push(stream);
        if refused {
            break;
        }
    }
    assert!(refused, "{} answers of 15 MB wait for their readers", streams.len());
    drop(streams);
    // A response without a reader is not counted for long.
    let small = "{ records(first: 1) { nodes { id } } }";
    while world.post_as(&key, small, json!({})).await.1.get("errors").is_some() {
        tokio::task::yield_now().await;
    }
    world.end().await;
}

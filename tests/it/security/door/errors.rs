//! Errors of requests that are not executed: each names its field, a method that is not accepted has
//! a code of its own, and a socket is closed with the code for what its client did.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::bodies::{bearer, socket};
use super::{head, header, said};
use crate::harness::{Kind, World, client};

/// Bodies of a POST, and the field that the error names.
fn bodies() -> Vec<(Value, &'static str)> {
    let two = "query A { viewer { role } } query B { viewer { role } }";
    vec![
        (json!({ "query": two, "operationName": "C" }), "operationName"),
        (json!({ "query": two }), "operationName"),
        (json!({ "query": two, "operationName": 1 }), "operationName"),
        (json!({ "query": 1 }), "query"),
        (json!({ "operationName": "A" }), "query"),
        (json!({ "query": two, "variables": [] }), "variables"),
        (json!({ "query": two, "extensions": "x" }), "extensions"),
        (json!({ "query": two, "documentId": "d" }), "documentId"),
        (json!({ "query": two, "extensions": { "persistedQuery": 1 } }), "extensions.persistedQuery"),
        (
            json!({ "query": two, "extensions": { "persistedQuery": { "version": 1, "sha256Hash": "0" } } }),
            "extensions.persistedQuery.sha256Hash",
        ),
        (json!([{ "query": two }]), "body"),
        (json!("query"), "body"),
        (json!({ "query": "subscription { events { kind } }" }), "Accept"),
        (json!({ "query": "subscription S { a: events { kind } b: events { kind } }" }), "S"),
        (json!({ "query": "{ viewer { ...F } } fragment F on Viewer { ...F }" }), "F"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_name_their_field() {
    let world = World::new(Kind::Sqlite).await;
    let url = format!("http://{}/graphql", world.address);
    let answer =
        async |request: reqwest::RequestBuilder| -> Value { request.send().await.unwrap().json().await.unwrap() };
    let is_about = |told: &Value, field: &str| {
        let extensions = &told["errors"][0]["extensions"];
        assert_eq!((&extensions["code"], &extensions["field"]), (&json!("BAD_USER_INPUT"), &json!(field)), "{told}");
    };
    for (body, field) in bodies() {
        is_about(&answer(client().post(&url).json(&body)).await, field);
    }
    is_about(&answer(client().post(&url).header("content-type", "application/json").body("{")).await, "body");
    is_about(&answer(client().post(&url).header("content-type", "text/plain").body("{}")).await, "Content-Type");
    is_about(
        &answer(client().post(&url).header("content-encoding", "gzip").json(&json!({}))).await,
        "Content-Encoding",
    );
    is_about(&answer(client().get(&url).header("accept", "image/png")).await, "Accept");
    for (query, field) in [
        ("?query={viewer{role}}&variables={", "variables"),
        ("?query={viewer{role}}&query={viewer{role}}", "query"),
        ("", "query"),
    ] {
        is_about(&answer(client().get(format!("{url}{query}"))).await, field);
    }
    let import = format!("http://{}/import/records", world.address);
    for (query, field) in [("", "kind"), ("?kind=lead&nope=1", "nope")] {
        let request = client().post(format!("{import}{query}")).header("content-type", "text/csv").body("email\n");
        is_about(&answer(request).await, field);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_that_are_not_accepted_have_their_code() {
    let world = World::new(Kind::Sqlite).await;
    let mutation = "/graphql?query=mutation{createGoal(input:{name:%22x%22}){goal{id}}}";
    for (method, path, allowed) in [
        ("DELETE", "/healthz", "GET"),
        ("DELETE", "/graphql", "POST"),
        ("PUT", "/import/records", "POST"),
        ("PATCH", "/graphql/stream", "PUT"),
        ("GET", mutation, "POST"),
    ] {
        let url = format!("http://{}{path}", world.address);
        let answer = client().request(method.parse().unwrap(), url).send().await.unwrap();
        assert_eq!(answer.status(), 405, "{method} {path}");
        let allow = answer.headers()["allow"].to_str().unwrap().to_owned();
        assert!(allow.split(',').any(|one| one.trim() == allowed), "{method} {path}: {allow}");
        let told: Value = answer.json().await.unwrap();
        assert_eq!(told["errors"][0]["extensions"]["code"], "METHOD_NOT_ALLOWED", "{told}");
    }
    world.end().await;
}

/// More headers than the server takes: 431, without a body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_has_a_hundred_headers() {
    let world = World::new(Kind::Sqlite).await;
    for (count, status) in [(98, "200"), (101, "431")] {
        let headers: String = (0..count).map(|i| format!("X-H{i}: 1\r\n")).collect();
        let request = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        let told = head(&mut said(world.address, request.as_bytes()).await).await;
        assert!(told.starts_with(&format!("HTTP/1.1 {status}")), "{count}: {told}");
        assert!(status == "200" || header(&told, "content-length").is_none_or(|length| length == "0"), "{told}");
    }
    world.end().await;
}

/// Frames that violate the WebSocket protocol itself are answered with its own close codes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn violations_of_the_websocket_protocol_have_its_codes() {
    let world = World::with_auth(Kind::Sqlite).await;
    let named = bearer(&world.shown.lock().unwrap().clone().unwrap());
    let too_long = [&[0x81, 0x80 | 127][..], &(1024 * 1024 + 1_u64).to_be_bytes(), &[0; 4]].concat();
    for (what, bytes, code) in [
        ("a reserved bit", vec![0xc1, 0x80, 0, 0, 0, 0], 1002),
        ("an unknown opcode", vec![0x83, 0x80, 0, 0, 0, 0], 1002),
        ("no mask", vec![0x81, 0x01, b' '], 1002),
        ("a continuation of nothing", vec![0x80, 0x80, 0, 0, 0, 0], 1002),
        ("a fragmented ping", vec![0x09, 0x80, 0, 0, 0, 0], 1002),
        ("no UTF-8", vec![0x81, 0x81, 0, 0, 0, 0, 0xff], 1007),
        ("too long", too_long, 1009),
        ("no message of the protocol", vec![0x81, 0x81, 0, 0, 0, 0, b'1'], 4400),
        ("bytes", vec![0x82, 0x81, 0, 0, 0, 0, b'1'], 4400),
    ] {
        let mut stream = socket(&world, &named).await;
        stream.write_all(&bytes).await.unwrap();
        let mut close = [0; 4];
        let read = stream.read_exact(&mut close);
        tokio::time::timeout(std::time::Duration::from_secs(30), read).await.expect(what).expect(what);
        assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, code), "{what}");
    }
    world.end().await;
}

//! An error of one operation ends neither its socket nor the socket's other operations.

use entity::member::Role;
use futures_util::SinkExt;
use serde_json::{Value, json};
use sortie::kernel::limits;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::World;
use crate::harness::socket::{Came, Socket};

/// The next message about an operation; others may come meanwhile.
async fn about(socket: &mut Socket, id: &str) -> Value {
    loop {
        let message = socket.message().await;
        if message["id"] == id {
            return message;
        }
    }
}

/// A text of a few hundred kilobytes that takes more memory when it is parsed than a key may have
/// with responses of one megabyte.
fn dense() -> Value {
    json!(vec![0; 250_000])
}

/// Operations that a viewer may not execute, with the code of their error.
fn refused() -> Vec<(String, Value, &'static str)> {
    let aliases: String = (0..=limits::QUERY_ALIASES).map(|i| format!("a{i}: role ")).collect();
    vec![
        ("{".to_owned(), json!({}), "BAD_USER_INPUT"),
        ("{ nope }".to_owned(), json!({}), "BAD_USER_INPUT"),
        ("query($n: Int!) { goals(first: $n) { totalCount } }".to_owned(), json!({ "n": "x" }), "BAD_USER_INPUT"),
        ("query A { viewer { role } } query B { viewer { role } }".to_owned(), json!({}), "BAD_USER_INPUT"),
        ("subscription { events(after: \"x\") { kind } }".to_owned(), json!({}), "BAD_USER_INPUT"),
        ("mutation { createGoal(input: { name: \"x\" }) { goal { id } } }".to_owned(), json!({}), "FORBIDDEN"),
        (format!("{{ viewer {{ {aliases} }} }}"), json!({}), "LIMIT_EXCEEDED"),
        // Too large to be read now.
        ("query($x: JSON) { viewer { role } }".to_owned(), json!({ "x": dense() }), "LIMIT_EXCEEDED"),
    ]
}

both! {
    async fn an_error_ends_its_operation_only(kind) {
        let world = World::with_config(kind, |config| config.answer_mib = 1).await;
        let key = world.key(Role::Viewer).await;
        let mut socket = Socket::open_as(world.address, &key).await;
        assert_eq!(socket.message().await["type"], "connection_ack");
        socket.subscribe("log", "subscription { events { kind } }", json!({})).await;
        world.followed_by(1).await;
        for (query, variables, code) in refused() {
            socket.subscribe("1", &query, variables).await;
            let message = about(&mut socket, "1").await;
            assert_eq!((&message["type"], &message["payload"][0]["extensions"]["code"]), (&json!("error"), &json!(code)), "{query:.200}: {message}");
            assert!(message["payload"][0]["message"].is_string(), "{message}");
            // Nothing follows an error, and its id is free again.
            socket.subscribe("1", "{ viewer { role } }", json!({})).await;
            let message = about(&mut socket, "1").await;
            assert_eq!((&message["type"], &message["payload"]["data"]["viewer"]["role"]), (&json!("next"), &json!("VIEWER")), "{query:.200}: {message}");
            assert_eq!(about(&mut socket, "1").await["type"], "complete");
        }
        // JSON that no value can be made of is about its operation, too.
        for (value, field) in [("{\"y\": [0, 1e400]}", "x.y[1]".to_owned()), (&*format!("{}{}", "[".repeat(200), "]".repeat(200)), "payload".to_owned())] {
            let payload = format!("{{\"query\": \"query($x: JSON) {{ viewer {{ role }} }}\", \"variables\": {{\"x\": {value}}}}}");
            let text = format!("{{\"type\": \"subscribe\", \"payload\": {payload}, \"id\": \"1\"}}");
            socket.0.send(Message::text(text)).await.unwrap();
            let message = about(&mut socket, "1").await;
            let extensions = &message["payload"][0]["extensions"];
            assert_eq!((&message["type"], &extensions["code"], &extensions["field"]), (&json!("error"), &json!("BAD_USER_INPUT"), &json!(field)), "{message}");
        }
        // An error of a field is part of its response.
        socket.subscribe("1", "{ viewer { role } node(id: \"nonsense\") { id } }", json!({})).await;
        let message = about(&mut socket, "1").await;
        assert_eq!((&message["type"], &message["payload"]["data"]["viewer"]["role"]), (&json!("next"), &json!("VIEWER")), "{message}");
        assert!(message["payload"]["errors"][0]["extensions"]["code"].is_string(), "{message}");
        assert_eq!(about(&mut socket, "1").await["type"], "complete");
        // The other operation runs as before.
        world.leads(1).await;
        let message = about(&mut socket, "log").await;
        assert_eq!(message["type"], "next", "{message}");
        // A message that can't be read, and is about no operation or a running one, ends the socket.
        socket.subscribe("log", "query($x: JSON) { viewer { role } }", json!({ "x": dense() })).await;
        let closed = async |socket: &mut Socket| loop {
            if let Came::Closed(code) = socket.came().await {
                return code;
            }
        };
        assert_eq!(closed(&mut socket).await, 4409);
        let mut socket = Socket::open_as(world.address, &key).await;
        socket.say(json!({ "type": "ping", "payload": { "x": dense() } })).await;
        assert_eq!(closed(&mut socket).await, 1013);
        for text in ["{\"type\": \"ping\", \"payload\": {\"x\": 1e400}}", "{\"type\": \"subscribe\", \"id\": \"1\", \"payload\": "] {
            let mut socket = Socket::open_as(world.address, &key).await;
            socket.0.send(Message::text(text)).await.unwrap();
            assert_eq!(closed(&mut socket).await, 4400);
        }
        world.end().await;
    }
}

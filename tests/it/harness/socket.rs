//! A minimal client of graphql-transport-ws.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

pub struct Socket(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

/// A frame received from the server.
#[derive(Debug)]
pub enum Came {
    Message(Value),
    Closed(u16),
}

impl Socket {
    /// Connects without sending anything.
    pub async fn connect(address: std::net::SocketAddr) -> Self {
        let mut request = format!("ws://{address}/graphql").into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", "graphql-transport-ws".parse().unwrap());
        Self(tokio_tungstenite::connect_async(request).await.unwrap().0)
    }

    /// Connects and sends this credential in the payload of `connection_init`.
    pub async fn open_as(address: std::net::SocketAddr, shown: &str) -> Self {
        let mut socket = Self::connect(address).await;
        let payload = json!({ "Authorization": format!("Bearer {shown}") });
        socket.say(json!({ "type": "connection_init", "payload": payload })).await;
        socket
    }

    /// Connects and initialises the protocol.
    pub async fn open(address: std::net::SocketAddr) -> Self {
        let mut socket = Self::connect(address).await;
        socket.say(json!({ "type": "connection_init" })).await;
        assert_eq!(socket.message().await["type"], "connection_ack");
        socket
    }

    pub async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    pub async fn subscribe(&mut self, id: &str, query: &str, variables: Value) {
        self.say(json!({ "id": id, "type": "subscribe", "payload": { "query": query, "variables": variables } })).await;
    }

    pub async fn came(&mut self) -> Came {
        // One deadline for all frames, because the server's pings are frames, too.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let frame = tokio::time::timeout_at(deadline, self.0.next()).await.expect("nothing came");
            match frame {
                Some(Ok(Message::Text(text))) => return Came::Message(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => return Came::Closed(frame.map_or(1005, |frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Came::Closed(1006),
            }
        }
    }

    pub async fn message(&mut self) -> Value {
        match self.came().await {
            Came::Message(message) => message,
            Came::Closed(code) => panic!("closed with {code}"),
        }
    }

    /// The data of the next item.
    pub async fn next(&mut self) -> Value {
        let message = self.message().await;
        assert_eq!(message["type"], "next", "{message:#}");
        message["payload"]["data"].clone()
    }
}

/// A subscriber of the whole log that disconnects and resumes after every `cut_after` events.
pub struct Live {
    seen: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Live {
    /// Subscribes to the log from its first event.
    pub fn follow(address: std::net::SocketAddr, cut_after: usize) -> Self {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = seen.clone();
        let task = tokio::spawn(async move {
            let mut after = crate::harness::cursor::at(0);
            loop {
                let mut socket = Socket::open(address).await;
                let query = "subscription($after: String) { events(after: $after) { cursor } }";
                socket.subscribe("log", query, json!({ "after": after })).await;
                for _ in 0..cut_after {
                    after = socket.next().await["events"]["cursor"].as_str().unwrap().to_owned();
                    kept.lock().unwrap().push(after.clone());
                }
            }
        });
        Self { seen, task }
    }

    /// Waits until it has received as many events as the log has, and asserts that they are exactly
    /// the log, once each, in order.
    pub async fn saw_all_of(self, log: &[Value]) {
        let wanted: Vec<&str> = log.iter().map(|event| event["cursor"].as_str().unwrap()).collect();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while self.seen.lock().unwrap().len() < wanted.len() && tokio::time::Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        self.task.abort();
        assert_eq!(*self.seen.lock().unwrap(), wanted);
    }
}

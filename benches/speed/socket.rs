//! A WebSocket client of the protocol graphql-transport-ws. It shares the server's cores, so it does
//! little.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::Server;

/// A socket that has subscribed: every client with an operation id of its own, as graphql-ws does.
pub async fn subscribe(server: &Server, query: &str, i: usize) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let head = "GET /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));
    say(&mut stream, r#"{"type":"connection_init"}"#).await;
    let id = uuid::Uuid::from_u128(i as u128);
    say(&mut stream, &json!({ "id": id, "type": "subscribe", "payload": { "query": query } }).to_string()).await;
    stream
}

/// A client's frame, masked with zeros.
async fn say(stream: &mut TcpStream, text: &str) {
    let mut frame = vec![0x81];
    match text.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 126);
            frame.extend((long as u16).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    stream.write_all(&frame).await.unwrap();
}

/// The answer to a ping.
pub async fn pong(stream: &mut TcpStream, payload: &[u8]) {
    let mut pong = vec![0x8a, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    pong.extend(payload);
    stream.write_all(&pong).await.unwrap();
}

/// The first frame from the server: its opcode, and the start and end of its payload.
pub fn frame(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (start, length) = match *bytes.get(1)? & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).unwrap()),
        short => (2, usize::from(short)),
    };
    (bytes.len() >= start + length).then_some((bytes[0] & 0x0f, start, start + length))
}

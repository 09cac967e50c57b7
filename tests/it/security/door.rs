//! Unauthenticated clients: connections, bodies before credentials, failed logins, proxies.

mod bodies;
pub(super) mod connections;
mod errors;
mod issuer;
mod kept;
mod logins;
pub(super) mod pages;
mod secrets;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A connection to which these bytes were sent, as far as the server accepted them.
async fn said(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(bytes).await;
    stream
}

/// The headers of the next response, or the part received before the connection ended.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match timeout(Duration::from_secs(30), stream.read(&mut byte)).await.expect("no answer came") {
            Ok(1) => head.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Waits for the connection's end; returns the bytes received until then.
async fn rest(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let _ = timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await.expect("it was kept open");
    String::from_utf8_lossy(&rest).into_owned()
}

/// Value of a response header.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

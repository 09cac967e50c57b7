//! A minimal HTTP client: one kept-alive connection, a request, its response. It shares the
//! server's cores, so it does little.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::{Cpu, Server};

/// One connection.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Sends a request body and returns the response body.
    pub async fn post(&mut self, path: &str, kind: &str, body: &[u8]) -> &[u8] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        self.buffer.clear();
        loop {
            assert!(self.stream.read_buf(&mut self.buffer).await.unwrap() > 0, "the server hung up");
            let Some(end) = find(&self.buffer, b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&self.buffer[..end]).unwrap().to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap();
            let whole = end + 4 + length.trim().parse::<usize>().unwrap();
            while self.buffer.len() < whole {
                assert!(self.stream.read_buf(&mut self.buffer).await.unwrap() > 0, "the server hung up");
            }
            return &self.buffer[end + 4..whole];
        }
    }

    /// The bytes of the response, which must have no errors.
    pub async fn bytes(&mut self, body: &[u8]) -> &[u8] {
        let answer = self.post("/graphql", "application/json", body).await;
        let fine = answer.starts_with(b"{\"data\"") && find(answer, b"\"errors\":[").is_none();
        assert!(fine, "{}: {}", String::from_utf8_lossy(body), String::from_utf8_lossy(answer));
        answer
    }

    pub async fn ask(&mut self, query: &str, variables: Value) -> Value {
        let answer: Value = serde_json::from_slice(self.bytes(&body(query, &variables)).await).unwrap();
        answer["data"].clone()
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

pub fn body(query: &str, variables: &Value) -> Vec<u8> {
    json!({ "query": query, "variables": variables }).to_string().into_bytes()
}

/// The measurements of a series of requests.
pub struct Took {
    pub each: Vec<Duration>,
    pub all: Duration,
    pub cpu: Cpu,
}

impl Took {
    pub fn percentile(&self, percent: usize) -> f64 {
        percentile(&self.each, percent)
    }

    /// Per 1,000 requests.
    pub fn cpu_of(&self, seconds: f64) -> f64 {
        seconds * 1_000.0 / self.each.len() as f64
    }

    pub fn per_second(&self) -> f64 {
        self.each.len() as f64 / self.all.as_secs_f64()
    }

    /// `| p50 ms | p99 ms | /s | server's CPU s per 1,000 | the database's |`
    pub fn columns(&self) -> String {
        format!(
            "{:.2} ms | {:.2} ms | {:.0} | {:.3} | {}",
            self.percentile(50),
            self.percentile(99),
            self.per_second(),
            self.cpu_of(self.cpu.server),
            self.cpu.database.map_or("in it".to_owned(), |seconds| format!("{:.3}", self.cpu_of(seconds)))
        )
    }
}

pub fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100].as_secs_f64() * 1_000.0
}

/// Sends chains of bodies over at most 8 concurrent connections; the bodies of a chain are sent one
/// after the other.
pub async fn load(server: &Server, chains: Vec<Vec<Vec<u8>>>) -> Took {
    let (chains, next) = (Arc::new(chains), Arc::new(AtomicUsize::new(0)));
    let (begun, cpu) = (Instant::now(), server.cpu());
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..chains.len().min(8) {
        let (chains, next, address) = (chains.clone(), next.clone(), server.address);
        workers.spawn(async move {
            let (mut client, mut each) = (Client::connect(address).await, Vec::new());
            while let Some(chain) = chains.get(next.fetch_add(1, Ordering::Relaxed)) {
                for body in chain {
                    let begun = Instant::now();
                    client.bytes(body).await;
                    each.push(begun.elapsed());
                }
            }
            each
        });
    }
    let mut each = workers.join_all().await.concat();
    let all = begun.elapsed();
    each.sort();
    Took { each, all, cpu: server.cpu().since(cpu) }
}

/// Sends the same body a number of times over four connections.
pub async fn repeat(server: &Server, body: &[u8], times: usize) -> Took {
    let chain = vec![body.to_vec(); (times / 4).max(1)];
    load(server, vec![chain; 4]).await
}

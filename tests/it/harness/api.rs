//! A stand-in for an external API: it responds as configured and records the requests.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, Uri};
use serde_json::{Value, json};

/// One response of the stand-in.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A status, a header and a body.
    Says(u16, Option<(&'static str, String)>, String),
    /// No response, for as long as the client waits.
    Silent,
    /// A body shorter than its `Content-Length`.
    CutOff,
}

impl Answer {
    pub fn json(status: u16, body: Value) -> Self {
        Self::Says(status, None, body.to_string())
    }
}

#[derive(Default)]
struct Inner {
    next: VecDeque<Answer>,
    asked: Vec<Value>,
    usual: Option<Answer>,
    by_path: Vec<(String, Answer)>,
}

#[derive(Clone)]
pub struct Api {
    pub address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
}

impl Api {
    /// Starts a stand-in that gives this response unless another one is set.
    pub async fn start(usual: Answer) -> Self {
        let inner = Arc::new(Mutex::new(Inner { usual: Some(usual), ..Inner::default() }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(inner.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, inner }
    }

    /// Sets the next responses, which precede the usual one.
    pub fn then(&self, answers: impl IntoIterator<Item = Answer>) {
        self.inner.lock().unwrap().next.extend(answers);
    }

    /// Sets the response for paths with this suffix.
    pub fn on(&self, path: &str, answer: Answer) {
        self.inner.lock().unwrap().by_path.push((path.to_owned(), answer));
    }

    /// Requests received so far: `{method, path, body, key, headers}`.
    pub fn asked(&self) -> Vec<Value> {
        self.inner.lock().unwrap().asked.clone()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn answer(
    State(inner): State<Arc<Mutex<Inner>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let parsed = serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&body)));
    let answer = {
        let mut inner = inner.lock().unwrap();
        inner.asked.push(json!({
            "method": method.as_str(), "path": uri.to_string(), "body": parsed,
            "key": text("idempotency-key"), "authorization": text("authorization"),
        }));
        let path = uri.path();
        let by_path = inner.by_path.iter().rev().find(|(end, _)| path.ends_with(end)).map(|(_, answer)| answer.clone());
        by_path.or_else(|| inner.next.pop_front()).or(inner.usual.clone()).unwrap()
    };
    match answer {
        Answer::Says(status, header, body) => {
            let mut response = Response::builder().status(status).header("content-type", "application/json");
            if let Some((name, value)) = header {
                response = response.header(name, value);
            }
            response.body(Body::from(body)).unwrap()
        }
        Answer::Silent => std::future::pending().await,
        Answer::CutOff => {
            let half = futures_util::stream::iter([Ok("{\"half\": "), Err(std::io::Error::other("gone"))]);
            Response::new(Body::from_stream(half))
        }
    }
}

//! The connection to Sortie: typed requests that are repeated while the server is away, and a
//! subscription that survives cuts.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use graphql_client::{Error, GraphQLQuery, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::operations::{Changes, changes};

const ATTEMPTS: u32 = 20;
/// The server pings every 20 s: a socket that is silent for longer is lost.
const SILENCE: Duration = Duration::from_secs(50);

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// A failed request, or the end of a subscription.
pub enum Failure {
    /// Worth another attempt after the wait; a subscription resumes after the cursor if there is
    /// one.
    Temporary { why: String, wait: Duration, cursor: Option<String> },
    /// Every further attempt would fail as well.
    Final(String),
}

impl Failure {
    fn lost(why: impl ToString) -> Self {
        Self::Temporary { why: why.to_string(), wait: Duration::ZERO, cursor: None }
    }

    /// The failure that the server's errors describe. Temporary ones say when to come back, those
    /// of a subscription where to resume. The reason `BEYOND_END` means that the database is
    /// another one, or was restored: a program that shows data reloads it then, and begins anew
    /// with `viewer { cursor }`.
    fn of_errors(errors: &[Error]) -> Self {
        let extensions = errors.first().and_then(|error| error.extensions.as_ref());
        let extension = |name: &str| extensions.and_then(|all| all.get(name));
        let described = errors.iter().map(|error| {
            let code = error.extensions.as_ref().and_then(|all| all.get("code")?.as_str()).unwrap_or("ERROR");
            format!("{code}: {}", error.message)
        });
        let why = described.collect::<Vec<_>>().join("; ");
        let seconds = extension("retryAfterSeconds").and_then(Value::as_u64);
        let cursor = extension("cursor").and_then(Value::as_str).map(str::to_owned);
        if seconds.is_none() && cursor.is_none() {
            return Self::Final(why);
        }
        Self::Temporary { why, wait: Duration::from_secs(seconds.unwrap_or_default()), cursor }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Temporary { why, .. } | Self::Final(why) => f.write_str(why),
        }
    }
}

impl From<tungstenite::Error> for Failure {
    fn from(err: tungstenite::Error) -> Self {
        match err {
            tungstenite::Error::Url(_) | tungstenite::Error::HttpFormat(_) => Self::Final(err.to_string()),
            err => Self::lost(err),
        }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(err: reqwest::Error) -> Self {
        // The cause is in the sources: connection refused, a URL without a supported scheme.
        let mut why = err.to_string();
        let mut source = std::error::Error::source(&err);
        while let Some(inner) = source {
            why = format!("{why}: {inner}");
            source = inner.source();
        }
        Self::lost(why)
    }
}

pub struct Sortie {
    http: reqwest::Client,
    url: String,
    key: Option<String>,
}

impl Sortie {
    pub fn new(url: String, key: Option<String>) -> Self {
        Self { http: reqwest::Client::new(), url, key }
    }

    /// Sends a request, again while the server can't be reached or says when to come back. What
    /// the server did with the first one is unknown, so a mutation needs an idempotency key.
    pub async fn request<Q: GraphQLQuery>(&self, variables: Q::Variables) -> Result<Q::ResponseData, Failure> {
        let body = json!(Q::build_query(variables));
        let mut attempt = 1;
        loop {
            match self.post(&body).await {
                Err(Failure::Temporary { wait, .. }) if attempt < ATTEMPTS => {
                    sleep(wait.max(Duration::from_millis(500))).await;
                }
                end => return end,
            }
            attempt += 1;
        }
    }

    async fn post<Data: for<'de> Deserialize<'de>>(&self, body: &Value) -> Result<Data, Failure> {
        let mut request = self.http.post(&self.url).json(body);
        request = request.header("accept", "application/graphql-response+json");
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let response: Response<Data> = request.send().await?.json().await?;
        match (response.data, response.errors) {
            (Some(data), None) => Ok(data),
            (_, errors) => Err(Failure::of_errors(&errors.unwrap_or_default())),
        }
    }

    /// The status changes of a campaign's runs after a cursor.
    pub fn follow(&self, campaign: String, after: String) -> Followed<'_> {
        Followed { sortie: self, campaign, after, socket: None }
    }
}

/// A subscription to status changes that resumes after each temporary end.
pub struct Followed<'a> {
    sortie: &'a Sortie,
    campaign: String,
    /// The cursor of the newest item.
    after: String,
    socket: Option<Socket>,
}

/// The messages of graphql-transport-ws that a server sends.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ServerMessage {
    ConnectionAck {},
    Next { payload: Response<changes::ResponseData> },
    Error { payload: Vec<Error> },
    Complete {},
    Ping {},
    Pong {},
}

impl Followed<'_> {
    /// The next change: each once, in the order of the log.
    pub async fn next(&mut self) -> Result<changes::ChangesRunStatusChanged, Failure> {
        let mut attempt = 1;
        loop {
            match self.item().await {
                Ok(item) => {
                    self.after.clone_from(&item.cursor);
                    return Ok(item);
                }
                Err(Failure::Temporary { wait, cursor, .. }) if attempt < ATTEMPTS => {
                    self.cut();
                    self.after = cursor.unwrap_or_else(|| self.after.clone());
                    sleep(wait.max(Duration::from_millis(100 * u64::from(attempt)))).await;
                }
                Err(failure) => return Err(failure),
            }
            attempt += 1;
        }
    }

    /// Cuts the connection without a word, as a network goes away.
    pub fn cut(&mut self) {
        self.socket = None;
    }

    async fn item(&mut self) -> Result<changes::ChangesRunStatusChanged, Failure> {
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.open().await?,
        };
        let payload = match receive(&mut socket).await? {
            ServerMessage::Next { payload } => payload,
            ServerMessage::Error { payload } => return Err(Failure::of_errors(&payload)),
            // There may be more behind the newest cursor.
            _ => return Err(Failure::lost("the server completed the subscription")),
        };
        self.socket = Some(socket);
        match payload.data {
            Some(data) => Ok(data.run_status_changed),
            None => Err(Failure::of_errors(&payload.errors.unwrap_or_default())),
        }
    }

    /// Connects, authenticates, and subscribes after the newest cursor.
    async fn open(&self) -> Result<Socket, Failure> {
        let mut request = self.sortie.url.replacen("http", "ws", 1).into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("graphql-transport-ws"));
        let (mut socket, _) = connect_async(request).await?;
        let login = self.sortie.key.as_ref().map(|key| json!({ "authorization": format!("Bearer {key}") }));
        send(&mut socket, json!({ "type": "connection_init", "payload": login })).await?;
        let ServerMessage::ConnectionAck {} = receive(&mut socket).await? else {
            return Err(Failure::Final("the server sent no connection_ack".into()));
        };
        let variables = changes::Variables { campaign: self.campaign.clone(), after: self.after.clone() };
        let payload = Changes::build_query(variables);
        send(&mut socket, json!({ "id": "1", "type": "subscribe", "payload": payload })).await?;
        Ok(socket)
    }
}

async fn send(socket: &mut Socket, message: Value) -> Result<(), Failure> {
    Ok(socket.send(Message::text(message.to_string())).await?)
}

/// The next message, after those that only keep the connection open.
async fn receive(socket: &mut Socket) -> Result<ServerMessage, Failure> {
    loop {
        let frame = timeout(SILENCE, socket.next()).await.map_err(Failure::lost)?;
        let text = match frame.ok_or_else(|| Failure::lost("the connection ended"))?? {
            Message::Text(text) => text,
            // From 4400 on: the key was refused or is no longer valid (4403), or this client is wrong.
            Message::Close(Some(close)) if u16::from(close.code) >= 4400 => {
                return Err(Failure::Final(format!("the server closed the socket: {close}")));
            }
            Message::Close(close) => {
                return Err(Failure::lost(close.map_or("closed".to_owned(), |close| close.to_string())));
            }
            _ => continue,
        };
        match serde_json::from_str(&text).map_err(|err| Failure::Final(format!("{err}: {text}")))? {
            ServerMessage::Ping {} => send(socket, json!({ "type": "pong" })).await?,
            ServerMessage::Pong {} => {}
            message => return Ok(message),
        }
    }
}

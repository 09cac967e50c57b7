//! GraphQL over WebSocket by the protocol graphql-transport-ws. One task reads, one writes, and one
//! runs per operation; all queues between them are bounded.

mod close;
mod outgoing;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use close::{Close, forbidden, violation};
use outgoing::{Operation, Outgoing, Queued, QueuedItem, enqueue, error, send, write};

use super::accept::Type;
use super::address_limits::BufferedBytes;
use super::auth::{Principal, StreamPermit};
use super::connections::ConnectionPermit;
use super::error::RequestError;
use super::execute::Item;
use super::items::items;
use super::origin::Peer;
use super::request::{GraphqlRequest, unread_payload};
use super::response::refuse;
use super::{App, too_slow};
use crate::kernel::limits;

const PROTOCOL: &str = "graphql-transport-ws";

/// Upgrades a request to a WebSocket if its origin is allowed.
pub(super) fn upgrade(
    app: App,
    peer: Peer,
    permit: ConnectionPermit,
    headers: &HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    if let Err(error) = app.check_origin(headers) {
        return refuse(Type::Json, &error);
    }
    let handshake = Handshake { peer, permit, headers: headers.clone() };
    upgrade
        .protocols([PROTOCOL])
        .max_message_size(limits::SOCKET_MESSAGE_BYTES)
        .max_frame_size(limits::SOCKET_MESSAGE_BYTES)
        .read_buffer_size(4 * 1024)
        .write_buffer_size(4 * 1024)
        // One message at a time is written, and counted meanwhile; an item may be as large as any
        // response.
        .max_write_buffer_size(usize::MAX)
        .on_upgrade(move |socket| {
            handshake.permit.upgraded();
            serve(socket, app, handshake)
        })
}

/// The data of the HTTP request that opened the socket.
struct Handshake {
    peer: Peer,
    permit: ConnectionPermit,
    headers: HeaderMap,
}

/// A message of the client.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ClientMessage {
    ConnectionInit { payload: Option<Value> },
    Ping { payload: Option<Value> },
    Pong {},
    Subscribe { id: String, payload: Value },
    Complete { id: String },
}

/// The beginning of an operation, whose payload is skipped: that takes no memory.
#[derive(Deserialize)]
struct MessageHead<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
}

fn client_message(json: &[u8]) -> serde_json::Result<ClientMessage> {
    serde_json::from_slice(json)
}

const INVALID: Close = (4400, "invalid message of graphql-transport-ws");

async fn serve(socket: WebSocket, app: App, handshake: Handshake) {
    let is_supported = socket.protocol().is_some_and(|name| name.as_bytes() == PROTOCOL.as_bytes());
    let (sink, mut stream) = socket.split();
    let (out, queue) = mpsc::channel(limits::SOCKET_QUEUE);
    let mut writer = tokio::spawn(write(sink, queue, app.ping, app.costs.clone()));
    let mut dialogue = Dialogue {
        app: app.clone(),
        out,
        handshake,
        known: None,
        running: Running::default(),
        answers: Arc::new(Semaphore::new(limits::SOCKET_TURNS)),
    };
    let mut stop = app.stop.clone();
    let deadline = Instant::now() + app.client_time;
    // Set once the client is authenticated: until then nothing can be revoked.
    let mut revoked = None;
    let close = if !is_supported {
        Some((4406, "the subprotocol must be graphql-transport-ws"))
    } else {
        loop {
            if let (None, Some((principal, _))) = (&revoked, &dialogue.known) {
                let (app, principal) = (app.clone(), principal.clone());
                revoked = Some(Box::pin(async move { app.revoked(&principal).await }));
            }
            let close = tokio::select! {
                frame = timeout(app.ping * 5 / 2, stream.next()) => match frame {
                    // Boxed, since a socket is idle for most of its life.
                    Ok(Some(Ok(Message::Text(text)))) => {
                        // Counted until the operation that it begins is running.
                        let _load = dialogue.load();
                        Box::pin(dialogue.receive(text.as_str())).await
                    }
                    Ok(Some(Ok(Message::Binary(_)))) => Err((4400, "messages must be text")),
                    Ok(Some(Ok(Message::Ping(bytes) | Message::Pong(bytes)))) => {
                        dialogue.handshake.permit.control(bytes.len());
                        Ok(())
                    }
                    Ok(Some(Ok(Message::Close(_))) | None) => break None,
                    Ok(Some(Err(err))) => match violation(&err.to_string()) {
                        Some(close) => Err(close),
                        None => break None,
                    },
                    // Not even the server's pings were answered.
                    Err(_) => Err((1001, "the client was silent for too long")),
                },
                () = tokio::time::sleep_until(deadline), if dialogue.known.is_none() => Err((4408, "connection_init did not arrive in time")),
                _ = async { match &mut revoked { Some(revoked) => revoked.await, None => std::future::pending().await } } => Err((4403, "Forbidden")),
                _ = stop.changed() => Err((1012, "the server restarts; reconnect")),
                _ = &mut writer => break None,
            };
            if let Err(close) = close {
                break Some(close);
            }
            // Many messages may have come at once: other connections have their turns between them.
            tokio::task::yield_now().await;
        }
    };
    dialogue.running.end_all();
    if let Some((code, reason)) = close {
        let frame = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        let _ = timeout(limits::SOCKET_WRITE, dialogue.out.send((Queued::Message(frame), None))).await;
    }
    drop(dialogue);
    if !writer.is_finished() {
        let _ = timeout(limits::SOCKET_WRITE, writer).await;
    }
}

/// The running operations by the client's id. The number distinguishes two operations with the same
/// id.
#[derive(Clone, Default)]
struct Running(Arc<Mutex<Operations>>);

type Operations = (u64, HashMap<String, (u64, AbortHandle)>);

impl Running {
    fn lock(&self) -> std::sync::MutexGuard<'_, Operations> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn next(&self) -> u64 {
        let mut all = self.lock();
        all.0 += 1;
        all.0
    }

    fn over(&self, id: &str, number: u64) {
        let mut all = self.lock();
        if all.1.get(id).is_some_and(|(running, _)| *running == number) {
            all.1.remove(id);
        }
    }

    fn end(&self, id: &str) {
        if let Some((_, handle)) = self.lock().1.remove(id) {
            handle.abort();
        }
    }

    fn end_all(&self) {
        for (_, (_, handle)) in self.lock().1.drain() {
            handle.abort();
        }
    }
}

struct Dialogue {
    app: App,
    out: mpsc::Sender<Outgoing>,
    handshake: Handshake,
    /// The principal and its permit, once `connection_init` was received.
    known: Option<(Principal, StreamPermit)>,
    running: Running,
    /// Permits for unwritten answers to the client's messages: of a client that does not read, no
    /// further messages are read.
    answers: Arc<Semaphore>,
}

impl Dialogue {
    async fn receive(&mut self, text: &str) -> Result<(), Close> {
        let (message, held) = match &self.known {
            Some((principal, _)) if text.len() >= limits::TURN_BYTES => {
                let json = Bytes::copy_from_slice(text.as_bytes());
                match self.app.read_json(principal, json, client_message).await {
                    Ok(read) => read,
                    Err(refused) => {
                        let otherwise = (1013, "too much is sent at once; try again later");
                        return self.refuse(text, &refused, otherwise).await;
                    }
                }
            }
            _ => (client_message(text.as_bytes()), None),
        };
        let message: ClientMessage = match message {
            Ok(message) => message,
            // It may be JSON all the same: a number out of range, or nested too deep.
            Err(err) if err.is_syntax() && self.known.is_some() => {
                return self.refuse(text, &unread_payload(text.as_bytes(), &err), INVALID).await;
            }
            Err(_) => return Err(INVALID),
        };
        match (message, &self.known) {
            (ClientMessage::ConnectionInit { .. }, Some(_)) => Err((4429, "Too many initialisation requests")),
            (ClientMessage::ConnectionInit { payload }, None) => self.authenticate(payload.unwrap_or_default()).await,
            (ClientMessage::Ping { payload }, _) => self.pong(text.len(), payload).await,
            (ClientMessage::Pong {}, _) => Ok(()),
            (ClientMessage::Complete { id }, _) => {
                self.running.end(&id);
                Ok(())
            }
            (ClientMessage::Subscribe { .. }, None) => Err((4401, "Unauthorized")),
            (ClientMessage::Subscribe { id, payload }, Some((principal, _))) => {
                let request =
                    GraphqlRequest::of(payload).map_err(|_| (4400, "the payload is not a GraphQL request"))?;
                let request = GraphqlRequest { bytes: text.len(), held, ..request };
                self.begin(id, request, principal.clone()).await
            }
        }
    }

    /// Answers a message that could not be read; if it begins an operation, only that fails.
    async fn refuse(&self, text: &str, refused: &RequestError, otherwise: Close) -> Result<(), Close> {
        let id = match serde_json::from_str(text) {
            Ok(MessageHead { r#type, id }) if r#type == "subscribe" => id,
            _ => return Err(otherwise),
        };
        if id.len() > limits::OPERATION_ID_BYTES {
            return Err((4400, "the id is too long"));
        }
        if self.running.lock().1.contains_key(&*id) {
            return Err((4409, "a subscription with this id already exists"));
        }
        self.send(error(&id, refused.list())).await;
        Ok(())
    }

    /// Authenticates the client by its headers, or by the payload if it could not set headers.
    async fn authenticate(&mut self, payload: Value) -> Result<(), Close> {
        let (peer, headers) = (self.handshake.peer, &self.handshake.headers);
        let principal = self.app.socket_principal(peer, headers, &payload).await.map_err(forbidden)?;
        let stream_permit =
            self.app.permit_stream(&principal).map_err(|_| (1013, "too many sockets are open with this key"))?;
        self.handshake.permit.known(self.app.load(&principal), self.app.client_time);
        self.known = Some((principal, stream_permit));
        self.handshake.headers = HeaderMap::new();
        self.send(json!({ "type": "connection_ack" })).await;
        Ok(())
    }

    /// Takes the byte count of the complete message off the meter.
    fn load(&self) -> Option<BufferedBytes> {
        let (principal, _) = self.known.as_ref()?;
        self.handshake.permit.message(|| self.app.load(principal))
    }

    /// Answers a ping with its payload, which is bounded, so that pings do not fill the queue of a
    /// client that does not read.
    async fn pong(&self, length: usize, payload: Option<Value>) -> Result<(), Close> {
        if length > limits::PING_BYTES {
            return Err((4400, "the ping is too long"));
        }
        match payload {
            Some(payload) => self.send(json!({ "type": "pong", "payload": payload })).await,
            None => self.send(json!({ "type": "pong" })).await,
        }
        Ok(())
    }

    async fn send(&self, message: Value) {
        // The semaphore is never closed. A closed queue means that the writer has ended, which the
        // loop notices itself.
        let turn = self.answers.clone().acquire_owned().await.ok();
        send(&self.out, message, turn).await;
    }

    async fn begin(&mut self, id: String, request: GraphqlRequest, principal: Principal) -> Result<(), Close> {
        if id.len() > limits::OPERATION_ID_BYTES {
            return Err((4400, "the id is too long"));
        }
        if self.running.lock().1.contains_key(&id) {
            return Err((4409, "a subscription with this id already exists"));
        }
        let admitted = if self.running.lock().1.len() >= limits::SOCKET_STREAMS {
            Err(RequestError::busy(format!("at most {} operations on one socket", limits::SOCKET_STREAMS)))
        } else {
            self.app.admit(request, &principal, "socket").await
        };
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(refused) => {
                self.send(error(&id, refused.list())).await;
                return Ok(());
            }
        };
        let (app, out, running, number) =
            (self.app.clone(), self.out.clone(), self.running.clone(), self.running.next());
        let key = id.clone();
        // The lock is held while the task is spawned, so that it can't end before it is registered.
        let mut all = self.running.lock();
        let task = tokio::spawn(async move {
            let (org_id, reader) = (admitted.org_id, admitted.cost.owner());
            let mut items = items(&app, admitted);
            let operation = Arc::new(Operation::new(id.clone(), org_id, reader));
            loop {
                let item = tokio::select! {
                    item = items.next() => item,
                    () = operation.ended() => return running.over(&id, number),
                };
                let Some(Item { payload, resume, held, shared, .. }) = item else { break };
                let payload = match payload {
                    Ok(payload) => payload,
                    Err(failed) => {
                        running.over(&id, number);
                        send(&out, error(&id, failed.list()), None).await;
                        return;
                    }
                };
                let item = QueuedItem { operation: operation.clone(), payload, shared, resume, _held: held };
                match timeout(limits::SOCKET_SLOW, enqueue(&out, item)).await {
                    // Yields to other streams, since this one's next item may always be ready.
                    Ok(true) => tokio::task::yield_now().await,
                    Ok(false) => return,
                    Err(_) => {
                        running.over(&id, number);
                        // Waits for room in the queue as long as there is a writer, which has its
                        // own timeout.
                        send(&out, error(&id, json!([too_slow(org_id, resume)])), None).await;
                        return;
                    }
                }
            }
            running.over(&id, number);
            send(&out, json!({ "id": id, "type": "complete" }), None).await;
        });
        all.1.insert(key, (number, task.abort_handle()));
        Ok(())
    }
}

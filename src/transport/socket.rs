//! graphql-transport-ws, our own loop: one task reads, one writes, one per operation; everything between is bounded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, interval, timeout};

use super::address_limits::BufferedBytes;
use super::auth::{Principal, StreamPermit};
use super::connections::ConnectionPermit;
use super::error::{Kind, RequestError};
use super::execute::items;
use super::http::{Type, refuse};
use super::origin::Peer;
use super::request::GraphqlRequest;
use super::{App, too_slow};
use crate::kernel::{cost, limits};

const PROTOCOL: &str = "graphql-transport-ws";

/// Upgrades, if the page that asks may.
pub(super) fn upgrade(
    app: App,
    peer: Peer,
    place: ConnectionPermit,
    headers: &HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    if let Err(told) = app.from_here(headers) {
        return refuse(Type::Json, &told);
    }
    let shown = ConnectionInit { peer, place, headers: headers.clone() };
    upgrade
        .protocols([PROTOCOL])
        .max_message_size(limits::SOCKET_MESSAGE_BYTES)
        .max_frame_size(limits::SOCKET_MESSAGE_BYTES)
        .read_buffer_size(4 * 1024)
        .write_buffer_size(4 * 1024)
        // One message at a time is written, and counted while it is: an item may be as large as any answer.
        .max_write_buffer_size(usize::MAX)
        .on_upgrade(move |socket| {
            shown.place.upgraded();
            serve(socket, app, shown)
        })
}

/// What the client showed when it came.
struct ConnectionInit {
    peer: Peer,
    place: ConnectionPermit,
    headers: HeaderMap,
}

/// What a client says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ClientMessage {
    ConnectionInit { payload: Option<Value> },
    Ping { payload: Option<Value> },
    Pong {},
    Subscribe { id: String, payload: Value },
    Complete { id: String },
}

/// Why a socket is closed: a code of the protocol and a reason of under 100 bytes.
type Close = (u16, &'static str);

/// What waits to be written, and the turn of the stream that it is of: given back when it has been written, so that no
/// stream has more than a few items in the queue, and all have their turns.
type Queued = (Message, Option<OwnedSemaphorePermit>, Option<Arc<cost::Request>>);

async fn serve(socket: WebSocket, app: App, shown: ConnectionInit) {
    let spoken = socket.protocol().is_some_and(|name| name.as_bytes() == PROTOCOL.as_bytes());
    let (sink, mut stream) = socket.split();
    let (out, queue) = mpsc::channel(limits::SOCKET_QUEUE);
    let mut writer = tokio::spawn(write(sink, queue, app.ping));
    let mut talk = Dialogue { app: app.clone(), out, shown, known: None, running: Running::default() };
    let mut stop = app.stop.clone();
    let deadline = Instant::now() + app.client_time;
    // Who shows nothing yet can't be revoked; it is waited for anew once it has.
    let mut revoked = None;
    let close = if !spoken {
        Some((4406, "speak graphql-transport-ws"))
    } else {
        loop {
            if let (None, Some((principal, _))) = (&revoked, &talk.known) {
                let (app, principal) = (app.clone(), principal.clone());
                revoked = Some(Box::pin(async move { app.revoked(&principal).await }));
            }
            let close = tokio::select! {
                frame = timeout(app.ping * 5 / 2, stream.next()) => match frame {
                    // On the heap: a socket is silent for most of its life.
                    Ok(Some(Ok(Message::Text(text)))) => {
                        // Counted until the operation that it begins is under way.
                        let _load = talk.load();
                        Box::pin(talk.hear(text.as_str())).await
                    }
                    Ok(Some(Ok(Message::Binary(_)))) => Err((4400, "messages are text")),
                    Ok(Some(Ok(Message::Ping(bytes) | Message::Pong(bytes)))) => {
                        talk.shown.place.control(bytes.len());
                        Ok(())
                    }
                    Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => break None,
                    // Not even our pings were answered.
                    Err(_) => Err((1001, "nothing was heard of you for too long")),
                },
                () = tokio::time::sleep_until(deadline), if talk.known.is_none() => Err((4408, "connection_init did not come in time")),
                _ = async { match &mut revoked { Some(revoked) => revoked.await, None => std::future::pending().await } } => Err((4403, "Forbidden")),
                _ = stop.changed() => Err((1012, "the server restarts; reconnect")),
                _ = &mut writer => break None,
            };
            if let Err(close) = close {
                break Some(close);
            }
        }
    };
    talk.running.end_all();
    if let Some((code, reason)) = close {
        let frame = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        let _ = timeout(limits::SOCKET_WRITE, talk.out.send((frame, None, None))).await;
    }
    drop(talk);
    if !writer.is_finished() {
        let _ = timeout(limits::SOCKET_WRITE, writer).await;
    }
}

/// Writes what is queued, and pings; a client that does not take it in time is let go.
async fn write(mut sink: SplitSink<WebSocket, Message>, mut queue: mpsc::Receiver<Queued>, ping: Duration) {
    let mut beat = interval(ping);
    beat.tick().await;
    loop {
        let (message, _turn, _held) = tokio::select! {
            message = queue.recv() => match message {
                Some(queued) => queued,
                None => break,
            },
            _ = beat.tick() => (Message::Ping(Vec::new().into()), None, None),
        };
        let last = matches!(message, Message::Close(_));
        match timeout(limits::SOCKET_WRITE, sink.send(message)).await {
            Ok(Ok(())) if !last => {}
            _ => break,
        }
    }
    let _ = timeout(limits::SOCKET_WRITE, sink.close()).await;
}

/// The operations under way, by the client's id; the number tells two of the same id apart.
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
    out: mpsc::Sender<Queued>,
    shown: ConnectionInit,
    /// Who it is, once it has said `connection_init`.
    known: Option<(Principal, StreamPermit)>,
    running: Running,
}

impl Dialogue {
    async fn hear(&mut self, text: &str) -> Result<(), Close> {
        let said: ClientMessage =
            serde_json::from_str(text).map_err(|_| (4400, "this is no message of graphql-transport-ws"))?;
        match (said, &self.known) {
            (ClientMessage::ConnectionInit { .. }, Some(_)) => Err((4429, "Too many initialisation requests")),
            (ClientMessage::ConnectionInit { payload }, None) => self.welcome(payload.unwrap_or_default()).await,
            (ClientMessage::Ping { payload }, _) => self.pong(text.len(), payload).await,
            (ClientMessage::Pong {}, _) => Ok(()),
            (ClientMessage::Complete { id }, _) => {
                self.running.end(&id);
                Ok(())
            }
            (ClientMessage::Subscribe { .. }, None) => Err((4401, "Unauthorized")),
            (ClientMessage::Subscribe { id, payload }, Some((principal, _))) => {
                self.begin(id, payload, principal.clone()).await
            }
        }
    }

    /// Who could not show a header when it came shows in the payload what would have stood there.
    async fn welcome(&mut self, payload: Value) -> Result<(), Close> {
        let principal = self.app.guest_of(self.shown.peer, &self.shown.headers, &payload).await.map_err(forbidden)?;
        let presence = self.app.present(&principal).map_err(|_| (1013, "too many sockets are open by this key"))?;
        self.shown.place.known(self.app.load(principal.address), self.app.client_time);
        self.known = Some((principal, presence));
        self.shown.headers = HeaderMap::new();
        self.say(json!({ "type": "connection_ack" })).await;
        Ok(())
    }

    /// Takes the load of the message that is whole off the meter.
    fn load(&self) -> Option<BufferedBytes> {
        let (principal, _) = self.known.as_ref()?;
        self.shown.place.message(|| self.app.load(principal.address))
    }

    /// Gives a ping's payload back; a long one would fill the queue of a client that does not read.
    async fn pong(&self, length: usize, payload: Option<Value>) -> Result<(), Close> {
        if length > limits::PING_BYTES {
            return Err((4400, "a ping is too long"));
        }
        match payload {
            Some(payload) => self.say(json!({ "type": "pong", "payload": payload })).await,
            None => self.say(json!({ "type": "pong" })).await,
        }
        Ok(())
    }

    async fn say(&self, message: Value) {
        // A closed queue means that the writer has gone, which the loop notices itself.
        let _ = self.out.send((Message::Text(message.to_string().into()), None, None)).await;
    }

    async fn begin(&mut self, id: String, payload: Value, principal: Principal) -> Result<(), Close> {
        if id.len() > limits::OPERATION_ID_BYTES {
            return Err((4400, "the id is too long"));
        }
        if self.running.lock().1.contains_key(&id) {
            return Err((4409, "there is a subscriber with this id already"));
        }
        let asked = GraphqlRequest::of(payload).map_err(|_| (4400, "the payload is no GraphQL request"))?;
        let admitted = if self.running.lock().1.len() >= limits::SOCKET_STREAMS {
            Err(RequestError::busy(format!("at most {} operations on one socket", limits::SOCKET_STREAMS)))
        } else {
            self.app.admit(asked, &principal, "socket").await
        };
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(told) => {
                self.say(error(&id, told.list())).await;
                return Ok(());
            }
        };
        let (app, out, running, number) =
            (self.app.clone(), self.out.clone(), self.running.clone(), self.running.next());
        let key = id.clone();
        // Held while it is spawned, so that it can't be over before it is known.
        let mut all = self.running.lock();
        let task = tokio::spawn(async move {
            let org_id = admitted.org_id;
            let mut items = items(&app, admitted);
            let turns = Arc::new(Semaphore::new(limits::SOCKET_TURNS));
            // All but the answer itself, which may be shared with others.
            let head = json!({ "id": id, "type": "next" }).to_string();
            let head = head.trim_end_matches('}');
            while let Some(item) = items.next().await {
                let message = match item.payload {
                    Ok(payload) => format!("{head},\"payload\":{payload}}}"),
                    Err(told) => {
                        running.over(&id, number);
                        send(&out, error(&id, told.list())).await;
                        return;
                    }
                };
                match timeout(limits::SOCKET_SLOW, in_turn(&out, &turns, message, item.held)).await {
                    // Others are let forward: a stream that finds its next item ready would go on and on.
                    Ok(true) => tokio::task::yield_now().await,
                    Ok(false) => return,
                    Err(_) => {
                        running.over(&id, number);
                        // Waits for room as long as there is somebody to write to: the writer has its own patience.
                        send(&out, error(&id, json!([too_slow(org_id, item.resume)]))).await;
                        return;
                    }
                }
            }
            running.over(&id, number);
            send(&out, json!({ "id": id, "type": "complete" })).await;
        });
        all.1.insert(key, (number, task.abort_handle()));
        Ok(())
    }
}

/// A failure of ours is no judgement on who asks.
fn forbidden(told: RequestError) -> Close {
    match told.kind {
        Kind::Ours => (1011, "something went wrong on our side"),
        _ if told.passes() => (1013, "try again later"),
        _ => (4403, "Forbidden"),
    }
}

/// Ends an operation that could not be executed, or not any further.
fn error(id: &str, errors: Value) -> Value {
    json!({ "id": id, "type": "error", "payload": errors })
}

async fn send(out: &mpsc::Sender<Queued>, message: Value) -> bool {
    out.send((Message::Text(message.to_string().into()), None, None)).await.is_ok()
}

/// Queues an item of a stream, once one of its earlier ones has been written.
async fn in_turn(
    out: &mpsc::Sender<Queued>,
    turns: &Arc<Semaphore>,
    item: String,
    held: Option<Arc<cost::Request>>,
) -> bool {
    let Ok(turn) = turns.clone().acquire_owned().await else { return false };
    out.send((Message::Text(item.into()), Some(turn), held)).await.is_ok()
}

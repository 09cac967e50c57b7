//! graphql-transport-ws, our own loop: one task reads, one writes, one per operation; everything between is bounded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_graphql::{Request, Response, Value as GraphqlValue};
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, interval, timeout};

use super::{App, from_here, guard};
use crate::error::Code;
use crate::graphql::asked_by;
use crate::graphql::stream::Place;
use crate::limits;

const PROTOCOL: &str = "graphql-transport-ws";

/// Upgrades, if the client speaks the protocol and comes from here.
pub async fn upgrade(
    State(app): State<App>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> axum::response::Response {
    if !from_here(&headers) {
        return (StatusCode::FORBIDDEN, "in development mode only this machine may ask").into_response();
    }
    upgrade
        .protocols([PROTOCOL])
        .max_message_size(limits::SOCKET_MESSAGE_BYTES)
        .max_frame_size(limits::SOCKET_MESSAGE_BYTES)
        .read_buffer_size(4 * 1024)
        .write_buffer_size(4 * 1024)
        .max_write_buffer_size(limits::SOCKET_MESSAGE_BYTES)
        .on_upgrade(move |socket| serve(socket, app))
}

/// What a client says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Said {
    ConnectionInit {},
    Ping {},
    Pong {},
    Subscribe { id: String, payload: Box<Request> },
    Complete { id: String },
}

/// Why a socket is closed: a code of the protocol and a reason of under 100 bytes.
type Close = (u16, &'static str);

/// What waits to be written, and the turn of the stream that it is of: given back when it has been written, so that no
/// stream has more than a few items in the queue, and all have their turns.
type Queued = (Message, Option<OwnedSemaphorePermit>);

async fn serve(socket: WebSocket, app: App) {
    let spoken = socket.protocol().is_some_and(|name| name.as_bytes() == PROTOCOL.as_bytes());
    let (sink, mut stream) = socket.split();
    let (out, queue) = mpsc::channel(limits::SOCKET_QUEUE);
    let mut writer = tokio::spawn(write(sink, queue));
    let mut talk = Talk { app: app.clone(), out, initialised: false, running: Running::default() };
    let mut stop = app.stop.clone();
    let deadline = Instant::now() + limits::SOCKET_INIT;
    let close = if !spoken {
        Some((4406, "speak graphql-transport-ws"))
    } else {
        loop {
            let close = tokio::select! {
                frame = stream.next() => match frame {
                    Some(Ok(Message::Text(text))) => talk.hear(text.as_str()).await,
                    Some(Ok(Message::Binary(_))) => Err((4400, "messages are text")),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break None,
                },
                () = tokio::time::sleep_until(deadline), if !talk.initialised => Err((4408, "connection_init did not come in time")),
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
        let _ = timeout(limits::SOCKET_WRITE, talk.out.send((frame, None))).await;
    }
    drop(talk);
    if !writer.is_finished() {
        let _ = timeout(limits::SOCKET_WRITE, writer).await;
    }
}

/// Writes what is queued, and pings; a client that does not take it in time is let go.
async fn write(mut sink: SplitSink<WebSocket, Message>, mut queue: mpsc::Receiver<Queued>) {
    let mut ping = interval(limits::SOCKET_PING);
    ping.tick().await;
    loop {
        let (message, _turn) = tokio::select! {
            message = queue.recv() => match message {
                Some(queued) => queued,
                None => break,
            },
            _ = ping.tick() => (Message::Ping(Vec::new().into()), None),
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

struct Talk {
    app: App,
    out: mpsc::Sender<Queued>,
    initialised: bool,
    running: Running,
}

impl Talk {
    async fn hear(&mut self, text: &str) -> Result<(), Close> {
        let said: Said =
            serde_json::from_str(text).map_err(|_| (4400, "this is no message of graphql-transport-ws"))?;
        match said {
            Said::ConnectionInit {} if self.initialised => Err((4429, "too many initialisation requests")),
            Said::ConnectionInit {} => {
                self.initialised = true;
                self.say(json!({ "type": "connection_ack" })).await;
                Ok(())
            }
            Said::Ping {} => {
                self.say(json!({ "type": "pong" })).await;
                Ok(())
            }
            Said::Pong {} => Ok(()),
            Said::Complete { id } => {
                self.running.end(&id);
                Ok(())
            }
            Said::Subscribe { .. } if !self.initialised => Err((4401, "say connection_init first")),
            Said::Subscribe { id, payload } => self.begin(id, *payload).await,
        }
    }

    async fn say(&self, message: Value) {
        // A closed queue means that the writer has gone, which the loop notices itself.
        let _ = self.out.send((Message::Text(message.to_string().into()), None)).await;
    }

    async fn begin(&mut self, id: String, mut request: Request) -> Result<(), Close> {
        if self.running.lock().1.contains_key(&id) {
            return Err((4409, "there is a subscriber with this id already"));
        }
        let refused = if self.running.lock().1.len() >= limits::SOCKET_STREAMS {
            Some(format!("at most {} operations on one socket", limits::SOCKET_STREAMS))
        } else {
            guard(&mut request).err()
        };
        if let Some(why) = refused {
            self.say(json!({ "id": id, "type": "error", "payload": [{ "message": why }] })).await;
            return Ok(());
        }
        let place = Place::default();
        let request = asked_by(request, &self.app.db, &self.app.viewer).data(place.clone());
        let (schema, out, running, number) =
            (self.app.schema.clone(), self.out.clone(), self.running.clone(), self.running.next());
        let key = id.clone();
        // Held while it is spawned, so that it can't be over before it is known.
        let mut all = self.running.lock();
        let task = tokio::spawn(async move {
            let mut responses = schema.execute_stream(request);
            let (mut first, turns) = (true, Arc::new(Semaphore::new(limits::SOCKET_TURNS)));
            while let Some(response) = responses.next().await {
                let failed = first && nothing_done(&response);
                first = false;
                if failed {
                    running.over(&id, number);
                    send(&out, json!({ "id": id, "type": "error", "payload": response.errors })).await;
                    return;
                }
                let item = json!({ "id": id, "type": "next", "payload": response });
                match timeout(limits::SOCKET_SLOW, in_turn(&out, &turns, item)).await {
                    // Others are let forward: a stream that finds its next item ready would go on and on.
                    Ok(true) => tokio::task::yield_now().await,
                    Ok(false) => return,
                    Err(_) => {
                        running.over(&id, number);
                        // Waits for room as long as there is somebody to write to: the writer has its own patience.
                        send(&out, json!({ "id": id, "type": "error", "payload": [too_slow(place.before())] })).await;
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

/// A reader that did not take the items in time: told where to resume, so that it misses nothing.
fn too_slow(resume: Option<String>) -> Value {
    let message = "you read too slowly; subscribe again with `after` set to the cursor";
    json!({ "message": message, "extensions": { "code": Code::LimitExceeded.as_str(), "cursor": resume } })
}

/// A request that could not be executed: told as `error`, which ends the operation.
fn nothing_done(response: &Response) -> bool {
    !response.errors.is_empty() && response.data == GraphqlValue::Null
}

async fn send(out: &mpsc::Sender<Queued>, message: Value) -> bool {
    out.send((Message::Text(message.to_string().into()), None)).await.is_ok()
}

/// Queues an item of a stream, once one of its earlier ones has been written.
async fn in_turn(out: &mpsc::Sender<Queued>, turns: &Arc<Semaphore>, item: Value) -> bool {
    let Ok(turn) = turns.clone().acquire_owned().await else { return false };
    out.send((Message::Text(item.to_string().into()), Some(turn))).await.is_ok()
}

//! Writing to a socket: queued messages and pings. An item's message is put together only when it
//! is written, because many sockets may share its payload.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use entity::id::OrgId;
use futures_util::SinkExt;
use futures_util::stream::SplitSink;
use serde_json::{Value, json};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{interval, timeout};

use crate::kernel::cost::{self, CostOwner, Costs};
use crate::kernel::error::Refusal;
use crate::kernel::{event, large, limits};
use crate::transport::error::RequestError;
use crate::transport::execute::Payload;

/// A message to write, and its permit, of its stream or of the answers to the client, which is returned once it is written.
pub(super) type Outgoing = (Queued, Option<OwnedSemaphorePermit>);

/// A message to write.
pub(super) enum Queued {
    Message(Message),
    Item(Box<QueuedItem>),
}

/// An item to write.
pub(super) struct QueuedItem {
    pub(super) operation: Arc<Operation>,
    pub(super) payload: Payload,
    /// True if the payload is shared with other readers.
    pub(super) shared: bool,
    /// The log position after which to resume if the item can't be written.
    pub(super) resume: Option<i64>,
    /// Cost of the item until it is written.
    pub(super) _held: Option<Arc<cost::Request>>,
}

/// An operation as its writer knows it.
pub(super) struct Operation {
    pub(super) id: String,
    /// The message up to its payload.
    head: String,
    org_id: OrgId,
    reader: CostOwner,
    /// Permits for unwritten items: no stream has more than a few in the queue, and all get their
    /// turns.
    turns: Arc<Semaphore>,
    /// Set when the writer has ended it, and its client has received the error.
    is_ended: AtomicBool,
    ended: Notify,
}

impl Operation {
    pub(super) fn new(id: String, org_id: OrgId, reader: CostOwner) -> Self {
        let head = json!({ "id": id, "type": "next" }).to_string();
        let head = format!("{},\"payload\":", head.trim_end_matches('}'));
        let turns = Arc::new(Semaphore::new(limits::SOCKET_TURNS));
        Self { id, head, org_id, reader, turns, is_ended: AtomicBool::new(false), ended: Notify::new() }
    }

    /// Waits until the writer ends it.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Ends it with an error, and returns the message for the client.
    fn end(&self, refusal: Refusal, resume: Option<i64>) -> Message {
        self.is_ended.store(true, Ordering::Relaxed);
        self.ended.notify_one();
        let refusal = match resume {
            Some(position) => refusal.with("cursor", json!(event::cursor(self.org_id, position))),
            None => refusal,
        };
        Message::Text(error(&self.id, RequestError::from(refusal).list()).to_string().into())
    }
}

/// The message that ends an operation with errors.
pub(super) fn error(id: &str, errors: Value) -> Value {
    json!({ "id": id, "type": "error", "payload": errors })
}

/// Queues a message; false if there is no writer.
pub(super) async fn send(out: &mpsc::Sender<Outgoing>, message: Value, turn: Option<OwnedSemaphorePermit>) -> bool {
    out.send((Queued::Message(Message::Text(message.to_string().into())), turn)).await.is_ok()
}

/// Queues an item, waiting until its stream has few enough unwritten ones; false if there is no
/// writer.
pub(super) async fn enqueue(out: &mpsc::Sender<Outgoing>, item: QueuedItem) -> bool {
    let Ok(permit) = item.operation.turns.clone().acquire_owned().await else { return false };
    out.send((Queued::Item(Box::new(item)), Some(permit))).await.is_ok()
}

/// The buffer of a socket's library, into which each message is copied. It keeps the size of the
/// largest, and counts for the readers while the socket is open.
struct WriteBuffer {
    costs: Costs,
    bytes: usize,
    counted: Vec<Arc<cost::Request>>,
}

impl WriteBuffer {
    /// Counts the buffer with room for a message. Errors: LIMIT_EXCEEDED, if the reader holds too
    /// much; the buffer is not counted then, unless the message is written all the same.
    fn grow(&mut self, reader: CostOwner, bytes: usize, must: bool) -> Result<(), Refusal> {
        if bytes <= self.bytes {
            return Ok(());
        }
        // As vectors grow.
        let room = bytes.next_power_of_two();
        let (copy, held) = self.costs.copy(reader, room - self.bytes);
        if must || held.is_ok() {
            self.bytes = room;
            self.counted.push(copy);
        }
        held
    }

    /// The message of an item; none if its operation has been ended.
    fn message(&mut self, item: &QueuedItem) -> Option<Message> {
        let operation = &item.operation;
        if operation.is_ended.load(Ordering::Relaxed) {
            return None;
        }
        let text = || Message::Text(format!("{}{}}}", operation.head, item.payload).into());
        match self.grow(operation.reader, operation.head.len() + item.payload.len() + 1, !item.shared) {
            Err(refusal) if item.shared => Some(operation.end(refusal, item.resume)),
            // What belongs to this reader alone has been counted, and a mutation's response must
            // not be lost.
            _ => Some(text()),
        }
    }
}

/// Writes queued messages and pings. Ends the connection of a client that does not read in time.
pub(super) async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut queue: mpsc::Receiver<Outgoing>,
    ping: Duration,
    costs: Costs,
) {
    let mut buffer = WriteBuffer { costs, bytes: limits::COPY_FREE_BYTES, counted: Vec::new() };
    let mut beat = interval(ping);
    beat.tick().await;
    loop {
        let (queued, _permit) = tokio::select! {
            queued = queue.recv() => match queued {
                Some(queued) => queued,
                None => break,
            },
            _ = beat.tick() => (Queued::Message(Message::Ping(Vec::new().into())), None),
        };
        // The item, and with it its cost, stays until it is written.
        let (message, _item) = match queued {
            Queued::Message(message) => (Some(message), None),
            Queued::Item(item) => {
                let message = large::run(item.payload.len(), || buffer.message(&item)).await;
                (message, Some(item))
            }
        };
        let Some(message) = message else { continue };
        let last = matches!(message, Message::Close(_));
        let bytes = match &message {
            Message::Text(text) => text.len(),
            _ => 0,
        };
        match timeout(limits::SOCKET_WRITE, large::polled(bytes, sink.send(message))).await {
            Ok(Ok(())) if !last => {}
            _ => break,
        }
    }
    let _ = timeout(limits::SOCKET_WRITE, sink.close()).await;
}

//! GraphQL over server-sent events by the protocol graphql-sse: one stream per operation. The
//! protocol's other mode is in `sse_sessions`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::parser::types::OperationType;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::accept::Type;
use super::auth::{Principal, StreamPermit};
use super::error::RequestError;
use super::execute::{Item, Payload};
use super::items::items;
use super::response::refuse;
use super::{Admitted, App};
use crate::kernel::event::{self, cursor};
use crate::kernel::{cost, limits};

const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The header with the last event id that a client has read, which browsers send when they
/// reconnect.
pub const LAST_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Responds with a stream for one operation. For a subscription, `Last-Event-ID` takes precedence
/// over `after`.
pub(super) async fn distinct(app: &App, principal: Principal, mut admitted: Admitted, headers: &HeaderMap) -> Response {
    let last = headers.get(LAST_ID).filter(|id| !id.is_empty());
    if let Some(id) = last.filter(|_| admitted.operation.kind == OperationType::Subscription) {
        let id = String::from_utf8_lossy(id.as_bytes());
        match cursor::resume(&app.db, &principal.viewer, "Last-Event-ID", &id).await {
            Ok(position) => admitted.resume = Some(position),
            Err(err) => return self::error_stream(app, &err.into()),
        }
    }
    let stream_permit = match app.permit_stream(&principal) {
        Ok(stream_permit) => stream_permit,
        Err(error) => return refuse(Type::Json, &error),
    };
    let (out, queue) = mpsc::channel(limits::STREAM_QUEUE);
    let work = tokio::spawn(run(app.clone(), principal, admitted, out, None));
    respond(app.ping, queue, EndOnDrop { work: work.abort_handle(), _stream_permit: Some(stream_permit) })
}

/// Responds with a stream that has an error only.
pub(super) fn error_stream(app: &App, error: &RequestError) -> Response {
    let (out, queue) = mpsc::channel(2);
    // The empty id resets `Last-Event-ID`, so that a client reconnects without a rejected one.
    let (head, tail) = frame(None, Some(""));
    let _ = out.try_send(vec![format!("{head}{}{tail}", error.body()).into()]);
    let _ = out.try_send(complete(None));
    respond(app.ping, queue, ())
}

/// Executes one operation into a queue. The id is the operation's if several share the stream.
pub(super) async fn run(
    app: App,
    principal: Principal,
    admitted: Admitted,
    out: mpsc::Sender<Event>,
    id: Option<String>,
) {
    let org_id = admitted.org_id;
    let mut items = items(&app, admitted);
    let mut revoked = std::pin::pin!(app.revoked(&principal));
    let mut stop = app.stop.clone();
    let id = id.as_deref();
    loop {
        let item = tokio::select! {
            item = items.next() => item,
            error = &mut revoked => Some(Item::failed(error, None)),
            // The client reconnects by itself, with its cursor.
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Some(Item { payload, position, resume, held, .. }) = item else { break };
        let at = position.map(|position| event::cursor(org_id, position));
        let (event, last) = match payload {
            Ok(payload) => (next(id, at.as_deref(), payload, held), false),
            Err(error) => (error_event(id, &error.body()), true),
        };
        match timeout(limits::SOCKET_SLOW, out.send(event)).await {
            Ok(Ok(())) if !last => tokio::task::yield_now().await,
            Ok(Ok(())) => break,
            Ok(Err(_)) => return,
            Err(_) => {
                let error = json!({ "errors": [super::too_slow(org_id, resume)] });
                let _ = out.send(error_event(id, &error)).await;
                break;
            }
        }
    }
    let _ = out.send(complete(id)).await;
}

/// One serialised event, in pieces. Its data is one line, since serialised JSON has no line breaks.
pub(super) type Event = Vec<Bytes>;

/// A text that is counted for its key until it is written.
struct CountedText<T> {
    text: T,
    _held: Option<Arc<cost::Request>>,
}

impl<T: AsRef<str>> AsRef<[u8]> for CountedText<T> {
    fn as_ref(&self) -> &[u8] {
        self.text.as_ref().as_bytes()
    }
}

/// The event of an item, with the cursor to resume after it as the event's id. A large payload is a
/// piece of its own, which its readers share instead of copying it.
fn next(id: Option<&str>, at: Option<&str>, payload: Payload, held: Option<Arc<cost::Request>>) -> Event {
    let (head, tail) = frame(id, at);
    if payload.len() < limits::SHARED_PAYLOAD_BYTES {
        return vec![Bytes::from_owner(CountedText { text: format!("{head}{payload}{tail}"), _held: held })];
    }
    vec![head.into(), Bytes::from_owner(CountedText { text: payload, _held: held }), tail.into()]
}

/// The event of an error.
fn error_event(id: Option<&str>, body: &Value) -> Event {
    let (head, tail) = frame(id, None);
    vec![format!("{head}{body}{tail}").into()]
}

/// The parts of an event before and after its payload.
fn frame(id: Option<&str>, at: Option<&str>) -> (String, &'static str) {
    let at = at.map(|at| format!("id: {at}\n")).unwrap_or_default();
    match id {
        Some(id) => (format!("event: next\n{at}data: {{\"id\":{},\"payload\":", json!(id)), "}\n\n"),
        None => (format!("event: next\n{at}data: "), "\n\n"),
    }
}

/// The event that completes an operation. It has a data line even without an id, since a browser's
/// EventSource ignores events without data.
fn complete(id: Option<&str>) -> Event {
    let data = id.map(|id| json!({ "id": id }).to_string()).unwrap_or_default();
    vec![format!("event: complete\ndata: {data}\n\n").into()]
}

/// The response that streams a queue. A comment at an interval keeps the connection alive. `gone`
/// is dropped with the stream.
pub(super) fn respond(ping: Duration, queue: mpsc::Receiver<Event>, gone: impl Send + 'static) -> Response {
    let events = stream::unfold((queue, gone), move |(mut queue, gone)| async move {
        let event = match timeout(ping, queue.recv()).await {
            Ok(event) => event?,
            Err(_) => vec![Bytes::from_static(b":\n\n")],
        };
        Some((stream::iter(event.into_iter().map(Ok::<_, Infallible>)), (queue, gone)))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
        (BUFFERING, HeaderValue::from_static("no")),
    ];
    // A first comment at once, so that the client knows that the stream is open.
    let begun = stream::once(async { Ok(Bytes::from_static(b":\n\n")) });
    (headers, Body::from_stream(begun.chain(events.flatten()))).into_response()
}

/// Ends the task of a stream when it is dropped.
pub(super) struct EndOnDrop {
    pub(super) work: AbortHandle,
    pub(super) _stream_permit: Option<StreamPermit>,
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.work.abort();
    }
}

pub(super) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    url::form_urlencoded::parse(query?.as_bytes()).find(|(of, _)| of == name).map(|(_, value)| value.into_owned())
}

/// All values of a parameter that may be given several times.
pub(super) fn parameters(query: Option<&str>, name: &str) -> Vec<String> {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.filter(|(of, _)| of == name).map(|(_, value)| value.into_owned()).collect()
}

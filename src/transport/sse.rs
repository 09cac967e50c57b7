//! GraphQL over server-sent events by the protocol graphql-sse, in both modes: one stream per
//! operation, or a single stream for all operations of a client.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_graphql::parser::types::OperationType;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::auth::{Principal, StreamPermit};
use super::error::{Kind, RequestError};
use super::execute::{Item, items};
use super::http::{self, Type, read_request, refuse};
use super::origin::Peer;
use super::{Admitted, App};
use crate::kernel::event::{self, cursor};
use crate::kernel::{cost, limits};

/// The header with the token of a client's single stream.
pub const TOKEN: HeaderName = HeaderName::from_static("x-graphql-event-stream-token");
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
    let presence = match app.permit_stream(&principal) {
        Ok(presence) => presence,
        Err(error) => return refuse(Type::Json, &error),
    };
    let (out, queue) = mpsc::channel(limits::STREAM_QUEUE);
    let work = tokio::spawn(run(app.clone(), principal, admitted, out, None));
    respond(app.ping, queue, EndOnDrop { work: Some(work.abort_handle()), leave: None, _presence: Some(presence) })
}

/// Responds with a stream that has an error only.
pub(super) fn error_stream(app: &App, error: &RequestError) -> Response {
    let (out, queue) = mpsc::channel(2);
    // The empty id resets `Last-Event-ID`, so that a client reconnects without a rejected one.
    let _ = out.try_send(next(None, Some(""), &error.body().to_string()));
    let _ = out.try_send(complete(None));
    respond(app.ping, queue, EndOnDrop { work: None, leave: None, _presence: None })
}

/// Executes one operation into a queue. The id is the operation's if several share the stream.
async fn run(app: App, principal: Principal, admitted: Admitted, out: mpsc::Sender<Event>, id: Option<String>) {
    let org_id = admitted.org_id;
    let mut items = items(&app, admitted);
    let mut revoked = std::pin::pin!(app.revoked(&principal));
    let mut stop = app.stop.clone();
    let id = id.as_deref();
    loop {
        let item = tokio::select! {
            item = items.next() => item,
            error = &mut revoked => Some(Item { payload: Err(error), position: None, resume: None, held: None }),
            // The client reconnects by itself, with its cursor.
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Some(Item { payload, position, resume, held }) = item else { break };
        let at = position.map(|position| event::cursor(org_id, position));
        let (event, last) = match payload {
            Ok(payload) => (counted(next(id, at.as_deref(), &payload), held), false),
            Err(error) => (next(id, None, &error.body().to_string()), true),
        };
        match timeout(limits::SOCKET_SLOW, out.send(event)).await {
            Ok(Ok(())) if !last => tokio::task::yield_now().await,
            Ok(Ok(())) => break,
            Ok(Err(_)) => return,
            Err(_) => {
                let error = json!({ "errors": [super::too_slow(org_id, resume)] });
                let _ = out.send(next(id, None, &error.to_string())).await;
                break;
            }
        }
    }
    let _ = out.send(complete(id)).await;
}

/// One serialised event. Its data is one line, since serialised JSON has no line breaks.
type Event = Bytes;

/// An event whose bytes are counted for its key until it is written.
fn counted(event: Event, held: Option<Arc<cost::Request>>) -> Event {
    match held {
        Some(held) => Bytes::from_owner(CountedEvent { event, _held: held }),
        None => event,
    }
}

struct CountedEvent {
    event: Event,
    _held: Arc<cost::Request>,
}

impl AsRef<[u8]> for CountedEvent {
    fn as_ref(&self) -> &[u8] {
        &self.event
    }
}

/// The event of an item, with the cursor to resume after it as the event's id.
fn next(id: Option<&str>, at: Option<&str>, payload: &str) -> Event {
    let at = at.map(|at| format!("id: {at}\n")).unwrap_or_default();
    match id {
        Some(id) => format!("event: next\n{at}data: {{\"id\":{},\"payload\":{payload}}}\n\n", json!(id)).into(),
        None => format!("event: next\n{at}data: {payload}\n\n").into(),
    }
}

/// The event that completes an operation. It has a data line even without an id, since a browser's
/// EventSource ignores events without data.
fn complete(id: Option<&str>) -> Event {
    let data = id.map(|id| json!({ "id": id }).to_string()).unwrap_or_default();
    format!("event: complete\ndata: {data}\n\n").into()
}

/// The response that streams a queue. A comment at an interval keeps the connection alive.
fn respond(ping: Duration, queue: mpsc::Receiver<Event>, gone: EndOnDrop) -> Response {
    let events = stream::unfold((queue, gone), move |(mut queue, gone)| async move {
        let event = match timeout(ping, queue.recv()).await {
            Ok(event) => event?,
            Err(_) => Bytes::from_static(b":\n\n"),
        };
        Some((Ok::<_, Infallible>(event), (queue, gone)))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
        (BUFFERING, HeaderValue::from_static("no")),
    ];
    // A first comment at once, so that the client knows that the stream is open.
    let begun = stream::once(async { Ok(Bytes::from_static(b":\n\n")) });
    (headers, Body::from_stream(begun.chain(events))).into_response()
}

/// Ends the task and the session of a stream when it is dropped.
struct EndOnDrop {
    work: Option<AbortHandle>,
    leave: Option<(Sessions, String)>,
    _presence: Option<StreamPermit>,
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if let Some(work) = &self.work {
            work.abort();
        }
        if let Some((sessions, token)) = &self.leave {
            sessions.end(token);
        }
    }
}

/// The clients that have one stream for all their operations, by token.
#[derive(Clone, Debug, Default)]
pub struct Sessions(Arc<Mutex<HashMap<String, Session>>>);

#[derive(Debug)]
struct Session {
    principal: Principal,
    out: mpsc::Sender<Event>,
    /// The events' queue, taken when the stream is opened.
    queue: Option<mpsc::Receiver<Event>>,
    presence: Option<StreamPermit>,
    running: HashMap<String, AbortHandle>,
}

impl Sessions {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Session>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn end(&self, token: &str) {
        if let Some(session) = self.lock().remove(token) {
            session.running.values().for_each(AbortHandle::abort);
        }
    }

    fn over(&self, token: &str, id: &str) {
        if let Some(session) = self.lock().get_mut(token) {
            session.running.remove(id);
        }
    }
}

/// Reserves a stream and responds with 201 and its token.
pub async fn reserve(State(app): State<App>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Response {
    let principal = match app.principal(peer, &headers).await {
        Ok(principal) => principal,
        Err(error) => return refuse(Type::Json, &error),
    };
    let presence = match app.permit_stream(&principal) {
        Ok(presence) => presence,
        Err(error) => return refuse(Type::Json, &error),
    };
    let token = uuid::Uuid::new_v4().simple().to_string();
    let (out, queue) = mpsc::channel(limits::SOCKET_QUEUE);
    let session = Session { principal, out, queue: Some(queue), presence: Some(presence), running: HashMap::new() };
    app.sessions.lock().insert(token.clone(), session);
    // An unused reservation expires.
    let (sessions, reserved) = (app.sessions.clone(), token.clone());
    tokio::spawn(async move {
        tokio::time::sleep(app.client_time).await;
        if sessions.lock().get(&reserved).is_some_and(|session| session.queue.is_some()) {
            sessions.end(&reserved);
        }
    });
    (StatusCode::CREATED, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], token).into_response()
}

/// Opens a reserved stream. Without a token it is the same as a GET of `/graphql`.
pub async fn open(app: State<App>, peer: Extension<Peer>, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    let Some(token) = token(&headers, query.as_deref()) else {
        return http::query(app, peer, headers, RawQuery(query)).await;
    };
    let principal = match app.principal(peer.0, &headers).await {
        Ok(principal) => principal,
        Err(error) => return refuse(Type::Json, &error),
    };
    let mut sessions = app.sessions.lock();
    let Some(session) = sessions.get_mut(&token).filter(|session| session.principal.is_same(&principal)) else {
        return no_stream();
    };
    let (Some(queue), presence) = (session.queue.take(), session.presence.take()) else {
        return refuse(
            Type::Json,
            &RequestError::new(Kind::Http(StatusCode::CONFLICT), "CONFLICT", "the stream is already open"),
        );
    };
    // A stream without running operations, too, ends when its key is revoked or the server stops.
    let (app_state, session_token) = (app.0.clone(), token.clone());
    let watch = tokio::spawn(async move {
        let mut stop = app_state.stop.clone();
        tokio::select! {
            _ = app_state.revoked(&principal) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        app_state.sessions.end(&session_token);
    });
    let leave = Some((app.sessions.clone(), token));
    respond(app.ping, queue, EndOnDrop { work: Some(watch.abort_handle()), leave, _presence: presence })
}

/// Begins an operation on the stream and responds with 202. Without a token it is the same as a
/// POST of `/graphql`.
pub async fn begin(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    let Some(token) = token(&headers, query.as_deref()) else {
        return http::post(State(app), Extension(peer), headers, body).await;
    };
    let admitted = async {
        let principal = app.principal(peer, &headers).await?;
        let (request, _load) = read_request(&app, &principal, &headers, body).await?;
        let id = request.extensions.get("operationId").and_then(Value::as_str).filter(|id| !id.is_empty());
        let id = id.map(str::to_owned).ok_or_else(|| RequestError::malformed("`extensions.operationId` is missing"))?;
        Ok::<_, RequestError>((id, app.admit(request, &principal, "sse").await?, principal))
    };
    let (id, admitted, principal) = match admitted.await {
        Ok(admitted) => admitted,
        Err(error) => return refuse(Type::Graphql, &error),
    };
    let mut sessions = app.sessions.lock();
    let Some(session) = sessions.get_mut(&token).filter(|session| session.principal.is_same(&principal)) else {
        return no_stream();
    };
    if session.running.contains_key(&id) {
        let error =
            RequestError::new(Kind::Http(StatusCode::CONFLICT), "CONFLICT", "an operation with this id already exists");
        return refuse(Type::Json, &error);
    }
    if session.running.len() >= limits::SOCKET_STREAMS {
        let message = format!("at most {} operations on one stream", limits::SOCKET_STREAMS);
        return refuse(Type::Json, &RequestError::busy(message));
    }
    let (app_state, out, sessions_handle) = (app.clone(), session.out.clone(), app.sessions.clone());
    let (key, session_token) = (id.clone(), token.clone());
    let work = tokio::spawn(async move {
        run(app_state, principal, admitted, out, Some(key.clone())).await;
        sessions_handle.over(&session_token, &key);
    });
    session.running.insert(id, work.abort_handle());
    StatusCode::ACCEPTED.into_response()
}

/// Ends an operation of the stream.
pub async fn end(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let principal = match app.principal(peer, &headers).await {
        Ok(principal) => principal,
        Err(error) => return refuse(Type::Json, &error),
    };
    let query = query.as_deref();
    let (Some(token), Some(id)) = (token(&headers, query), parameter(query, "operationId")) else {
        return refuse(Type::Json, &RequestError::malformed("`operationId` and the stream's token are required"));
    };
    let mut sessions = app.sessions.lock();
    let Some(session) = sessions.get_mut(&token).filter(|session| session.principal.is_same(&principal)) else {
        return no_stream();
    };
    if let Some(work) = session.running.remove(&id) {
        work.abort();
    }
    StatusCode::OK.into_response()
}

fn token(headers: &HeaderMap, query: Option<&str>) -> Option<String> {
    let in_header = headers.get(TOKEN).and_then(|token| token.to_str().ok()).map(str::to_owned);
    in_header.or_else(|| parameter(query, "token"))
}

pub(super) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    url::form_urlencoded::parse(query?.as_bytes()).find(|(of, _)| of == name).map(|(_, value)| value.into_owned())
}

/// All values of a parameter that may be given several times.
pub(super) fn parameters(query: Option<&str>, name: &str) -> Vec<String> {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.filter(|(of, _)| of == name).map(|(_, value)| value.into_owned()).collect()
}

fn no_stream() -> Response {
    refuse(
        Type::Json,
        &RequestError::new(Kind::Http(StatusCode::NOT_FOUND), "NOT_FOUND", "there is no stream with this token"),
    )
}

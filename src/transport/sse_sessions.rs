//! GraphQL over server-sent events with a single stream for all operations of a client: the client
//! reserves a stream, opens it, and begins operations on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_graphql::parser::types::OperationType;
use axum::body::Body;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::accept::Type;
use super::auth::{Principal, StreamPermit};
use super::error::{Kind, RequestError};
use super::origin::Peer;
use super::response::refuse;
use super::sse::{EndOnDrop, Event, parameter, respond, run};
use super::{App, body, http};
use crate::kernel::error::Code;
use crate::kernel::limits;

/// The header with the token of a client's single stream.
pub const TOKEN: HeaderName = HeaderName::from_static("x-graphql-event-stream-token");

/// The clients that have one stream for all their operations, by token.
#[derive(Clone, Debug, Default)]
pub struct Sessions(Arc<Mutex<HashMap<String, Session>>>);

#[derive(Debug)]
struct Session {
    principal: Principal,
    out: mpsc::Sender<Event>,
    /// The events' queue, taken when the stream is opened.
    queue: Option<mpsc::Receiver<Event>>,
    stream_permit: Option<StreamPermit>,
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

/// Ends the session of a stream when it is dropped.
struct LeaveOnDrop {
    sessions: Sessions,
    token: String,
    _watch: EndOnDrop,
}

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        self.sessions.end(&self.token);
    }
}

/// Reserves a stream and responds with 201 and its token.
pub async fn reserve(State(app): State<App>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Response {
    let principal = match app.principal(peer, &headers).await {
        Ok(principal) => principal,
        Err(error) => return refuse(Type::Json, &error),
    };
    let stream_permit = match app.permit_stream(&principal) {
        Ok(stream_permit) => stream_permit,
        Err(error) => return refuse(Type::Json, &error),
    };
    let token = uuid::Uuid::new_v4().simple().to_string();
    let (out, queue) = mpsc::channel(limits::SOCKET_QUEUE);
    let session =
        Session { principal, out, queue: Some(queue), stream_permit: Some(stream_permit), running: HashMap::new() };
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
    let (Some(queue), stream_permit) = (session.queue.take(), session.stream_permit.take()) else {
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
    let watch = EndOnDrop { work: watch.abort_handle(), _stream_permit: stream_permit };
    respond(app.ping, queue, LeaveOnDrop { sessions: app.sessions.clone(), token, _watch: watch })
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
        let (request, load) = body::graphql_request(&app, &principal, &headers, body).await?;
        let id = operation_id(request.extensions.get("operationId").and_then(Value::as_str))?;
        Ok::<_, RequestError>((id, app.admit(request, &principal, "sse").await?, principal, load))
    };
    let (id, admitted, principal, load) = match admitted.await {
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
    // A subscription's memory counts by its permit; any other operation's until it is executed, as
    // over plain HTTP.
    let load = (admitted.operation.kind != OperationType::Subscription).then_some(load);
    let work = tokio::spawn(async move {
        let _load = load;
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
    let Some(token) = token(&headers, query) else {
        return refuse(Type::Json, &RequestError::malformed("the stream's token is required").of_field("token"));
    };
    let id = match operation_id(parameter(query, "operationId").as_deref()) {
        Ok(id) => id,
        Err(error) => return refuse(Type::Json, &error),
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

/// The client's id of an operation, which is kept while the operation runs, and stands in each of
/// its events.
fn operation_id(given: Option<&str>) -> Result<String, RequestError> {
    let most = limits::OPERATION_ID_BYTES;
    let error = match given {
        Some(id) if id.len() > most => {
            let message = format!("`operationId` is longer than {most} bytes");
            RequestError::new(Kind::Malformed, Code::LimitExceeded.as_str(), message)
        }
        Some(id) if !id.is_empty() => return Ok(id.to_owned()),
        _ => RequestError::malformed("`operationId` is missing"),
    };
    Err(error.of_field("operationId"))
}

fn token(headers: &HeaderMap, query: Option<&str>) -> Option<String> {
    let in_header = headers.get(TOKEN).and_then(|token| token.to_str().ok()).map(str::to_owned);
    in_header.or_else(|| parameter(query, "token"))
}

fn no_stream() -> Response {
    refuse(
        Type::Json,
        &RequestError::new(Kind::Http(StatusCode::NOT_FOUND), "NOT_FOUND", "there is no stream with this token"),
    )
}

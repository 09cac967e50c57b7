//! GraphQL over HTTP by its specification: POST, and GET for queries; the type of the answer is negotiated, and the status
//! says what became of the request.

use async_graphql::Response;
use async_graphql::parser::types::OperationType;
use axum::body::{Body, to_bytes};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use mediatype::{MediaType, ReadParams, names};
use tokio::time::timeout;

pub use super::accept::Type;
use super::asked::Asked;
use super::flow::execute;
use super::guest::{Peer, Place};
use super::told::{Kind, Told};
use super::{App, socket, sse};
use crate::limits;

/// Answers a POST.
pub async fn post(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> axum::response::Response {
    let Some(kind) = Type::accepted(&headers) else { return not_acceptable() };
    let asked = match asked(&app, &headers, body).await {
        Ok(asked) => asked,
        Err(told) => return refuse(kind, &told),
    };
    answer(&app, kind, peer, &headers, asked, false).await
}

/// Answers a GET: the way to a WebSocket, or a query in the URL.
pub async fn get(
    app: State<App>,
    peer: Extension<Peer>,
    place: Extension<Place>,
    headers: HeaderMap,
    query: RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> axum::response::Response {
    match upgrade {
        Ok(upgrade) => socket::upgrade(app.0, peer.0, place.0, &headers, upgrade),
        Err(_) => self::query(app, peer, headers, query).await,
    }
}

/// Answers a query in the URL.
pub async fn query(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> axum::response::Response {
    let Some(kind) = Type::accepted(&headers) else { return not_acceptable() };
    match Asked::of_url(&query.unwrap_or_default()) {
        Ok(asked) => answer(&app, kind, peer, &headers, asked, true).await,
        Err(told) => refuse(kind, &told),
    }
}

/// Reads a body that must be JSON: no page elsewhere can send that without asking first.
pub(super) async fn asked(app: &App, headers: &HeaderMap, body: Body) -> Result<Asked, Told> {
    let content = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = MediaType::parse(content).ok().filter(|media| {
        let utf8 = media
            .params()
            .all(|(name, value)| name != names::CHARSET || value.unquoted_str().eq_ignore_ascii_case("utf-8"));
        (media.ty, media.subty, media.suffix) == (names::APPLICATION, names::JSON, None) && utf8
    });
    if media.is_none() {
        let told = "send application/json, in UTF-8";
        return Err(Told::new(Kind::Http(StatusCode::UNSUPPORTED_MEDIA_TYPE), "BAD_USER_INPUT", told));
    }
    Asked::of_bytes(&bytes(app, body).await?)
}

async fn bytes(app: &App, body: Body) -> Result<axum::body::Bytes, Told> {
    let too_large = || {
        let told = format!("the body is larger than {} bytes", limits::BODY_BYTES);
        Told::new(Kind::Http(StatusCode::PAYLOAD_TOO_LARGE), "LIMIT_EXCEEDED", told)
    };
    match timeout(app.client_time, to_bytes(body, limits::BODY_BYTES)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(err)) if is_too_long(&err) => Err(too_large()),
        Ok(Err(_)) => Err(Told::malformed("the body ended too early")),
        Err(_) => Err(Told::new(Kind::Http(StatusCode::REQUEST_TIMEOUT), "TIMEOUT", "the body did not come in time")),
    }
}

fn is_too_long(err: &axum::Error) -> bool {
    std::error::Error::source(err).is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}

async fn answer(
    app: &App,
    kind: Type,
    peer: Peer,
    headers: &HeaderMap,
    asked: Asked,
    by_get: bool,
) -> axum::response::Response {
    let admitted = match app.guest(peer, headers).await {
        Ok(guest) => app.admit(asked, &guest, "http").await.map(|admitted| (guest, admitted)),
        Err(told) => Err(told),
    };
    let (guest, admitted) = match admitted {
        Ok(admitted) => admitted,
        // A browser's EventSource can't read the answer to a refusal, so the stream tells it.
        Err(told) if kind == Type::Events && told.kind == Kind::Document => return sse::told(app, &told),
        Err(told) => return refuse(kind, &told),
    };
    if by_get && admitted.operation.kind == OperationType::Mutation {
        let told = Told::new(Kind::Method, "BAD_USER_INPUT", "a mutation is sent by POST");
        let mut response = refuse(kind, &told);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    if kind == Type::Events {
        return sse::distinct(app, guest, admitted, headers).await;
    }
    if admitted.operation.kind == OperationType::Subscription {
        let told =
            Told::document("a subscription goes over a WebSocket, or is asked for with `Accept: text/event-stream`");
        return refuse(kind, &told);
    }
    match execute(app, admitted).await {
        Ok(response) => write(kind, StatusCode::OK, &response),
        Err(told) => refuse(kind, &told),
    }
}

fn write(kind: Type, status: StatusCode, response: &Response) -> axum::response::Response {
    match serde_json::to_vec(response) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, kind.header())], bytes).into_response(),
        Err(err) => refuse(kind, &Told::ours(err)),
    }
}

/// Tells why a request is not executed; also what other routes say.
pub fn refuse(kind: Type, told: &Told) -> axum::response::Response {
    let written = if kind == Type::Events { Type::Json } else { kind };
    let status = told.status(kind == Type::Json);
    let mut response = (status, [(header::CONTENT_TYPE, written.header())], told.body().to_string()).into_response();
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn not_acceptable() -> axum::response::Response {
    let told = "accept application/graphql-response+json, application/json or text/event-stream";
    refuse(Type::Json, &Told::new(Kind::Http(StatusCode::NOT_ACCEPTABLE), "BAD_USER_INPUT", told))
}

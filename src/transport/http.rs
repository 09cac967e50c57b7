//! GraphQL over HTTP by its specification: POST, and GET for queries; the type of the answer is negotiated, and the status
//! says what became of the request.

use std::sync::Arc;

pub use super::accept::Type;
use super::address_limits::BufferedBytes;
use super::auth::Principal;
use super::connections::ConnectionPermit;
use super::error::{Kind, RequestError};
use super::execute::execute;
use super::origin::Peer;
use super::request::GraphqlRequest;
use super::{App, body, socket, sse};
use async_graphql::parser::types::OperationType;
use axum::body::{Body, Bytes};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use mediatype::{MediaType, ReadParams, names};

use crate::kernel::cost;

/// Answers a POST.
pub async fn post(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> axum::response::Response {
    let Some(kind) = Type::accepted(&headers) else { return not_acceptable() };
    // Who asks comes first: until then nothing of the body is read.
    let asked = async {
        let principal = app.principal(peer, &headers).await?;
        Ok::<_, RequestError>((asked(&app, &principal, &headers, body).await?, principal))
    };
    // The load is counted until the answer is there.
    let ((asked, _load), principal) = match asked.await {
        Ok(asked) => asked,
        Err(told) => return refuse(kind, &told),
    };
    answer(&app, kind, principal, &headers, asked, false).await
}

/// Answers a GET: the way to a WebSocket, or a query in the URL.
pub async fn get(
    app: State<App>,
    peer: Extension<Peer>,
    place: Extension<ConnectionPermit>,
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
    let asked = async {
        let principal = app.principal(peer, &headers).await?;
        Ok::<_, RequestError>((GraphqlRequest::of_url(&query.unwrap_or_default())?, principal))
    };
    match asked.await {
        Ok((asked, principal)) => answer(&app, kind, principal, &headers, asked, true).await,
        Err(told) => refuse(kind, &told),
    }
}

/// Reads a body that must be JSON: no page elsewhere can send that without asking first. With it comes its load, to be held
/// as long as the request is worked on.
pub(super) async fn asked(
    app: &App,
    principal: &Principal,
    headers: &HeaderMap,
    body: Body,
) -> Result<(GraphqlRequest, BufferedBytes), RequestError> {
    let content = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = MediaType::parse(content).ok().filter(|media| {
        let utf8 = media
            .params()
            .all(|(name, value)| name != names::CHARSET || value.unquoted_str().eq_ignore_ascii_case("utf-8"));
        (media.ty, media.subty, media.suffix) == (names::APPLICATION, names::JSON, None) && utf8
    });
    if media.is_none() {
        let told = "send application/json, in UTF-8";
        return Err(RequestError::new(Kind::Http(StatusCode::UNSUPPORTED_MEDIA_TYPE), "BAD_USER_INPUT", told));
    }
    let whole = body::whole(app, principal, body).await?;
    Ok((GraphqlRequest::of_bytes(&whole.bytes)?, whole.load))
}

async fn answer(
    app: &App,
    kind: Type,
    principal: Principal,
    headers: &HeaderMap,
    asked: GraphqlRequest,
    by_get: bool,
) -> axum::response::Response {
    let admitted = match app.admit(asked, &principal, "http").await {
        Ok(admitted) => admitted,
        // A browser's EventSource can't read the answer to a refusal, so the stream tells it.
        Err(told) if kind == Type::Events && told.kind == Kind::Document => return sse::told(app, &told),
        Err(told) => return refuse(kind, &told),
    };
    if by_get && admitted.operation.kind == OperationType::Mutation {
        let told = RequestError::new(Kind::Method, "BAD_USER_INPUT", "a mutation is sent by POST");
        let mut response = refuse(kind, &told);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    if kind == Type::Events {
        return sse::distinct(app, principal, admitted, headers).await;
    }
    if admitted.operation.kind == OperationType::Subscription {
        let told = RequestError::document(
            "a subscription goes over a WebSocket, or is asked for with `Accept: text/event-stream`",
        );
        return refuse(kind, &told);
    }
    let cost = admitted.cost.clone();
    match execute(app, admitted).await {
        Ok(bytes) => {
            let body = Bytes::from_owner(Sent { bytes, _cost: cost });
            (StatusCode::OK, [(header::CONTENT_TYPE, kind.header())], body).into_response()
        }
        Err(told) => refuse(kind, &told),
    }
}

/// An answer on its way to the client, counted for its key until it is sent.
struct Sent {
    bytes: Vec<u8>,
    _cost: Arc<cost::Request>,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Tells why a request is not executed; also what other routes say.
pub fn refuse(kind: Type, told: &RequestError) -> axum::response::Response {
    let written = if kind == Type::Events { Type::Json } else { kind };
    let status = told.status(kind == Type::Json);
    let mut response = (status, [(header::CONTENT_TYPE, written.header())], told.body().to_string()).into_response();
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = told.retry {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn not_acceptable() -> axum::response::Response {
    let told = "accept application/graphql-response+json, application/json or text/event-stream";
    refuse(Type::Json, &RequestError::new(Kind::Http(StatusCode::NOT_ACCEPTABLE), "BAD_USER_INPUT", told))
}

//! GraphQL over HTTP by its specification: POST, and GET for queries. The response's media type is
//! negotiated, and its status depends on the outcome.

use std::sync::Arc;

use super::accept::Type;
use super::auth::Principal;
use super::connections::ConnectionPermit;
use super::error::{Kind, RequestError};
use super::execute::execute;
use super::origin::Peer;
use super::request::GraphqlRequest;
use super::response::{not_acceptable, refuse};
use super::{App, body, socket, sse};
use async_graphql::parser::types::OperationType;
use axum::body::{Body, Bytes};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;

use crate::kernel::cost;

/// Answers a POST.
pub async fn post(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> axum::response::Response {
    let Some(kind) = Type::accepted(&headers) else { return not_acceptable() };
    // Authentication comes first: until then nothing of the body is read.
    let read = async {
        let principal = app.principal(peer, &headers).await?;
        Ok::<_, RequestError>((body::graphql_request(&app, &principal, &headers, body).await?, principal))
    };
    // The body's bytes are counted until the response is complete.
    let ((request, _load), principal) = match read.await {
        Ok(read) => read,
        Err(error) => return refuse(kind, &error),
    };
    answer(&app, kind, principal, &headers, request, false).await
}

/// Answers a GET: the upgrade to a WebSocket, or a query in the URL.
pub async fn get(
    app: State<App>,
    peer: Extension<Peer>,
    permit: Extension<ConnectionPermit>,
    headers: HeaderMap,
    query: RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> axum::response::Response {
    match upgrade {
        Ok(upgrade) => socket::upgrade(app.0, peer.0, permit.0, &headers, upgrade),
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
    let read = async {
        let principal = app.principal(peer, &headers).await?;
        Ok::<_, RequestError>((GraphqlRequest::of_url(&query.unwrap_or_default())?, principal))
    };
    match read.await {
        Ok((request, principal)) => answer(&app, kind, principal, &headers, request, true).await,
        Err(error) => refuse(kind, &error),
    }
}

async fn answer(
    app: &App,
    kind: Type,
    principal: Principal,
    headers: &HeaderMap,
    request: GraphqlRequest,
    by_get: bool,
) -> axum::response::Response {
    let admitted = match app.admit(request, &principal, "http").await {
        Ok(admitted) => admitted,
        // A browser's EventSource can't read the body of an error response, so the stream sends it.
        Err(error) if kind == Type::Events && error.kind == Kind::Document => return sse::error_stream(app, &error),
        Err(error) => return refuse(kind, &error),
    };
    if by_get && admitted.operation.kind == OperationType::Mutation {
        let error = RequestError::new(Kind::Method, "METHOD_NOT_ALLOWED", "a mutation must be sent by POST");
        let mut response = refuse(kind, &error);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    if kind == Type::Events {
        return sse::distinct(app, principal, admitted, headers).await;
    }
    if admitted.operation.kind == OperationType::Subscription {
        let error = RequestError::document(
            "a subscription requires a WebSocket, or a request with `Accept: text/event-stream`",
        );
        return refuse(kind, &error.of_field("Accept"));
    }
    let cost = admitted.cost.clone();
    match execute(app, admitted).await {
        Ok(bytes) => {
            let body = Bytes::from_owner(CountedBody { bytes, _cost: cost });
            (StatusCode::OK, [(header::CONTENT_TYPE, kind.header())], body).into_response()
        }
        Err(error) => refuse(kind, &error),
    }
}

/// A response whose bytes are counted for its key until it is sent.
struct CountedBody {
    bytes: Vec<u8>,
    _cost: Arc<cost::Request>,
}

impl AsRef<[u8]> for CountedBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

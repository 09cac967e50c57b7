//! GraphQL by POST: JSON in, JSON out, bounded, with panics caught.

use async_graphql::{Request, Response};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::json;

use super::{App, from_here, guard};
use crate::graphql::asked_by;

const JSON: &str = "application/json";
const GRAPHQL: &str = "application/graphql-response+json";

/// Answers one request. A body of another content type is refused, so that no page elsewhere can post a form here.
pub async fn post(State(app): State<App>, headers: HeaderMap, body: Bytes) -> axum::response::Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
    let kind = if accept.contains(GRAPHQL) { GRAPHQL } else { JSON };
    if !from_here(&headers) {
        return refuse(kind, StatusCode::FORBIDDEN, "in development mode only this machine may ask");
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if content_type.split(';').next().unwrap_or_default().trim() != JSON {
        return refuse(kind, StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json");
    }
    let mut request: Request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(err) => return refuse(kind, StatusCode::BAD_REQUEST, &format!("the body is no GraphQL request: {err}")),
    };
    if let Err(why) = guard(&mut request) {
        return refuse(kind, StatusCode::BAD_REQUEST, &why);
    }
    let request = asked_by(request, &app.db, &app.viewer);
    let schema = app.schema.clone();
    // In a task of its own: a panic in a resolver is an answer, and a client that goes away ends nothing half way.
    match tokio::spawn(async move { schema.execute(request).await }).await {
        Ok(response) => answer(kind, &response),
        Err(_) => refuse(kind, StatusCode::INTERNAL_SERVER_ERROR, "something went wrong on our side"),
    }
}

fn answer(kind: &'static str, response: &Response) -> axum::response::Response {
    // By the specification the newer type tells by its status that nothing was executed.
    let failed = response.is_err() && response.data == async_graphql::Value::Null;
    let status = if failed && kind == GRAPHQL { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    match serde_json::to_vec(response) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, kind)], bytes).into_response(),
        Err(_) => refuse(kind, StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written"),
    }
}

fn refuse(kind: &'static str, status: StatusCode, why: &str) -> axum::response::Response {
    let body = json!({ "errors": [{ "message": why }] }).to_string();
    (status, [(header::CONTENT_TYPE, kind)], body).into_response()
}

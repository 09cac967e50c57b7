//! Responses for errors, of every route.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::accept::Type;
use super::error::{Kind, RequestError};

/// The response for an error.
pub fn refuse(kind: Type, error: &RequestError) -> Response {
    let written = if kind == Type::Events { Type::Json } else { kind };
    let status = error.status(kind == Type::Json);
    let mut response = (status, [(header::CONTENT_TYPE, written.header())], error.body().to_string()).into_response();
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = error.retry {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The response for an `Accept` that allows none of the offered types.
pub(super) fn not_acceptable() -> Response {
    let message = "`Accept` must allow application/graphql-response+json, application/json or text/event-stream";
    let error = RequestError::new(Kind::Http(StatusCode::NOT_ACCEPTABLE), "BAD_USER_INPUT", message);
    refuse(Type::Json, &error.of_field("Accept"))
}

//! Errors of requests that are not executed. The kind decides the HTTP status and the code by which
//! a socket is closed.

use async_graphql::{Response, ServerError, Value as GraphqlValue};
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::graphql::document;
use crate::kernel::error::{Code, Error, Refusal};
use crate::kernel::{limits, quote};

/// The error of a request that is not executed.
#[derive(Clone, Debug)]
pub struct RequestError {
    /// The kind of error.
    pub kind: Kind,
    /// Seconds until a retry makes sense; `None` if it does not.
    pub retry: Option<u64>,
    errors: Vec<Value>,
}

/// The kinds of errors, by their HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request is not a GraphQL request.
    Malformed,
    /// The document does not parse, does not validate, or exceeds a limit.
    Document,
    /// A mutation was sent by GET.
    Method,
    /// The credentials are missing or invalid.
    Unauthenticated,
    /// The principal lacks the permission.
    Forbidden,
    /// A quota is exhausted for now.
    Busy,
    /// Any other HTTP status.
    Http(StatusCode),
    /// An internal error.
    Internal,
}

impl RequestError {
    /// Creates an error of a kind, with a code and a message.
    pub fn new(kind: Kind, code: &str, message: impl Into<String>) -> Self {
        let error = json!({ "message": quote::brief(message.into()), "extensions": { "code": code } });
        Self { kind, retry: None, errors: vec![error] }
    }

    /// Sets the seconds until a retry.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry = Some(seconds);
        for error in &mut self.errors {
            error["extensions"]["retryAfterSeconds"] = json!(seconds);
        }
        self
    }

    /// Creates an error for a service that is unavailable for now.
    pub fn unavailable(message: impl Into<String>, seconds: u64) -> Self {
        let code = Code::Unavailable.as_str();
        Self::new(Kind::Http(StatusCode::SERVICE_UNAVAILABLE), code, message).retry_after(seconds)
    }

    /// True if the error is temporary and says nothing about the principal.
    pub fn is_temporary(&self) -> bool {
        matches!(self.kind, Kind::Internal | Kind::Busy | Kind::Http(StatusCode::SERVICE_UNAVAILABLE))
    }

    /// Adds the cursor to resume from to an error that is temporary, unless it has one.
    pub fn resumable(mut self, cursor: &str) -> Self {
        let temporary = [Code::Unavailable.as_str(), "INTERNAL", "TIMEOUT"];
        let are_all_temporary = self.is_temporary() || self.retry.is_some();
        for error in &mut self.errors {
            let extensions = &mut error["extensions"];
            let is_temporary = !extensions["retryAfterSeconds"].is_null()
                || extensions["code"].as_str().is_some_and(|code| temporary.contains(&code));
            if (are_all_temporary || is_temporary) && extensions["cursor"].is_null() {
                extensions["cursor"] = json!(cursor);
            }
        }
        self
    }

    /// Creates an error for something that is not a GraphQL request.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(Kind::Malformed, Code::BadUserInput.as_str(), message)
    }

    /// Sets the field that the error is about.
    pub fn of_field(mut self, field: &str) -> Self {
        for error in &mut self.errors {
            error["extensions"]["field"] = json!(field);
        }
        self
    }

    /// Creates an error for a document over a limit.
    pub fn limit(message: impl Into<String>) -> Self {
        Self::new(Kind::Document, Code::LimitExceeded.as_str(), message).of_field(document::DOCUMENT_PARAMETER)
    }

    /// Creates an error for a document that can't be executed for another reason.
    pub fn document(message: impl Into<String>) -> Self {
        Self::new(Kind::Document, Code::BadUserInput.as_str(), message)
    }

    /// Creates an error for missing or invalid credentials.
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(Kind::Unauthenticated, Code::Unauthenticated.as_str(), message)
    }

    /// Creates an error for a missing permission.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(Kind::Forbidden, Code::Forbidden.as_str(), message)
    }

    /// Creates an error for an exhausted quota.
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(Kind::Busy, Code::LimitExceeded.as_str(), message)
    }

    /// Creates an internal error. Logs the cause; the client sees the id of that log entry only.
    pub fn internal(what: impl std::fmt::Display) -> Self {
        let id = uuid::Uuid::now_v7().simple().to_string();
        tracing::error!(error_id = id, error = %what, "a request failed");
        let message = format!("internal error; it is logged as {id}");
        let error = json!({ "message": message, "extensions": { "code": "INTERNAL", "id": id } });
        Self { kind: Kind::Internal, retry: None, errors: vec![error] }
    }

    /// Creates an error from those of the parser or the validation.
    pub fn errors(errors: &[ServerError]) -> Self {
        let coded = |error: &ServerError| {
            let mut error = document::with_code(error.clone());
            if let Some((at, _)) = error.message.char_indices().nth(limits::ERROR_MESSAGE_CHARS) {
                error.message.truncate(at);
            }
            serde_json::to_value(error).unwrap_or_default()
        };
        let errors = errors.iter().take(limits::REPORTED_ERRORS).map(coded).collect();
        Self { kind: Kind::Document, retry: None, errors }
    }

    /// The error of a request that met an unavailable database: always for a query, for a mutation
    /// unless one of its fields was executed.
    pub fn of_unavailable(response: &Response, is_query: bool) -> Option<Self> {
        let away = Code::Unavailable.as_str().into();
        let is_away = |error: &ServerError| {
            error.extensions.as_ref().and_then(|extensions| extensions.get("code")) == Some(&away)
        };
        let done = match &response.data {
            GraphqlValue::Object(fields) => fields.values().any(|value| *value != GraphqlValue::Null),
            data => *data != GraphqlValue::Null,
        };
        let failed = response.errors.iter().any(is_away) && (is_query || !done);
        failed.then(|| Refusal::unavailable().into())
    }

    /// The errors of a request that the executor did not begin: it has no data, and no error with a
    /// path.
    pub fn of_unstarted(response: &Response) -> Option<Self> {
        let begun = response.data != GraphqlValue::Null || response.errors.iter().any(|error| !error.path.is_empty());
        (!begun && response.is_err()).then(|| Self::errors(&response.errors))
    }

    /// The code of the first error.
    pub fn code(&self) -> &str {
        self.errors.first().and_then(|error| error["extensions"]["code"].as_str()).unwrap_or_default()
    }

    /// The errors of a subscription whose source failed. An error below its root field is the
    /// failure of a single item, which ends the subscription only if its items build on each other.
    pub fn of_subscription(response: &Response, is_list: bool) -> Option<Self> {
        let source = is_list || response.errors.iter().all(|error| error.path.len() <= 1);
        (response.is_err() && response.data == GraphqlValue::Null && source).then(|| Self::errors(&response.errors))
    }

    /// The list of errors.
    pub fn list(&self) -> Value {
        Value::Array(self.errors.clone())
    }

    /// The response: errors, and no `data`.
    pub fn body(&self) -> Value {
        json!({ "errors": self.errors })
    }

    /// The HTTP status. An invalid document is a 200 if the client accepts the older media type
    /// only.
    pub fn status(&self, older: bool) -> StatusCode {
        match self.kind {
            Kind::Document if older => StatusCode::OK,
            Kind::Document | Kind::Malformed => StatusCode::BAD_REQUEST,
            Kind::Method => StatusCode::METHOD_NOT_ALLOWED,
            Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::Busy => StatusCode::TOO_MANY_REQUESTS,
            Kind::Http(status) => status,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<Error> for RequestError {
    fn from(err: Error) -> Self {
        match err {
            Error::Refused(refusal) => refusal.into(),
            Error::Internal(_) if err.is_unreachable() => {
                log_failure!(error, err, "a request failed");
                Refusal::unavailable().into()
            }
            Error::Internal(_) => Self::internal(err),
        }
    }
}

impl From<Refusal> for RequestError {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal.code {
            Code::Unauthenticated => Kind::Unauthenticated,
            Code::Forbidden => Kind::Forbidden,
            Code::Unavailable => Kind::Http(StatusCode::SERVICE_UNAVAILABLE),
            Code::LimitExceeded if refusal.details.contains_key("retryAfterSeconds") => Kind::Busy,
            _ => Kind::Document,
        };
        let mut extensions = refusal.details;
        let retry = extensions.get("retryAfterSeconds").and_then(Value::as_u64);
        extensions.insert("code".into(), json!(refusal.code.as_str()));
        Self { kind, retry, errors: vec![json!({ "message": refusal.message, "extensions": extensions })] }
    }
}

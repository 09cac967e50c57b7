//! What a request is told that is not executed: its kind decides the status over HTTP and the code over a socket.

use async_graphql::{Response, ServerError, Value as GraphqlValue};
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::graphql::document;
use crate::kernel::error::{Code, Error, Refusal};
use crate::kernel::limits;

/// Why a request is not executed.
#[derive(Clone, Debug)]
pub struct RequestError {
    /// How it is told.
    pub kind: Kind,
    /// When to ask again, in seconds; none where that is of no use.
    pub retry: Option<u64>,
    errors: Vec<Value>,
}

/// What is wrong: with the request as such, with its document, or with who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No GraphQL request at all.
    Malformed,
    /// A document that does not parse, does not validate, or asks too much.
    Document,
    /// A mutation by GET.
    Method,
    /// Nobody known.
    Unknown,
    /// Known, but not allowed.
    Forbidden,
    /// Too much at once.
    Busy,
    /// Another status of HTTP.
    Http(StatusCode),
    /// A failure of ours.
    Ours,
}

impl RequestError {
    /// Of a kind, with a message and a code for programs.
    pub fn new(kind: Kind, code: &str, message: impl Into<String>) -> Self {
        let error = json!({ "message": message.into(), "extensions": { "code": code } });
        Self { kind, retry: None, errors: vec![error] }
    }

    /// The same, with when to ask again.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry = Some(seconds);
        for error in &mut self.errors {
            error["extensions"]["retryAfterSeconds"] = json!(seconds);
        }
        self
    }

    /// For now it can't be done, whoever asks.
    pub fn away(message: impl Into<String>, seconds: u64) -> Self {
        let code = Code::Unavailable.as_str();
        Self::new(Kind::Http(StatusCode::SERVICE_UNAVAILABLE), code, message).retry_after(seconds)
    }

    /// True where it is no judgement on who asks.
    pub fn passes(&self) -> bool {
        matches!(self.kind, Kind::Ours | Kind::Busy | Kind::Http(StatusCode::SERVICE_UNAVAILABLE))
    }

    /// No GraphQL request.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(Kind::Malformed, Code::BadUserInput.as_str(), message)
    }

    /// A document over a limit.
    pub fn limit(message: impl Into<String>) -> Self {
        Self::new(Kind::Document, Code::LimitExceeded.as_str(), message)
    }

    /// A document that can't be executed, for another reason.
    pub fn document(message: impl Into<String>) -> Self {
        Self::new(Kind::Document, Code::BadUserInput.as_str(), message)
    }

    /// Nobody is known by what was shown.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(Kind::Unknown, Code::Unauthenticated.as_str(), message)
    }

    /// Known, but not allowed.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(Kind::Forbidden, Code::Forbidden.as_str(), message)
    }

    /// Too much at once.
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(Kind::Busy, Code::LimitExceeded.as_str(), message)
    }

    /// A failure of ours: logged here, under the id that is told.
    pub fn ours(what: impl std::fmt::Display) -> Self {
        let id = uuid::Uuid::now_v7().simple().to_string();
        tracing::error!(error_id = id, error = %what, "a request failed");
        let message = format!("something went wrong on our side; it is logged as {id}");
        let error = json!({ "message": message, "extensions": { "code": "INTERNAL", "id": id } });
        Self { kind: Kind::Ours, retry: None, errors: vec![error] }
    }

    /// What the parser or the validation found.
    pub fn errors(errors: &[ServerError]) -> Self {
        let coded = |error: &ServerError| {
            let mut error = document::coded(error.clone());
            if let Some((at, _)) = error.message.char_indices().nth(limits::TOLD_CHARS) {
                error.message.truncate(at);
            }
            serde_json::to_value(error).unwrap_or_default()
        };
        let told = errors.iter().take(limits::TOLD_ERRORS).map(coded).collect();
        Self { kind: Kind::Document, retry: None, errors: told }
    }

    /// The refusal of a request that met a database that is away: of a query as a whole, of a mutation unless a field of it
    /// was carried out.
    pub fn away_of(response: &Response, is_query: bool) -> Option<Self> {
        let away = Code::Unavailable.as_str().into();
        let is_away = |error: &ServerError| error.extensions.as_ref().and_then(|told| told.get("code")) == Some(&away);
        let done = match &response.data {
            GraphqlValue::Object(fields) => fields.values().any(|value| *value != GraphqlValue::Null),
            data => *data != GraphqlValue::Null,
        };
        let none = response.errors.iter().any(is_away) && (is_query || !done);
        none.then(|| Refusal::unavailable().into())
    }

    /// What the executor says of a request that it did not begin: no data, and no error with a path.
    pub fn of(response: &Response) -> Option<Self> {
        let begun = response.data != GraphqlValue::Null || response.errors.iter().any(|error| !error.path.is_empty());
        (!begun && response.is_err()).then(|| Self::errors(&response.errors))
    }

    /// The code of the first error.
    pub fn code(&self) -> &str {
        self.errors.first().and_then(|error| error["extensions"]["code"].as_str()).unwrap_or_default()
    }

    /// What is said of a subscription that has no source of its items, or not any more: what fails below its field is the
    /// failure of one item.
    pub fn of_source(response: &Response) -> Option<Self> {
        let source = response.errors.iter().all(|error| error.path.len() <= 1);
        (response.is_err() && response.data == GraphqlValue::Null && source).then(|| Self::errors(&response.errors))
    }

    /// The errors alone.
    pub fn list(&self) -> Value {
        Value::Array(self.errors.clone())
    }

    /// The answer: errors, and no `data`.
    pub fn body(&self) -> Value {
        json!({ "errors": self.errors })
    }

    /// The status over HTTP; a document's faults are told by 200 where the client takes the older type only.
    pub fn status(&self, older: bool) -> StatusCode {
        match self.kind {
            Kind::Document if older => StatusCode::OK,
            Kind::Document | Kind::Malformed => StatusCode::BAD_REQUEST,
            Kind::Method => StatusCode::METHOD_NOT_ALLOWED,
            Kind::Unknown => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::Busy => StatusCode::TOO_MANY_REQUESTS,
            Kind::Http(status) => status,
            Kind::Ours => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<Error> for RequestError {
    fn from(err: Error) -> Self {
        match err {
            Error::Refused(refusal) => refusal.into(),
            Error::Ours(_) if err.is_away() => {
                log_failure!(error, err, "a request failed");
                Refusal::unavailable().into()
            }
            Error::Ours(_) => Self::ours(err),
        }
    }
}

impl From<Refusal> for RequestError {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal.code {
            Code::Unauthenticated => Kind::Unknown,
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

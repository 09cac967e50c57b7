//! The three kinds of failure: rejected (returned to the client with a code), absent (`None`, not
//! an error) and internal (logged; the client gets a code and an id).

use std::sync::Arc;

use sea_orm::{DbErr, SqlErr};
use serde_json::{Map, Value, json};

use crate::kernel::db::error_codes;
use crate::kernel::quote;

/// The reason that an operation failed.
#[derive(Debug)]
pub enum Error {
    /// The client can act on it and gets the message.
    Refused(Refusal),
    /// Internal failure; logged where it is handled.
    Internal(Fault),
}

/// Result of an operation that may be rejected or fail.
pub type Result<T> = std::result::Result<T, Error>;

/// The values of `extensions.code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Invalid input; `field` names the field.
    BadUserInput,
    /// The input refers to an object that does not exist.
    NotFound,
    /// The state machine has no such transition; `status` and `allowed` list the valid ones.
    InvalidTransition,
    /// A concurrent change came first, or the current state forbids the operation.
    Conflict,
    /// A limit or quota was exceeded.
    LimitExceeded,
    /// Missing or invalid credentials.
    Unauthenticated,
    /// The principal's role is not sufficient; `role` and `needed` say what is.
    Forbidden,
    /// The database is unreachable; `retryAfterSeconds` says when to retry.
    Unavailable,
}

impl Code {
    /// The text in `extensions.code`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadUserInput => "BAD_USER_INPUT",
            Self::NotFound => "NOT_FOUND",
            Self::InvalidTransition => "INVALID_TRANSITION",
            Self::Conflict => "CONFLICT",
            Self::LimitExceeded => "LIMIT_EXCEEDED",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::Unavailable => "UNAVAILABLE",
        }
    }
}

/// A rejection: a code, a message, and machine-readable details.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The code.
    pub code: Code,
    /// The message for the client.
    pub message: String,
    /// `field`, `status`, `allowed` …
    pub details: Map<String, Value>,
}

impl Refusal {
    /// Creates a rejection without details. What the message quotes of the input is shortened.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: quote::brief(message.into()), details: Map::new() }
    }

    /// An invalid value in a field of the input (BAD_USER_INPUT). The path is reported without the
    /// argument name `input`.
    pub fn input(field: &str, message: impl std::fmt::Display) -> Self {
        let field = field.strip_prefix("input.").unwrap_or(field);
        Self::new(Code::BadUserInput, format!("{field}: {message}")).with("field", json!(field))
    }

    /// An id in the input that refers to nothing (NOT_FOUND).
    pub fn not_found(noun: &str, id: impl std::fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("there is no {noun} {id}"))
    }

    /// The current state forbids the operation (CONFLICT).
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Code::Conflict, message)
    }

    /// The row was changed concurrently: the expected revision is outdated (CONFLICT).
    pub fn stale(noun: &str, revision: i32) -> Self {
        Self::conflict(format!("the {noun} has changed: it is at revision {revision} now"))
            .with("revision", json!(revision))
    }

    /// A limit that was exceeded (LIMIT_EXCEEDED).
    pub fn limit(message: impl Into<String>) -> Self {
        Self::new(Code::LimitExceeded, message)
    }

    /// A limit that was exceeded by a field of the input (LIMIT_EXCEEDED).
    pub fn limit_for_field(field: &str, message: impl std::fmt::Display) -> Self {
        let field = field.strip_prefix("input.").unwrap_or(field);
        Self::limit(format!("{field}: {message}")).with("field", json!(field))
    }

    /// The database is unreachable (UNAVAILABLE).
    pub fn unavailable() -> Self {
        let seconds = crate::kernel::limits::RETRY_AFTER.as_secs();
        Self::new(Code::Unavailable, format!("the database can't be reached: retry in {seconds} s"))
            .with("retryAfterSeconds", json!(seconds))
    }

    /// A transition that the state machine does not have (INVALID_TRANSITION).
    pub fn transition<L: entity::StateMachine>(noun: &str, status: L, act: L::Transition) -> Self {
        let by_anybody = status.allowed().into_iter().filter(|act| !L::BY_ENGINE.contains(act));
        let mut allowed: Vec<String> = by_anybody.map(|act| entity::state_machine::verb(&act)).collect();
        allowed.dedup();
        let verb = entity::state_machine::verb(&act);
        let next = match allowed.is_empty() {
            true if status.is_final() => "nothing, it has ended".into(),
            true => "nothing".into(),
            false => allowed.join(", "),
        };
        Self::new(
            Code::InvalidTransition,
            format!("cannot {verb} a {noun} that is {status}; allowed from there: {next}"),
        )
        .with("status", json!(status.to_string()))
        .with("allowed", json!(allowed))
    }

    /// Adds a machine-readable detail.
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.details.insert(key.into(), value);
        self
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// An internal failure.
#[derive(Debug)]
pub struct Fault(pub Box<dyn std::error::Error + Send + Sync>);

impl Fault {
    /// True if the database rejected a row that violates a unique constraint.
    pub fn is_duplicate(&self) -> bool {
        matches!(self.sql(), Some(SqlErr::UniqueConstraintViolation(_)))
    }

    /// The message for a violated constraint: another transaction wrote between our read and our
    /// write. `None` for every other failure.
    pub fn conflict(&self) -> Option<&'static str> {
        match self.sql()? {
            SqlErr::UniqueConstraintViolation(_) => Some("another object has this name, key or address already"),
            SqlErr::ForeignKeyConstraintViolation(_) => {
                Some("the object is in use, or refers to one that no longer exists")
            }
            _ => None,
        }
    }

    fn sql(&self) -> Option<SqlErr> {
        match self.0.downcast_ref::<Shared>() {
            Some(Shared(err)) => err.db().and_then(DbErr::sql_err),
            None => self.0.downcast_ref::<DbErr>().and_then(DbErr::sql_err),
        }
    }
}

/// One failure of which several learn, such as all who wait for one statement.
#[derive(Debug)]
struct Shared(Arc<Error>);

impl std::fmt::Display for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Shared {}

impl Error {
    /// Returns a failure to one of several who learn of it.
    pub fn shared(err: &Arc<Self>) -> Self {
        match err.as_ref() {
            Self::Refused(refusal) => refusal.clone().into(),
            Self::Internal(_) => Self::internal(Shared(err.clone())),
        }
    }

    /// Wraps an internal failure, or a description of what was being done.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(Fault(cause.into()))
    }

    /// True if the failure is transient, as when the database is unreachable.
    pub fn is_transient(&self) -> bool {
        self.db().is_some_and(error_codes::is_transient)
    }

    /// Prefixes an internal failure with the name of the setting that caused it.
    pub fn for_setting(self, setting: &str) -> Self {
        match self {
            Self::Internal(fault) => Self::internal(format!("{setting}: {}", fault.0)),
            refused @ Self::Refused(_) => refused,
        }
    }

    /// True if the database is unreachable.
    pub fn is_unreachable(&self) -> bool {
        self.db().is_some_and(error_codes::is_unreachable)
    }

    /// The message that every member of the org may read; for internal failures, the log has the
    /// details.
    pub fn public_message(&self) -> String {
        match (self, self.db()) {
            (Self::Refused(refusal), _) => refusal.message.clone(),
            (Self::Internal(_), Some(err)) => error_codes::public_message(err),
            (Self::Internal(_), None) => "internal error; see the server's log".to_owned(),
        }
    }

    /// The underlying database error, if there is one.
    pub fn db(&self) -> Option<&DbErr> {
        match self {
            Self::Internal(Fault(inner)) => match inner.downcast_ref::<Shared>() {
                Some(Shared(err)) => err.db(),
                None => inner.downcast_ref(),
            },
            Self::Refused(_) => None,
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Internal(fault) => fault.0.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<DbErr> for Error {
    fn from(err: DbErr) -> Self {
        Self::internal(err)
    }
}

impl From<serde_json::Error> for Error {
    fn from(err: serde_json::Error) -> Self {
        Self::internal(err)
    }
}

impl From<std::io::Error> for Error {
    fn from(err: std::io::Error) -> Self {
        Self::internal(err)
    }
}

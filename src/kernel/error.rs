//! What can go wrong, in three kinds: refused (told), absent (`None`, not an error), ours (logged, with an id for the client).

use sea_orm::{DbErr, SqlErr};
use serde_json::{Map, Value, json};

/// Why something is not done.
#[derive(Debug)]
pub enum Error {
    /// The client can do something about it, and is told what.
    Refused(Refusal),
    /// The client can't; it is logged where it is handled.
    Ours(Fault),
}

/// Short for everything that may be refused.
pub type Result<T> = std::result::Result<T, Error>;

/// The codes of `extensions.code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The input is wrong; `field` names where.
    BadUserInput,
    /// What an input refers to is not there.
    NotFound,
    /// That edge does not exist; `status` and `allowed` tell what does.
    InvalidTransition,
    /// Somebody else was there first, or the state of things forbids it.
    Conflict,
    /// More than one may.
    LimitExceeded,
    /// Nobody is known by what was shown.
    Unauthenticated,
    /// Known, but the role does not allow it; `role` and `needed` tell which would.
    Forbidden,
    /// The database can't be reached for now; `retryAfterSeconds` tells when to ask again.
    Unavailable,
}

impl Code {
    /// As it stands in `extensions.code`.
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

/// A refusal: a code, a sentence, and what a program needs to go on.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The code.
    pub code: Code,
    /// The sentence.
    pub message: String,
    /// `field`, `status`, `allowed` …
    pub details: Map<String, Value>,
}

impl Refusal {
    /// Of a code, with a sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Map::new() }
    }

    /// A wrong value in a field of the input; the path is told without the argument's own name, `input`.
    pub fn input(field: &str, message: impl std::fmt::Display) -> Self {
        let field = field.strip_prefix("input.").unwrap_or(field);
        Self::new(Code::BadUserInput, format!("{field}: {message}")).with("field", json!(field))
    }

    /// An id in the input that leads nowhere.
    pub fn not_found(noun: &str, id: impl std::fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("there is no {noun} {id}"))
    }

    /// The state of things forbids it.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Code::Conflict, message)
    }

    /// Somebody changed the row in between.
    pub fn stale(noun: &str, revision: i32) -> Self {
        Self::conflict(format!("the {noun} has changed: it is at revision {revision} now"))
            .with("revision", json!(revision))
    }

    /// More than one may.
    pub fn limit(message: impl Into<String>) -> Self {
        Self::new(Code::LimitExceeded, message)
    }

    /// More than one may in a field of the input.
    pub fn too_much(field: &str, message: impl std::fmt::Display) -> Self {
        let field = field.strip_prefix("input.").unwrap_or(field);
        Self::limit(format!("{field}: {message}")).with("field", json!(field))
    }

    /// The database is away: UNAVAILABLE.
    pub fn unavailable() -> Self {
        let seconds = crate::kernel::limits::RETRY_AFTER.as_secs();
        Self::new(Code::Unavailable, format!("the database can't be reached: ask again in {seconds} s"))
            .with("retryAfterSeconds", json!(seconds))
    }

    /// An edge that the law does not have.
    pub fn transition<L: entity::StateMachine>(noun: &str, status: L, act: L::Transition) -> Self {
        let mut allowed: Vec<String> = status.allowed().iter().map(entity::state_machine::verb).collect();
        allowed.dedup();
        let verb = entity::state_machine::verb(&act);
        let told = if allowed.is_empty() { "nothing, it has ended".into() } else { allowed.join(", ") };
        Self::new(Code::InvalidTransition, format!("cannot {verb} a {noun} that is {status}; from there: {told}"))
            .with("status", json!(status.to_string()))
            .with("allowed", json!(allowed))
    }

    /// Adds what a program needs to go on.
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

/// A failure of ours.
#[derive(Debug)]
pub struct Fault(pub Box<dyn std::error::Error + Send + Sync>);

impl Fault {
    /// True if the database refused a row because another one has the same unique value.
    pub fn is_duplicate(&self) -> bool {
        matches!(self.sql(), Some(SqlErr::UniqueConstraintViolation(_)))
    }

    /// The sentence for a constraint of the database that was in the way: somebody else wrote between the look and the
    /// write. None for every other fault.
    pub fn conflict(&self) -> Option<&'static str> {
        match self.sql()? {
            SqlErr::UniqueConstraintViolation(_) => Some("there is something with this name, key or address already"),
            SqlErr::ForeignKeyConstraintViolation(_) => Some("it is in use, or refers to something that is gone"),
            _ => None,
        }
    }

    fn sql(&self) -> Option<SqlErr> {
        self.0.downcast_ref::<DbErr>().and_then(DbErr::sql_err)
    }
}

impl Error {
    /// A failure of ours, with what was being done.
    pub fn ours(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Ours(Fault(what.into()))
    }

    /// Whether it passes by itself, as a database that is away does.
    pub fn passes(&self) -> bool {
        self.db().is_some_and(crate::kernel::db::dialect::passes)
    }

    /// True if the database's file is another process's.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Ours(Fault(inner)) if inner.is::<crate::kernel::db::file::FileInUse>())
    }

    /// The same failure of ours, with the setting that it is of.
    pub fn of_setting(self, setting: &str) -> Self {
        match self {
            Self::Ours(fault) => Self::ours(format!("{setting}: {}", fault.0)),
            refused @ Self::Refused(_) => refused,
        }
    }

    /// True if the database can't be reached.
    pub fn is_away(&self) -> bool {
        self.db().is_some_and(crate::kernel::db::dialect::is_away)
    }

    /// In words that anybody of the org may read; a failure of ours has more in the log.
    pub fn told(&self) -> String {
        match (self, self.db()) {
            (Self::Refused(refusal), _) => refusal.message.clone(),
            (Self::Ours(_), Some(err)) => crate::kernel::db::dialect::told(err),
            (Self::Ours(_), None) => "an error of ours; the log says more".to_owned(),
        }
    }

    /// The database's error below, if that is what it is.
    pub fn db(&self) -> Option<&DbErr> {
        match self {
            Self::Ours(Fault(inner)) => inner.downcast_ref(),
            Self::Refused(_) => None,
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Ours(fault) => fault.0.fmt(f),
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
        Self::ours(err)
    }
}

impl From<serde_json::Error> for Error {
    fn from(err: serde_json::Error) -> Self {
        Self::ours(err)
    }
}

impl From<std::io::Error> for Error {
    fn from(err: std::io::Error) -> Self {
        Self::ours(err)
    }
}

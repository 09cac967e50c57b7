//! All that differs by database.

use sea_orm::sea_query::LikeExpr;
use sea_orm::{DbErr, RuntimeErr};

use crate::error::{Error, Result};

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The embedded default.
    Sqlite,
    /// For many nodes.
    Postgres,
}

/// The type of a column of `rows`.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    /// A UUID.
    Uuid,
    /// Text.
    Text,
    /// A whole number.
    Int,
    /// JSON.
    Json,
    /// A point in time.
    Time,
}

impl Dialect {
    /// By the address.
    pub fn of(url: &str) -> Result<Self> {
        match url.split(':').next() {
            Some("sqlite") => Ok(Self::Sqlite),
            Some("postgres" | "postgresql") => Ok(Self::Postgres),
            _ => Err(Error::ours("the database's address must begin with postgres:// or sqlite://")),
        }
    }

    /// The first parameter, which is JSON that was written as text.
    pub fn written_json(self) -> &'static str {
        match self {
            Self::Postgres => "CAST($1 AS text)::jsonb",
            Self::Sqlite => "$1",
        }
    }

    /// A table made of one JSON parameter (`$n`, an array of objects), to join set-based statements with.
    /// UUIDs in it are 32 hexadecimal digits, times RFC 3339.
    pub fn rows(self, parameter: &str, alias: &str, columns: &[(&str, Type)]) -> String {
        match self {
            Self::Postgres => {
                let columns: Vec<String> = columns
                    .iter()
                    .map(|(name, of)| {
                        let of = match of {
                            Type::Uuid => "uuid",
                            Type::Text => "text",
                            Type::Int => "bigint",
                            Type::Json => "jsonb",
                            Type::Time => "timestamptz",
                        };
                        format!("{name} {of}")
                    })
                    .collect();
                format!("jsonb_to_recordset({parameter}) AS {alias}({})", columns.join(", "))
            }
            Self::Sqlite => {
                let columns: Vec<String> = columns
                    .iter()
                    .map(|(name, of)| {
                        let value = format!("json_extract(value, '$.{name}')");
                        match of {
                            Type::Uuid => format!("unhex({value}) AS {name}"),
                            Type::Text | Type::Int | Type::Json | Type::Time => format!("{value} AS {name}"),
                        }
                    })
                    .collect();
                format!("(SELECT {} FROM json_each({parameter})) AS {alias}", columns.join(", "))
            }
        }
    }
}

/// A time as both databases' JSON rows carry it: the text that SQLite keeps, which Postgres reads as well; cut to
/// microseconds, which is what Postgres keeps.
pub fn time(at: chrono::DateTime<chrono::Utc>) -> String {
    chrono::SubsecRound::trunc_subsecs(at, 6).to_rfc3339_opts(chrono::SecondsFormat::AutoSi, false)
}

/// The pattern of a search: contains the text as it is, in any case, in a column that was case-folded by us.
pub fn containing(text: &str) -> LikeExpr {
    let mut pattern = String::from("%");
    for c in text.to_lowercase().chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    LikeExpr::new(pattern).escape('\\')
}

/// Whether the transaction should be repeated: deadlock, serialisation failure, busy.
pub fn may_succeed_again(err: &DbErr) -> bool {
    let inner = match err {
        DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner)) => inner,
        _ => return false,
    };
    let code = inner.as_database_error().and_then(|err| err.code()).unwrap_or_default();
    // Postgres' SQLSTATEs; SQLite's BUSY and LOCKED, plain and extended.
    matches!(code.as_ref(), "40001" | "40P01" | "5" | "6" | "261" | "262" | "517")
}

/// Whether a unique constraint stands in the way.
pub fn is_duplicate(err: &DbErr) -> bool {
    matches!(err.sql_err(), Some(sea_orm::SqlErr::UniqueConstraintViolation(_)))
}

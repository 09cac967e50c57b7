//! All that differs by database.

use sea_orm::sea_query::{CaseStatement, Condition, Expr, ExprTrait, LikeExpr};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, RuntimeErr, Statement};

use super::Tx;
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::{limits, storable, validate};

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The embedded default.
    Sqlite,
    /// For many nodes.
    Postgres,
}

impl From<DbBackend> for Dialect {
    fn from(backend: DbBackend) -> Self {
        if backend == DbBackend::Postgres { Self::Postgres } else { Self::Sqlite }
    }
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

    /// The parameters that one statement may have, with some to spare for what else is in it.
    pub fn parameters(self) -> usize {
        match self {
            Self::Postgres => 60_000,
            Self::Sqlite => 30_000,
        }
    }

    /// How the first and the second expression are written in a custom one.
    pub fn placeholders(self) -> (&'static str, &'static str) {
        match self {
            Self::Postgres => ("$1", "$2"),
            Self::Sqlite => ("?", "?"),
        }
    }

    /// The condition that what stands before it is one of a JSON array of texts, or of ids as 32 hexadecimal digits, given as
    /// one parameter. Rows are looked up by an index where there is one.
    pub fn among(self, parameter: &str, of: Type) -> String {
        match self {
            Self::Postgres => format!("= ANY(ARRAY({}))", self.listed(parameter, of)),
            Self::Sqlite => format!("IN ({})", self.listed(parameter, of)),
        }
    }

    /// The same for long arrays: each row is looked up in a table made of the array once. Postgres would go through an array
    /// for each row, and join with a list, whose length it does not know, in ways that are only good for short ones.
    pub fn among_many(self, parameter: &str, of: Type) -> String {
        match self {
            Self::Postgres => format!("IN ({}) IS TRUE", self.listed(parameter, of)),
            Self::Sqlite => self.among(parameter, of),
        }
    }

    fn listed(self, parameter: &str, of: Type) -> String {
        let value = match (self, of) {
            (Self::Postgres, Type::Uuid) => "CAST(value AS uuid)",
            (Self::Sqlite, Type::Uuid) => "unhex(value)",
            _ => "value",
        };
        match self {
            Self::Postgres => format!("SELECT {value} FROM jsonb_array_elements_text({parameter}) AS l(value)"),
            Self::Sqlite => format!("SELECT {value} FROM json_each({parameter})"),
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
                            // As JSON, which unwraps no texts, numbers and truth values; null is none, as on Postgres.
                            Type::Json => format!("NULLIF(value -> '$.{name}', 'null') AS {name}"),
                            Type::Text | Type::Int | Type::Time => format!("{value} AS {name}"),
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

/// The opposite of a condition: met where the condition is not, and where it is unknown, as on an absent value. In SQL's
/// three values, a plain NOT would leave those rows out of both.
pub fn unmet(condition: Condition) -> Expr {
    let met: Expr = CaseStatement::new().case(Expr::from(condition), Expr::val(1)).finally(Expr::val(0)).into();
    met.eq(0)
}

/// A condition on a column of folded text (`storable::folded`): it contains a text, in any case and spelling. Errors:
/// BAD_USER_INPUT for a longer text than a search may have; SQLite's patterns end at 50,000 bytes.
pub fn search(column: Expr, path: &str, text: &str) -> Result<Expr> {
    let folded = storable::folded(validate::search(path, text)?);
    if folded.len() > limits::SEARCH_BYTES {
        return Err(Refusal::input(path, format!("at most {} characters", limits::SEARCH_CHARS)).into());
    }
    let mut pattern = String::from("%");
    for c in folded.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    Ok(column.like(LikeExpr::new(pattern).escape('\\')))
}

/// Whether the transaction should be repeated after so many tries: deadlock, serialisation failure, busy. Also where a row
/// went away, or came to be used, between the look and the write: who looks again sees it, and says so as SQLite does, which
/// lets nobody in between.
pub fn may_succeed_again(err: &DbErr, tries: u32) -> bool {
    let inner = match err {
        DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner)) => inner,
        _ => return false,
    };
    let code = inner.as_database_error().and_then(|err| err.code()).unwrap_or_default();
    // Postgres' SQLSTATEs; SQLite's BUSY and LOCKED, plain and extended.
    match code.as_ref() {
        "40001" | "40P01" | "5" | "6" | "261" | "262" | "517" => tries < 10,
        "23503" => tries < 3,
        _ => false,
    }
}

/// Whether a failure passes by itself: the database is away, full or overloaded, or others are in the way. All else is
/// about what was to be done, and comes again.
pub fn passes(err: &DbErr) -> bool {
    let inner = match err {
        DbErr::Conn(_) | DbErr::ConnectionAcquire(_) => return true,
        DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner)) => inner,
        _ => return false,
    };
    let Some(told) = inner.as_database_error() else {
        // Input and output, a pool that is closed or used up, a protocol that broke off.
        return !is_of_values(inner);
    };
    let code = told.code().unwrap_or_default();
    // An SQLSTATE has five characters, SQLite's codes have fewer.
    if code.len() == 5 {
        // Connections, transactions, resources, objects in use, intervention, the system.
        return ["08", "25", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class));
    }
    // BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, CORRUPT, FULL, CANTOPEN, PROTOCOL, NOTADB.
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5..=11 | 13..=15 | 26))
}

/// True if the database can't be reached: a connection can't be had, broke, or was ended by a server that goes away.
pub fn is_away(err: &DbErr) -> bool {
    use sea_orm::sqlx::Error as E;
    let inner = match err {
        DbErr::Conn(RuntimeErr::SqlxError(inner))
        | DbErr::Exec(RuntimeErr::SqlxError(inner))
        | DbErr::Query(RuntimeErr::SqlxError(inner)) => inner,
        DbErr::Conn(_) | DbErr::ConnectionAcquire(_) => return true,
        _ => return false,
    };
    match inner.as_database_error().and_then(|err| err.code()) {
        // An SQLSTATE: connections, too many of them, a server that stops or starts.
        Some(code) if code.len() == 5 => {
            code.starts_with("08") || matches!(code.as_ref(), "53300" | "57P01" | "57P02" | "57P03")
        }
        Some(_) => false,
        None => matches!(inner.as_ref(), E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed),
    }
}

/// True if no connection was free in time, which may also be for others that have them.
pub fn waited(err: &DbErr) -> bool {
    matches!(err, DbErr::ConnectionAcquire(sea_orm::ConnAcquireErr::Timeout))
}

/// Whether Postgres ended a statement because its time was over.
pub fn ran_out(err: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner))) = err else {
        return false;
    };
    inner.as_database_error().is_some_and(|told| told.code().as_deref() == Some("57014"))
}

/// Whether a client's failure is about values: what can't be encoded, decoded or found.
fn is_of_values(err: &sea_orm::sqlx::Error) -> bool {
    use sea_orm::sqlx::Error as E;
    if let E::Protocol(told) = err {
        return told.contains("too many") || told.contains("out of range");
    }
    matches!(
        err,
        E::Encode(_)
            | E::Decode(_)
            | E::ColumnDecode { .. }
            | E::ColumnNotFound(_)
            | E::ColumnIndexOutOfBounds { .. }
            | E::TypeNotFound { .. }
            | E::RowNotFound
            | E::InvalidArgument(_)
    )
}

/// A failure in words that anybody may read: the database's code, and never a value.
pub fn told(err: &DbErr) -> String {
    match code(err) {
        Some(code) => format!("the database refuses it (code {code}); the log says more"),
        None => "the database could not do it; the log says more".to_owned(),
    }
}

/// Whether the database refused this very statement, so that others may do.
pub fn is_of_statement(err: &DbErr) -> bool {
    match err {
        DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner)) => {
            inner.as_database_error().is_some() && !may_succeed_again(err, 0)
        }
        _ => false,
    }
}

/// Whether a unique constraint stands in the way.
pub fn is_duplicate(err: &DbErr) -> bool {
    matches!(err.sql_err(), Some(sea_orm::SqlErr::UniqueConstraintViolation(_)))
}

/// The database's own code of an error.
fn code(err: &DbErr) -> Option<String> {
    match err {
        DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner)) => {
            inner.as_database_error().and_then(|err| err.code()).map(|code| code.into_owned())
        }
        _ => None,
    }
}

/// True if a statement came after another one of its transaction had failed.
pub fn is_aborted(err: &DbErr) -> bool {
    code(err).as_deref() == Some("25P02")
}

/// Keeps a name to this transaction until it ends: another one that asks for it waits, and sees what this one wrote.
pub(crate) async fn hold(tx: &Tx, name: &str) -> Result<()> {
    if tx.dialect() == Dialect::Sqlite {
        // There is one writer.
        return Ok(());
    }
    let sql = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
    tx.db().execute_raw(Statement::from_sql_and_values(tx.db().get_database_backend(), sql, [name.into()])).await?;
    Ok(())
}

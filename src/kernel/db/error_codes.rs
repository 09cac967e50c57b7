//! The meaning of the databases' errors, by their codes.

use sea_orm::{DbErr, RuntimeErr};

/// True if the transaction should be retried after this many tries: deadlock, serialisation
/// failure, busy. Also if a row was deleted or became referenced between the read and the write: a
/// retry sees it and reports it, as on SQLite, where nobody writes in between.
pub fn is_retryable(err: &DbErr, tries: u32) -> bool {
    let inner = match err {
        DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner)) => inner,
        _ => return false,
    };
    let code = inner.as_database_error().and_then(|err| err.code()).unwrap_or_default();
    // Postgres: SQLSTATEs; SQLite: BUSY and LOCKED, plain and extended.
    match code.as_ref() {
        "40001" | "40P01" | "5" | "6" | "261" | "262" | "517" => tries < 10,
        "23503" => tries < 3,
        _ => false,
    }
}

/// True if a failure is transient: the database is unreachable, full, overloaded or contended. All
/// others are caused by the operation itself, and would recur.
pub fn is_transient(err: &DbErr) -> bool {
    let inner = match err {
        DbErr::Conn(_) | DbErr::ConnectionAcquire(_) => return true,
        DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner)) => inner,
        _ => return false,
    };
    let Some(reported) = inner.as_database_error() else {
        // I/O, a pool that is closed or exhausted, an interrupted protocol.
        return !is_of_values(inner);
    };
    let code = reported.code().unwrap_or_default();
    // SQLSTATEs have five characters, SQLite's codes fewer.
    if code.len() == 5 {
        // Connection, transaction state, rollback, resources, objects in use, intervention, system.
        return ["08", "25", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class));
    }
    // BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, CORRUPT, FULL, CANTOPEN, PROTOCOL, NOTADB.
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5..=11 | 13..=15 | 26))
}

/// True if the database is unreachable: no connection can be opened, it broke, or the server closed
/// it while shutting down.
pub fn is_unreachable(err: &DbErr) -> bool {
    use sea_orm::sqlx::Error as E;
    let inner = match err {
        DbErr::Conn(RuntimeErr::SqlxError(inner))
        | DbErr::Exec(RuntimeErr::SqlxError(inner))
        | DbErr::Query(RuntimeErr::SqlxError(inner)) => inner,
        DbErr::Conn(_) | DbErr::ConnectionAcquire(_) => return true,
        _ => return false,
    };
    match inner.as_database_error().and_then(|err| err.code()) {
        // SQLSTATEs: connection errors, too many connections, a server that stops or starts.
        Some(code) if code.len() == 5 => {
            code.starts_with("08") || matches!(code.as_ref(), "53300" | "57P01" | "57P02" | "57P03")
        }
        Some(_) => false,
        None => matches!(inner.as_ref(), E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed),
    }
}

/// True if no connection was free in time, possibly because other requests hold them.
pub fn is_acquire_timeout(err: &DbErr) -> bool {
    matches!(err, DbErr::ConnectionAcquire(sea_orm::ConnAcquireErr::Timeout))
}

/// True if Postgres cancelled a statement at its timeout.
pub fn is_statement_timeout(err: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner))) = err else {
        return false;
    };
    inner.as_database_error().is_some_and(|reported| reported.code().as_deref() == Some("57014"))
}

/// True if a client-side error is about values: not encodable, decodable or found.
fn is_of_values(err: &sea_orm::sqlx::Error) -> bool {
    use sea_orm::sqlx::Error as E;
    if let E::Protocol(message) = err {
        return message.contains("too many") || message.contains("out of range");
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

/// A message that anybody may read: the database's error code, never a value.
pub fn public_message(err: &DbErr) -> String {
    match code(err) {
        Some(code) => format!("the database rejected the operation (code {code}); see the server's log"),
        None => "the database failed; see the server's log".to_owned(),
    }
}

/// True if the database rejected this very statement, so that others may succeed.
pub fn is_of_statement(err: &DbErr) -> bool {
    match err {
        DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner)) => {
            inner.as_database_error().is_some() && !is_retryable(err, 0)
        }
        _ => false,
    }
}

/// True for a violated unique constraint.
pub fn is_duplicate(err: &DbErr) -> bool {
    matches!(err.sql_err(), Some(sea_orm::SqlErr::UniqueConstraintViolation(_)))
}

/// The database's error code.
fn code(err: &DbErr) -> Option<String> {
    match err {
        DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner)) => {
            inner.as_database_error().and_then(|err| err.code()).map(|code| code.into_owned())
        }
        _ => None,
    }
}

/// True if an earlier statement of the transaction had failed.
pub fn is_aborted(err: &DbErr) -> bool {
    code(err).as_deref() == Some("25P02")
}

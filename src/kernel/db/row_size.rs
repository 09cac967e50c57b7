//! The size of a row in bytes: its texts and blobs, and JSON as large as it becomes when it is
//! parsed. Numbers, ids and times count as one word each.

use sea_orm::QueryResult;
use sea_orm::sqlx::postgres::PgRow;
use sea_orm::sqlx::sqlite::{SqliteRow, SqliteValueRef};
use sea_orm::sqlx::{Decode, Row, Sqlite, TypeInfo, ValueRef};

use crate::kernel::json_size;

/// Bytes of a column without a length of its own.
const WORD: usize = 16;

/// The size of a row with its JSON parsed.
pub(super) fn weight(row: &QueryResult) -> usize {
    columns(row, parsed)
}

/// The size of a row as it was read.
pub(super) fn unparsed(row: &QueryResult) -> usize {
    columns(row, <[u8]>::len)
}

fn columns(row: &QueryResult, size: impl Fn(&[u8]) -> usize) -> usize {
    match (row.try_as_sqlite_row(), row.try_as_pg_row()) {
        (Some(row), _) => of_sqlite(row, size),
        (_, Some(row)) => of_postgres(row, size),
        _ => 0,
    }
}

fn of_postgres(row: &PgRow, size: impl Fn(&[u8]) -> usize) -> usize {
    let column = |index| row.try_get_raw(index).ok().and_then(|value| value.as_bytes().ok()).map_or(0, &size);
    (0..row.len()).map(|index| column(index).max(WORD)).sum()
}

fn of_sqlite(row: &SqliteRow, size: impl Fn(&[u8]) -> usize) -> usize {
    let column = |index| row.try_get_raw(index).ok().and_then(bytes).map_or(0, &size);
    (0..row.len()).map(|index| column(index).max(WORD)).sum()
}

fn bytes<'r>(value: SqliteValueRef<'r>) -> Option<&'r [u8]> {
    if value.is_null() || !matches!(value.type_info().name(), "TEXT" | "BLOB") {
        return None;
    }
    <&'r [u8] as Decode<'r, Sqlite>>::decode(value).ok()
}

/// The size of a column with its JSON parsed. SQLite does not tell JSON from other texts, so a text
/// that begins like JSON counts as such.
fn parsed(bytes: &[u8]) -> usize {
    // Postgres puts a version before its binary JSON. Ids and numbers are shorter than this.
    let text = bytes.strip_prefix(&[1]).unwrap_or(bytes);
    match text.first() {
        Some(b'{' | b'[') if text.len() > 2 * WORD => json_size::of_text(text),
        _ => bytes.len(),
    }
}

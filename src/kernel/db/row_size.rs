//! The size of a row in bytes: its texts, JSON and blobs. Numbers, ids and times count as one word
//! each.

use sea_orm::QueryResult;
use sea_orm::sqlx::postgres::PgRow;
use sea_orm::sqlx::sqlite::{SqliteRow, SqliteValueRef};
use sea_orm::sqlx::{Decode, Row, Sqlite, TypeInfo, ValueRef};

/// Bytes of a column without a length of its own.
const WORD: usize = 16;

/// The size of a row.
pub(super) fn weight(row: &QueryResult) -> usize {
    match (row.try_as_sqlite_row(), row.try_as_pg_row()) {
        (Some(row), _) => of_sqlite(row),
        (_, Some(row)) => of_postgres(row),
        _ => 0,
    }
}

fn of_postgres(row: &PgRow) -> usize {
    let column = |index| row.try_get_raw(index).ok().and_then(|value| value.as_bytes().ok()).map_or(0, <[u8]>::len);
    (0..row.len()).map(|index| column(index).max(WORD)).sum()
}

fn of_sqlite(row: &SqliteRow) -> usize {
    let column = |index| row.try_get_raw(index).map_or(0, length);
    (0..row.len()).map(|index| column(index).max(WORD)).sum()
}

fn length(value: SqliteValueRef<'_>) -> usize {
    if value.is_null() || !matches!(value.type_info().name(), "TEXT" | "BLOB") {
        return 0;
    }
    <&[u8] as Decode<'_, Sqlite>>::decode(value).map_or(0, <[u8]>::len)
}

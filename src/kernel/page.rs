//! Pagination: `first/after/last/before` become one keyset window over an index that serves exactly
//! that order.
//!
//! A cursor holds the sort key and the id of its row, and a fingerprint of the order and filter it
//! was created for: it is rejected under another one.

mod alike;
mod apart;
mod difference;
mod part;
mod window;

use std::cmp::Ordering;
use std::sync::Arc;

pub(crate) use alike::rows_of_each;
use async_graphql::connection::CursorType;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
pub use difference::Difference;
pub(crate) use part::model;
pub use part::{Part, rows};
use sea_orm::sea_query::{ColumnType, Expr, ExprTrait, Func, IntoColumnRef, Order as Direction, SelectStatement};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;
pub use window::Window;
pub(crate) use window::{AT_ONCE, NTH, union};

use crate::kernel::db::dialect::Dialect;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::{limits, storable};

/// The pagination arguments of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Args {
    /// Number of rows from the start.
    pub first: Option<i32>,
    /// Cursor to start after.
    pub after: Option<String>,
    /// Number of rows from the end.
    pub last: Option<i32>,
    /// Cursor to end before.
    pub before: Option<String>,
}

/// The sort key of a row in a cursor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Key {
    /// No key: sorted last.
    #[serde(rename = "n")]
    None,
    /// Text, in bytewise order.
    #[serde(rename = "s")]
    Text(String),
    /// A point in time.
    #[serde(rename = "t")]
    Time(DateTime<Utc>),
    /// A count.
    #[serde(rename = "c")]
    Count(i32),
}

impl From<Option<DateTime<Utc>>> for Key {
    fn from(at: Option<DateTime<Utc>>) -> Self {
        at.map_or(Self::None, Self::Time)
    }
}

impl Key {
    /// Compares keys as the databases do in an order; no key counts as the latest time, or in a
    /// descending order as the earliest, as in `Order::key`.
    fn compare(&self, other: &Self, descending: bool) -> Ordering {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            (Self::Time(one), Self::Time(other)) => one.cmp(other),
            (Self::Count(one), Self::Count(other)) => one.cmp(other),
            _ => {
                let (one, other) = (matches!(self, Self::None), matches!(other, Self::None));
                if descending { other.cmp(&one) } else { one.cmp(&other) }
            }
        }
    }

    fn value(&self) -> Expr {
        match self {
            Self::None => Expr::null(),
            Self::Text(text) => Expr::val(text.clone()),
            Self::Time(at) => Expr::val(*at),
            Self::Count(count) => Expr::val(*count),
        }
    }
}

/// A column to sort by, the function that reads a row's key, and true if the column is nullable,
/// which only times may be.
pub type SortColumn<E> = (<E as EntityTrait>::Column, fn(&<E as EntityTrait>::Model) -> Key, bool);

/// A sort order: by a column, then by id; or by id alone, which is the order of creation.
pub struct Order<E: EntityTrait> {
    /// The column to sort by, if any.
    pub by: Option<SortColumn<E>>,
    /// The id's column.
    pub id: E::Column,
    /// Reads a row's id.
    pub id_of: fn(&E::Model) -> Uuid,
    /// True for descending order.
    pub descending: bool,
    /// True if the rows without a value in a nullable column are read by a statement of their own.
    pub nulls_apart: bool,
}

impl<E: EntityTrait> Clone for Order<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: EntityTrait> Copy for Order<E> {}

/// A window's rows with their cursors.
#[derive(Clone, Debug)]
pub struct Page<M> {
    /// The rows in the requested order, each with its cursor.
    pub rows: Vec<(Cursor, M)>,
    /// True if more rows follow.
    pub has_next: bool,
    /// True if more rows precede.
    pub has_previous: bool,
}

/// A position in an order; encoded only when requested.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cursor {
    f: Arc<str>,
    k: Key,
    i: Uuid,
}

impl Cursor {
    /// A cursor in an order that is not read as a window.
    pub fn new(fingerprint: Arc<str>, key: Key, id: Uuid) -> Self {
        Self { f: fingerprint, k: key, i: id }
    }

    /// The position in such a cursor. Errors: BAD_USER_INPUT.
    pub fn place(field: &str, text: &str, fingerprint: &str) -> Result<(Key, Uuid)> {
        let cursor = read(field, text, fingerprint)?;
        Ok((cursor.k, cursor.i))
    }
}

impl CursorType for Cursor {
    type Error = serde_json::Error;

    fn decode_cursor(text: &str) -> std::result::Result<Self, Self::Error> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap_or_default())
    }

    fn encode_cursor(&self) -> String {
        // Texts, numbers and times always serialize.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

/// A short hash of an order and a filter.
pub fn fingerprint(parts: &impl Serialize) -> Result<String> {
    let hash = Sha256::digest(serde_json::to_vec(parts)?);
    Ok(URL_SAFE_NO_PAD.encode(&hash[..6]))
}

/// Reads one window of `select`. Errors: BAD_USER_INPUT for contradictory or excessive arguments,
/// and for a cursor that is malformed or of another order or filter.
pub async fn page<E: EntityTrait>(
    db: &impl ConnectionTrait,
    select: Select<E>,
    order: &Order<E>,
    fingerprint: &str,
    args: &Args,
) -> Result<Page<E::Model>> {
    let (select, count, backward) = window(select, order, fingerprint, args, db.get_database_backend())?;
    let rows = select.all(db).await?;
    to_page(rows, count, backward, order, fingerprint, args)
}

/// The rows of a window as a page.
fn to_page<E: EntityTrait>(
    mut rows: Vec<E::Model>,
    count: usize,
    backward: bool,
    order: &Order<E>,
    fingerprint: &str,
    args: &Args,
) -> Result<Page<E::Model>> {
    let more = rows.len() > count;
    rows.truncate(count);
    if backward {
        rows.reverse();
    }
    let fingerprint: Arc<str> = fingerprint.into();
    let rows = rows.into_iter().map(|row| {
        let key = order.by.as_ref().map_or(Key::None, |(_, key, _)| key(&row));
        (Cursor { f: fingerprint.clone(), k: key, i: (order.id_of)(&row) }, row)
    });
    let rows = rows.collect();
    let (has_next, has_previous) = if backward { (args.before.is_some(), more) } else { (more, args.after.is_some()) };
    Ok(Page { rows, has_next, has_previous })
}

/// The database's query plan for a window. Tests use it to require an index for each order.
pub async fn plan<E: EntityTrait>(
    db: &impl ConnectionTrait,
    select: Select<E>,
    order: &Order<E>,
    fingerprint: &str,
    args: &Args,
) -> Result<String> {
    let backend = db.get_database_backend();
    let (select, ..) = window(select, order, fingerprint, args, backend)?;
    explain(db, select.into_query()).await
}

/// The database's plan for a query.
pub async fn explain(db: &impl ConnectionTrait, select: SelectStatement) -> Result<String> {
    let backend = db.get_database_backend();
    let mut statement = backend.build(&select);
    let (explain, column) = match backend {
        DbBackend::Postgres => ("EXPLAIN", 0),
        // The statement before it lets the connection notice new statistics, which explaining does not.
        _ => ("SELECT 1 FROM sqlite_schema LIMIT 0; EXPLAIN QUERY PLAN", 3),
    };
    statement.sql = format!("{explain} {}", statement.sql);
    let mut lines = Vec::new();
    for row in db.query_all_raw(statement).await? {
        lines.push(row.try_get_by_index::<String>(column)?);
    }
    Ok(lines.join("\n"))
}

/// The statement of a window, the number of rows requested, and true if counted from the end.
fn window<E: EntityTrait>(
    mut select: Select<E>,
    order: &Order<E>,
    fingerprint: &str,
    args: &Args,
    backend: DbBackend,
) -> Result<(Select<E>, usize, bool)> {
    let (count, backward) = count(args)?;
    // After a row without a time there are only such rows: SQLite would sort them by a value that
    // is the same for all.
    let mut all_same = false;
    for (field, cursor, behind) in [("after", &args.after, true), ("before", &args.before, false)] {
        if let Some(text) = cursor {
            let cursor = read(field, text, fingerprint)?;
            // Clients can forge cursors.
            if !order.has(&cursor.k) {
                return Err(Refusal::input(field, "not a cursor of this list").into());
            }
            all_same |= behind && backend != DbBackend::Postgres && matches!(cursor.k, Key::None);
            select = select.filter(beyond(order, &cursor, behind, backend));
        }
    }
    let direction = if order.descending != backward { Direction::Desc } else { Direction::Asc };
    if let Some(key) = order.key(backend).filter(|_| !all_same) {
        select = select.order_by(key, direction.clone());
    }
    let select = select.order_by(order.id(), direction);
    Ok((select.limit(count as u64 + 1), count, backward))
}

impl<E: EntityTrait> Order<E> {
    fn id(&self) -> Expr {
        Expr::col((E::default(), self.id).into_column_ref())
    }

    /// The sort expression. In a nullable column, null counts as the latest (or, descending,
    /// earliest) time, so that it comes last in either direction, and one index serves the order
    /// and its cursors.
    fn key(&self, backend: DbBackend) -> Option<Expr> {
        let (column, _, nullable) = self.by.as_ref()?;
        let plain = Expr::col((E::default(), *column).into_column_ref());
        Some(if *nullable { nullable_key::<E>(*column, self.descending, backend.into()) } else { plain })
    }

    /// Sorts rows by this order, or against it.
    fn sort(&self, rows: &mut [E::Model], backward: bool) {
        let reversed = self.descending != backward;
        rows.sort_by(|one, other| {
            let keys = match &self.by {
                Some((_, key, _)) => key(one).compare(&key(other), self.descending),
                None => Ordering::Equal,
            };
            let found = keys.then_with(|| (self.id_of)(one).cmp(&(self.id_of)(other)));
            if reversed { found.reverse() } else { found }
        });
    }

    /// True if a row of this order may have this key.
    fn has(&self, key: &Key) -> bool {
        let Some((column, _, nullable)) = self.by.as_ref() else { return matches!(key, Key::None) };
        let of = column.def().get_column_type().clone();
        let is_time = matches!(of, ColumnType::DateTime | ColumnType::Timestamp | ColumnType::TimestampWithTimeZone);
        let is_count = matches!(of, ColumnType::Integer);
        match key {
            Key::None => *nullable,
            Key::Text(_) => !is_time && !is_count,
            Key::Time(_) => is_time,
            Key::Count(_) => is_count,
        }
    }
}

/// The sort expression of a nullable column, in which null counts as the latest (or, descending,
/// earliest) time.
pub(crate) fn nullable_key<E: EntityTrait>(column: E::Column, descending: bool, dialect: Dialect) -> Expr {
    let plain = Expr::col((E::default(), column).into_column_ref());
    Func::coalesce([plain, behind_all(descending, dialect)]).into()
}

/// A literal, not a parameter: the planners match it against the indexes' expressions.
fn behind_all(descending: bool, dialect: Dialect) -> Expr {
    Expr::cust(match (dialect, descending) {
        (Dialect::Postgres, false) => "'infinity'::timestamptz",
        (Dialect::Postgres, true) => "'-infinity'::timestamptz",
        (Dialect::Sqlite, false) => "'~'",
        (Dialect::Sqlite, true) => "''",
    })
}

/// The number of rows, and true if counted from the end.
pub fn count(args: &Args) -> Result<(usize, bool)> {
    let (field, requested, backward) = match (args.first, args.last) {
        (Some(_), Some(_)) => return Err(Refusal::input("last", "give `first` or `last`, not both").into()),
        (_, Some(last)) => ("last", last, true),
        (Some(first), None) => ("first", first, false),
        (None, None) => return Ok((limits::PAGE_DEFAULT, args.before.is_some() && args.after.is_none())),
    };
    match usize::try_from(requested) {
        Ok(count) if count <= limits::PAGE_MAX => Ok((count, backward)),
        Ok(_) => Err(Refusal::input(field, format!("at most {} at once", limits::PAGE_MAX)).into()),
        Err(_) => Err(Refusal::input(field, "must not be negative").into()),
    }
}

/// The condition for rows after (or before) a cursor in this order.
fn beyond<E: EntityTrait>(order: &Order<E>, cursor: &Cursor, behind: bool, backend: DbBackend) -> Expr {
    let greater = behind != order.descending;
    let than = |left: Expr, right: Expr| if greater { left.gt(right) } else { left.lt(right) };
    let Some(key) = order.key(backend) else { return than(order.id(), Expr::val(cursor.i)) };
    let found = match &cursor.k {
        Key::None => behind_all(order.descending, backend.into()),
        found => found.value(),
    };
    let id = || Expr::val(cursor.i);
    let nullable = order.by.as_ref().is_some_and(|(.., nullable)| *nullable);
    if backend == DbBackend::Postgres || !nullable {
        return than(Expr::tuple([key, order.id()]), Expr::tuple([found, id()]));
    }
    // SQLite looks up a pair only in an index of columns, not of expressions: it starts at the key
    // and skips rows with the very same time. Nothing comes after rows without a time.
    match (&cursor.k, behind) {
        (Key::None, true) => key.eq(found).and(than(order.id(), id())),
        _ => {
            let from = if greater { key.clone().gte(found.clone()) } else { key.clone().lte(found.clone()) };
            from.and(than(key, found).or(than(order.id(), id())))
        }
    }
}

fn read(field: &str, text: &str, fingerprint: &str) -> Result<Cursor> {
    match Cursor::decode_cursor(text) {
        Ok(cursor) if *cursor.f == *fingerprint => {
            // Clients can forge cursors.
            let fits = match &cursor.k {
                Key::None | Key::Count(_) => Ok(()),
                Key::Text(text) => storable::text(text),
                Key::Time(at) => storable::time(*at).map(drop),
            };
            fits.map_err(|unfit| unfit.of(field))?;
            Ok(cursor)
        }
        Ok(_) => Err(Refusal::input(field, "this cursor belongs to another order or filter").into()),
        Err(_) => Err(Refusal::input(field, "not a cursor of this list").into()),
    }
}

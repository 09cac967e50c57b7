//! Statements of one shape that differ in ids alone, such as the children of each node of a list, as
//! one statement whose text is the same for any number of them: databases parse and plan a text
//! once.

use sea_orm::sea_query::SelectStatement;
use sea_orm::{
    ConnectionTrait, DbBackend, EntityTrait, IdenStatic, Iterable, PrimaryKeyToColumn, QueryResult, QueryTrait,
    Statement, Value,
};
use serde_json::json;

use super::NTH;
use super::part::{Part, model};
use crate::kernel::db::dialect::{Dialect, Type};
use crate::kernel::error::Result;

/// Alike statements: the text that they share, in which the ids that differ are columns of a table
/// of ids.
struct Alike {
    /// The shared text.
    shared: String,
    /// The table of ids, `ids`, with the statement's number beside them.
    ids: String,
    /// The parameters: the table of ids, then what all statements share.
    values: Vec<Value>,
}

/// Rows of each statement, by the statement's number.
pub(crate) struct RowsOfEach<M> {
    /// The rows.
    pub(crate) rows: Vec<Vec<M>>,
    /// True if the rows of a statement are in its order.
    pub(crate) sorted: bool,
}

/// Reads the rows of alike statements, which select entire rows of one table or the given part of
/// them; `None` if they are not alike.
pub(crate) async fn rows_of_each<E: EntityTrait>(
    db: &impl ConnectionTrait,
    each: &[SelectStatement],
    part: Option<Part<E>>,
) -> Result<Option<RowsOfEach<E::Model>>> {
    let backend = db.get_database_backend();
    let sorted = backend == DbBackend::Postgres;
    let alike = if sorted { alike(backend, each) } else { alike(backend, &keys_alone::<E>(each)) };
    let Some(Alike { shared, ids, values }) = alike else { return Ok(None) };
    let sql = if sorted {
        format!("SELECT ids.nth AS {NTH}, one.* FROM {ids} CROSS JOIN LATERAL ({shared}) AS one")
    } else {
        // SQLite has no LATERAL, but it evaluates a list of keys anew for each row.
        let all = part.map_or(E::find(), |part| part.narrow(E::find())).build(backend).sql;
        let key: Vec<String> = key::<E>().map(|column| format!("one.\"{}\"", column.as_str())).collect();
        let key = key.join(", ");
        format!("SELECT ids.nth AS {NTH}, one.* FROM {ids} CROSS JOIN ({all}) AS one ON ({key}) IN ({shared})")
    };
    let found = db.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    let mut rows: Vec<Vec<E::Model>> = each.iter().map(|_| Vec::new()).collect();
    for row in found {
        if let Some(rows) = rows.get_mut(nth(&row)?) {
            rows.push(model(&row, part, 1)?);
        }
    }
    Ok(Some(RowsOfEach { rows, sorted }))
}

/// Reads the one number that each of alike statements selects; `None` if they are not alike.
pub(super) async fn number_of_each(db: &impl ConnectionTrait, each: &[SelectStatement]) -> Result<Option<Vec<i64>>> {
    let backend = db.get_database_backend();
    let Some(Alike { shared, ids, values }) = alike(backend, each) else { return Ok(None) };
    let sql = format!("SELECT ids.nth AS {NTH}, ({shared}) AS number FROM {ids}");
    let mut numbers = vec![0; each.len()];
    for row in db.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await? {
        if let Some(number) = numbers.get_mut(nth(&row)?) {
            *number = row.try_get("", "number")?;
        }
    }
    Ok(Some(numbers))
}

/// The number of the statement that a row belongs to.
fn nth(row: &QueryResult) -> Result<usize> {
    Ok(usize::try_from(row.try_get::<i64>("", NTH)?).unwrap_or(usize::MAX))
}

/// The columns of a table's primary key.
fn key<E: EntityTrait>() -> impl Iterator<Item = E::Column> {
    E::PrimaryKey::iter().map(PrimaryKeyToColumn::into_column)
}

/// The statements, each of which selects the primary keys of its rows alone.
fn keys_alone<E: EntityTrait>(each: &[SelectStatement]) -> Vec<SelectStatement> {
    let columns: Vec<_> = key::<E>().map(|column| (E::default(), column)).collect();
    each.iter().map(|one| one.clone().clear_selects().columns(columns.iter().cloned()).take()).collect()
}

/// Finds the text that the statements share; `None` if there is none.
fn alike(backend: DbBackend, each: &[SelectStatement]) -> Option<Alike> {
    let built = each.iter().map(|one| {
        let Statement { sql, values, .. } = backend.build(one);
        (sql, values.map_or_else(Vec::new, |values| values.0))
    });
    let built: Vec<(String, Vec<Value>)> = built.collect();
    let (sql, first) = built.first()?;
    if built.iter().any(|(text, values)| text != sql || values.len() != first.len()) {
        return None;
    }
    let differs = |at: &usize| built.iter().any(|(_, values)| values.get(*at) != first.get(*at));
    let differing: Vec<usize> = (0..first.len()).filter(differs).collect();
    let mut ids = Vec::with_capacity(built.len());
    for (nth, (_, values)) in built.iter().enumerate() {
        let mut row = serde_json::Map::from_iter([("nth".to_owned(), json!(nth))]);
        for (column, at) in differing.iter().enumerate() {
            let Some(Value::Uuid(Some(id))) = values.get(*at) else { return None };
            row.insert(id_column(column), json!(id.simple().to_string()));
        }
        ids.push(row);
    }
    let shared = with_columns(sql, first.len(), &differing)?;
    let names: Vec<String> = (0..differing.len()).map(id_column).collect();
    let columns: Vec<(&str, Type)> =
        [("nth", Type::Int)].into_iter().chain(names.iter().map(|name| (name.as_str(), Type::Uuid))).collect();
    let ids_table = Dialect::from(backend).rows("$1", "ids", &columns);
    let constant = first.iter().enumerate().filter(|(at, _)| !differing.contains(at)).map(|(_, value)| value.clone());
    Some(Alike { shared, ids: ids_table, values: [json!(ids).into()].into_iter().chain(constant).collect() })
}

fn id_column(nth: usize) -> String {
    format!("id{nth}")
}

/// A statement's text, in which columns of `ids` stand for the parameters that differ, and the
/// others are numbered from 2. `None` unless each parameter stands in the text once, in order.
fn with_columns(sql: &str, parameters: usize, differing: &[usize]) -> Option<String> {
    let mut text = String::with_capacity(sql.len());
    let (mut at, mut number, mut quote) = (0, 2, None);
    let mut rest = sql.chars().peekable();
    while let Some(next) = rest.next() {
        match (quote, next) {
            (Some(open), _) if open == next => quote = None,
            (None, '\'' | '"') => quote = Some(next),
            (None, '?' | '$') => {
                let mut digits = String::new();
                while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                    digits.push(digit);
                }
                if !digits.is_empty() && digits.parse() != Ok(at + 1) {
                    return None;
                }
                match differing.iter().position(|differing| *differing == at) {
                    Some(column) => text.push_str(&format!("ids.{}", id_column(column))),
                    None => {
                        text.push_str(&format!("${number}"));
                        number += 1;
                    }
                }
                at += 1;
                continue;
            }
            _ => {}
        }
        text.push(next);
    }
    (at == parameters).then_some(text)
}

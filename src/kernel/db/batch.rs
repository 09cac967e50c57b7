//! Statements over many values, whose size does not grow with the data.
//!
//! A statement of SQLite takes 32,766 parameters, one of Postgres 65,535. Inserts are split by
//! parameters, not by rows, and a filter by many values binds all of them as one parameter. No
//! other code writes a list of data into a statement: the tidy test enforces it.

use std::collections::BTreeSet;

use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ActiveModelTrait, EntityTrait, IntoActiveModel, IntoSimpleExpr, Iterable, Value};

use serde_json::json;

use super::Tx;
use super::dialect::{Dialect, Type};
use crate::kernel::error::Result;
use crate::kernel::limits;

/// Inserts rows, in as many statements as needed.
pub(crate) async fn insert_all<A: ActiveModelTrait>(tx: &Tx, rows: impl IntoIterator<Item = A>) -> Result<()> {
    for chunk in chunks(tx, rows) {
        A::Entity::insert_many(chunk).exec_without_returning(tx.db()).await?;
    }
    Ok(())
}

/// Inserts the rows that don't exist yet.
pub(crate) async fn insert_new<A: ActiveModelTrait>(
    tx: &Tx,
    rows: impl IntoIterator<Item = A>,
    once: OnConflict,
) -> Result<()> {
    for chunk in chunks(tx, rows) {
        A::Entity::insert_many(chunk).on_conflict(once.clone()).exec_without_returning(tx.db()).await?;
    }
    Ok(())
}

/// Inserts rows, or applies `on_conflict` to existing ones, and returns the resulting rows.
pub(crate) async fn insert_returning<A>(
    tx: &Tx,
    rows: impl IntoIterator<Item = A>,
    on_conflict: Option<OnConflict>,
) -> Result<Vec<<A::Entity as EntityTrait>::Model>>
where
    A: ActiveModelTrait,
    <A::Entity as EntityTrait>::Model: IntoActiveModel<A>,
{
    let mut all = Vec::new();
    for chunk in chunks(tx, rows) {
        let mut insert = A::Entity::insert_many(chunk);
        if let Some(on_conflict) = &on_conflict {
            insert = insert.on_conflict(on_conflict.clone());
        }
        all.extend(insert.exec_with_returning(tx.db()).await?);
    }
    Ok(all)
}

fn chunks<A: ActiveModelTrait>(tx: &Tx, rows: impl IntoIterator<Item = A>) -> Vec<Vec<A>> {
    let columns = <A::Entity as EntityTrait>::Column::iter().count();
    let most = (tx.dialect().parameters() / columns.max(1)).clamp(1, limits::CHUNK as usize);
    let mut chunks = vec![Vec::new()];
    for row in rows {
        if chunks.last().is_some_and(|last| last.len() == most) {
            chunks.push(Vec::new());
        }
        if let Some(last) = chunks.last_mut() {
            last.push(row);
        }
    }
    chunks.retain(|chunk| !chunk.is_empty());
    chunks
}

/// The condition that a column of ids or texts is one of these values, however many. Matches
/// nothing if there are none. Its negation is `not()`, which, as in SQL, does not match where the
/// column is null.
pub(crate) fn any_of<V: Into<Value>>(
    dialect: impl Into<Dialect>,
    of: impl IntoSimpleExpr,
    values: impl IntoIterator<Item = V>,
) -> Expr {
    listed(dialect.into(), of.into_simple_expr(), values.into_iter().map(Into::into).collect())
}

/// The part of `any_of` that exists once for all types of columns and values.
fn listed(dialect: Dialect, of: Expr, values: Vec<Value>) -> Expr {
    let (mut ids, mut texts, mut others) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for value in values {
        match value {
            Value::Uuid(Some(id)) => drop(ids.insert(id)),
            Value::String(Some(text)) => drop(texts.insert(text)),
            other => others.push(other),
        }
    }
    // Few values are written out: planners handle those best, and a single one keeps an index's
    // order.
    if !others.is_empty() || ids.len() + texts.len() <= limits::LISTED {
        let mut all: Vec<Value> = others;
        all.extend(ids.into_iter().map(Value::from));
        all.extend(texts.into_iter().map(Value::from));
        return if all.len() == 1 { of.eq(all.remove(0)) } else { of.is_in(all) };
    }
    let many = ids.len() + texts.len() > limits::CHUNK as usize;
    let (of_values, list) = if ids.is_empty() {
        (Type::Text, json!(texts))
    } else {
        (Type::Uuid, json!(ids.iter().map(|id| id.simple().to_string()).collect::<Vec<_>>()))
    };
    let (first, second) = dialect.placeholders();
    let one_of = if many { dialect.among_many(second, of_values) } else { dialect.among(second, of_values) };
    Expr::cust_with_exprs(format!("({first} {one_of})"), [of, Expr::val(list)])
}

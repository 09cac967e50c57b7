//! Statements over many values, whose size does not grow with the data.
//!
//! A statement of SQLite takes 32,766 parameters, one of Postgres 65,535. What inserts many rows is cut here by
//! parameters, not by rows, and what filters by many values binds all of them as one. Nothing else in the project writes
//! a list of data into a statement: the tidy test holds it to that.

use std::collections::BTreeSet;

use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ActiveModelTrait, EntityTrait, IntoActiveModel, IntoSimpleExpr, Iterable, Value};

use serde_json::json;

use super::Tx;
use super::dialect::{Dialect, Type};
use crate::kernel::error::Result;
use crate::kernel::limits;

/// Inserts rows, in as many statements as it takes.
pub(crate) async fn insert_all<A: ActiveModelTrait>(tx: &Tx, rows: impl IntoIterator<Item = A>) -> Result<()> {
    for some in cut(tx, rows) {
        A::Entity::insert_many(some).exec_without_returning(tx.db()).await?;
    }
    Ok(())
}

/// Inserts those rows that are not there yet.
pub(crate) async fn insert_new<A: ActiveModelTrait>(
    tx: &Tx,
    rows: impl IntoIterator<Item = A>,
    once: OnConflict,
) -> Result<()> {
    for some in cut(tx, rows) {
        A::Entity::insert_many(some).on_conflict(once.clone()).exec_without_returning(tx.db()).await?;
    }
    Ok(())
}

/// Inserts rows, or does with those that are there already what is said, and returns them as they are then.
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
    for some in cut(tx, rows) {
        let mut insert = A::Entity::insert_many(some);
        if let Some(on_conflict) = &on_conflict {
            insert = insert.on_conflict(on_conflict.clone());
        }
        all.extend(insert.exec_with_returning(tx.db()).await?);
    }
    Ok(all)
}

fn cut<A: ActiveModelTrait>(tx: &Tx, rows: impl IntoIterator<Item = A>) -> Vec<Vec<A>> {
    let columns = <A::Entity as EntityTrait>::Column::iter().count();
    let most = (tx.dialect().parameters() / columns.max(1)).clamp(1, limits::CHUNK as usize);
    let mut cut = vec![Vec::new()];
    for row in rows {
        if cut.last().is_some_and(|last| last.len() == most) {
            cut.push(Vec::new());
        }
        if let Some(last) = cut.last_mut() {
            last.push(row);
        }
    }
    cut.retain(|some| !some.is_empty());
    cut
}

/// A condition on a column of ids or texts: it is one of these, however many. It matches nothing where there are none. The
/// opposite is its `not()`, which, as in SQL, does not match where the column is null.
pub(crate) fn any_of<V: Into<Value>>(
    dialect: impl Into<Dialect>,
    of: impl IntoSimpleExpr,
    values: impl IntoIterator<Item = V>,
) -> Expr {
    let of = of.into_simple_expr();
    let (mut ids, mut texts, mut others) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for value in values {
        match value.into() {
            Value::Uuid(Some(id)) => drop(ids.insert(id)),
            Value::String(Some(text)) => drop(texts.insert(text)),
            other => others.push(other),
        }
    }
    // Few are written out: planners know best what to do with those, and one alone keeps an index's order.
    if !others.is_empty() || ids.len() + texts.len() <= limits::LISTED {
        let mut all: Vec<Value> = others;
        all.extend(ids.into_iter().map(Value::from));
        all.extend(texts.into_iter().map(Value::from));
        return if all.len() == 1 { of.eq(all.remove(0)) } else { of.is_in(all) };
    }
    let dialect = dialect.into();
    let many = ids.len() + texts.len() > limits::CHUNK as usize;
    let (of_values, listed) = if ids.is_empty() {
        (Type::Text, json!(texts))
    } else {
        (Type::Uuid, json!(ids.iter().map(|id| id.simple().to_string()).collect::<Vec<_>>()))
    };
    let (first, second) = dialect.placeholders();
    let one_of = if many { dialect.among_many(second, of_values) } else { dialect.among(second, of_values) };
    Expr::cust_with_exprs(format!("({first} {one_of})"), [of, Expr::val(listed)])
}

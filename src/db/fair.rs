//! Turns of orgs: what waits for the one engine is taken a few pieces of each org at a time, so that an org with very much to do
//! leaves the others theirs.

use entity::id::OrgId;
use sea_orm::sea_query::{Alias, Expr, ExprTrait, Order, Query, SelectStatement};
use sea_orm::{ConnectionTrait, EntityTrait, QuerySelect, QueryTrait, Select, TryGetable};

use crate::error::Result;
use crate::limits;

/// The ids of some rows with their orgs: of each org the first few by these columns, the first of each org before the second of
/// any.
pub(crate) async fn in_turn<E, I>(
    db: &impl ConnectionTrait,
    rows: Select<E>,
    order: &[&'static str],
    most: u64,
) -> Result<Vec<(OrgId, I)>>
where
    E: EntityTrait,
    I: TryGetable,
{
    let found = db.query_all(&of_each::<E>(rows, order, most)).await?;
    found.iter().map(|row| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?))).collect()
}

/// The same ids as a selection, for a condition.
pub(crate) fn ids<E: EntityTrait>(rows: Select<E>, order: &[&'static str], most: u64) -> SelectStatement {
    let mut ids = Query::select();
    ids.column("id").from_subquery(of_each(rows, order, most), "fair");
    ids
}

fn of_each<E: EntityTrait>(rows: Select<E>, order: &[&'static str], most: u64) -> SelectStatement {
    let table = E::default();
    let table = table.table_name();
    let by: Vec<String> = order.iter().map(|column| format!("{table}.{column}")).collect();
    let turn = format!("ROW_NUMBER() OVER (PARTITION BY {table}.org_id ORDER BY {})", by.join(", "));
    let mut each = rows.select_only().into_query();
    each.column((Alias::new(table), Alias::new("org_id")))
        .column((Alias::new(table), Alias::new("id")))
        .expr_as(Expr::cust(turn), "turn");
    let mut first = Query::select();
    first
        .columns(["org_id", "id"])
        .from_subquery(each, "each_org")
        .and_where(Expr::col("turn").lte(limits::PER_ORG_AND_TURN))
        .order_by("turn", Order::Asc)
        .order_by("id", Order::Asc)
        .limit(most);
    first
}

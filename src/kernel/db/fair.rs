//! Fair selection between orgs: work for the one engine is taken a few items of each org at a time,
//! so that an org with very much to do does not starve the others.

pub(crate) mod queue;

use std::collections::{HashMap, VecDeque};

use entity::id::OrgId;
use sea_orm::sea_query::{Alias, Expr, ExprTrait, Order, Query, SelectStatement};
use sea_orm::{ConnectionTrait, EntityTrait, QuerySelect, QueryTrait, Select, TryGetable};

use crate::kernel::error::Result;
use crate::kernel::limits;

/// The ids of rows with their orgs: the first few of each org in this order, every org's first
/// before any org's second.
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

/// The same ids as a subquery.
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

/// Takes one row of each org in turn, at most `most`; the rows of an org keep their order.
pub(crate) fn by_turns<T>(rows: Vec<T>, most: u64, org: impl Fn(&T) -> OrgId) -> Vec<T> {
    let mut groups: Vec<VecDeque<T>> = Vec::new();
    let mut numbers: HashMap<OrgId, usize> = HashMap::new();
    for row in rows {
        let number = *numbers.entry(org(&row)).or_insert(groups.len());
        match groups.get_mut(number) {
            Some(group) => group.push_back(row),
            None => groups.push([row].into()),
        }
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut taken = Vec::new();
    while taken.len() < most {
        let before = taken.len();
        for group in &mut groups {
            if let Some(row) = group.pop_front().filter(|_| taken.len() < most) {
                taken.push(row);
            }
        }
        if taken.len() == before {
            break;
        }
    }
    taken
}

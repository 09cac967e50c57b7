//! Fair selection between orgs: work for the one engine is taken a few items of each org at a time,
//! so that an org with very much to do does not starve the others.

use std::sync::atomic::{AtomicUsize, Ordering};

use entity::id::OrgId;
use sea_orm::sea_query::{Alias, Expr, ExprTrait, Order, Query, SelectStatement};
use sea_orm::{
    ConnectionTrait, EntityTrait, QueryResult, QuerySelect, QueryTrait, Select, Statement, TryGetable, Value,
};

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

/// A queue that one org may fill for hours: rows are taken of each org that has some, each time
/// starting with another one.
///
/// The queue's index begins with the columns of `queued`, then the org, then the order.
#[derive(Debug)]
pub(crate) struct Queue<'a> {
    /// Name of the table.
    pub(crate) table: &'a str,
    /// The condition that the queue's index covers.
    pub(crate) queued: &'a str,
    /// Parameters of `queued`.
    pub(crate) queued_values: Vec<Value>,
    /// Query of the rows to take, without ORDER BY, that ends in a condition.
    pub(crate) rows: &'a str,
    /// The column of that query with the org.
    pub(crate) org: &'a str,
    /// The columns to order by within an org.
    pub(crate) order: &'a str,
    /// Parameters of `rows`.
    pub(crate) values: Vec<Value>,
}

/// Maximum number of orgs per query.
const ORGS: usize = 100;

impl Queue<'_> {
    /// Takes at most `most` rows, of all orgs but those in `full`, one org after the other.
    pub(crate) async fn take(&self, db: &impl ConnectionTrait, most: u64, full: &[OrgId]) -> Result<Vec<QueryResult>> {
        let mut orgs = self.orgs(db).await?;
        orgs.retain(|org| !full.contains(org));
        if orgs.is_empty() || most == 0 {
            return Ok(Vec::new());
        }
        static TURN: AtomicUsize = AtomicUsize::new(0);
        let first = TURN.fetch_add(1, Ordering::Relaxed) % orgs.len();
        orgs.rotate_left(first);
        orgs.truncate(ORGS);
        // Twice the fair share, because some orgs have less than theirs.
        let each = std::cmp::min(most, std::cmp::max(most.saturating_mul(2).div_ceil(orgs.len() as u64), 4));
        let mut values = self.values.clone();
        let mut parts = Vec::with_capacity(orgs.len());
        for (number, org) in orgs.into_iter().enumerate() {
            values.push(org.into());
            let (rows, of, order, parameter) = (self.rows, self.org, self.order, values.len());
            parts.push(format!(
                "SELECT * FROM ({rows} AND {of} = ${parameter} ORDER BY {order} LIMIT {each}) AS org_{number}"
            ));
        }
        let sql = parts.join(" UNION ALL ");
        let found = db.query_all_raw(Statement::from_sql_and_values(db.get_database_backend(), sql, values)).await?;
        Ok(found)
    }

    /// The orgs with queued rows. Skips through the index: as many steps as there are such orgs.
    async fn orgs(&self, db: &impl ConnectionTrait) -> Result<Vec<OrgId>> {
        let (table, queued) = (self.table, self.queued);
        let sql = format!(
            "WITH RECURSIVE found (id) AS (SELECT * FROM (SELECT org_id FROM {table} WHERE {queued} ORDER BY org_id LIMIT 1) AS first \
             UNION ALL SELECT (SELECT t.org_id FROM {table} t WHERE {queued} AND t.org_id > found.id ORDER BY t.org_id LIMIT 1) \
             FROM found WHERE found.id IS NOT NULL) SELECT id FROM found WHERE id IS NOT NULL"
        );
        let values = self.queued_values.clone();
        let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
        let rows = db.query_all_raw(statement).await?;
        rows.iter().map(|row| Ok(row.try_get_by_index(0)?)).collect()
    }
}

/// Takes one row of each org in turn, at most `most`. The rows of an org must be adjacent, as
/// `take` returns them.
pub(crate) fn by_turns<T>(rows: Vec<T>, most: u64, org: impl Fn(&T) -> OrgId) -> Vec<T> {
    let mut groups: Vec<(OrgId, std::collections::VecDeque<T>)> = Vec::new();
    for row in rows {
        let of = org(&row);
        match groups.last_mut() {
            Some((last, group)) if *last == of => group.push_back(row),
            _ => groups.push((of, [row].into())),
        }
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut taken = Vec::new();
    while taken.len() < most {
        let before = taken.len();
        for (_, group) in &mut groups {
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

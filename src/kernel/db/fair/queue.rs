//! A queue that one org may fill for hours: rows are taken of each org that has some, each time
//! starting with another one.
//!
//! Rows of a group that nobody may take now (a paused run's) are not walked: a look reads the first
//! rows of each org in their order, and if too few of them can be taken, it goes from group to group
//! through an index instead. Its cost then depends on the number
//! of groups, and on the rows in them that do not fit.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use entity::id::OrgId;
use sea_orm::{ConnectionTrait, DbBackend, QueryResult, Statement, Value};

use crate::kernel::error::Result;

/// A queue's table, its indexes, and the rows to take.
#[derive(Debug)]
pub(crate) struct Queue<'a> {
    /// Name of the table, which has the columns `org_id` and `available_at`.
    pub(crate) table: &'a str,
    /// The column with the row's id.
    pub(crate) id: &'a str,
    /// The condition of the index in the queue's order: its columns, then the org, then the order.
    pub(crate) queued: &'a str,
    /// The additional condition of the index by groups: both conditions' columns and the org, then
    /// the groups, then the order. Begins with AND, or is empty.
    pub(crate) grouped: &'a str,
    /// The columns of the groups.
    pub(crate) group: &'a [&'a str],
    /// The condition on a row alone. Begins with AND.
    pub(crate) fit: &'a str,
    /// The columns of the table that `joins`, `admitted` and `wanted` use.
    pub(crate) columns: &'a str,
    /// The joins of a row `q` with the rows of its group.
    pub(crate) joins: &'a str,
    /// The condition on a group, over `q` and the joined rows; the same for all its rows.
    pub(crate) admitted: &'a str,
    /// The columns of the result, one of them named `org_id`.
    pub(crate) wanted: &'a str,
    /// True if the latest rows come first.
    pub(crate) latest_first: bool,
    /// Parameters of all conditions; the first is the time until which rows are due.
    pub(crate) values: Vec<Value>,
}

/// Maximum number of orgs, or of groups, per query.
const PARTS: usize = 100;

/// Maximum number of such queries of one look: 10,000 groups.
const PAGES: usize = 100;

/// Number of rows, beyond those wanted, that a look reads in their order.
const WINDOW: u64 = 250;

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
        orgs.truncate(PARTS);
        // Twice the fair share, because some orgs have less than theirs.
        let each = std::cmp::min(most, std::cmp::max(most.saturating_mul(2).div_ceil(orgs.len() as u64), 4));
        self.of_orgs(db, &orgs, each).await
    }

    /// Takes at most `each` rows of each of these orgs, one org after the other.
    pub(crate) async fn of_orgs(
        &self,
        db: &impl ConnectionTrait,
        orgs: &[OrgId],
        each: u64,
    ) -> Result<Vec<QueryResult>> {
        let Self { table, queued, fit, columns, joins, admitted, wanted, .. } = self;
        let (order, of_q, window) = (self.order(""), self.order("q."), each.saturating_add(WINDOW));
        let mut values = self.values.clone();
        let mut parts = Vec::with_capacity(2 * orgs.len());
        for (number, org) in orgs.iter().enumerate() {
            values.push((*org).into());
            let rows = format!("SELECT {columns} FROM {table} WHERE {queued} {fit} AND org_id = ${}", values.len());
            parts.push(format!(
                "SELECT * FROM (SELECT {wanted}, 0 AS beyond FROM ({rows} ORDER BY {order} LIMIT {window}) AS q {joins} \
                 WHERE {admitted} ORDER BY {of_q} LIMIT {each}) AS org_{number}"
            ));
            // A row that tells only that there are more than these.
            parts.push(format!(
                "SELECT * FROM (SELECT {wanted}, 1 AS beyond FROM ({rows} ORDER BY {order} LIMIT 1 OFFSET {window}) AS q \
                 {joins}) AS more_{number}"
            ));
        }
        let mut by_org: HashMap<OrgId, (Vec<QueryResult>, bool)> = HashMap::new();
        for row in fetch(db, &parts.join(" UNION ALL "), &values).await? {
            let (found, has_more) = by_org.entry(row.try_get("", "org_id")?).or_default();
            match row.try_get::<i32>("", "beyond")? {
                0 => found.push(row),
                _ => *has_more = true,
            }
        }
        let mut found = Vec::new();
        for org in orgs {
            let Some((mine, has_more)) = by_org.remove(org) else { continue };
            let is_short = (mine.len() as u64) < each;
            found.extend(if is_short && has_more { self.by_groups(db, *org, each).await? } else { mine });
        }
        Ok(found)
    }

    /// Takes at most `each` rows of an org from the groups that are admitted, which are looked at in
    /// the order of their first rows until there are enough.
    async fn by_groups(&self, db: &impl ConnectionTrait, org: OrgId, each: u64) -> Result<Vec<QueryResult>> {
        let mut found = Vec::new();
        for page in 0..PAGES {
            let heads = self.heads(db, org, page * PARTS).await?;
            if !heads.is_empty() {
                found.extend(self.of_groups(db, org, &heads, each).await?);
            }
            if heads.len() < PARTS || found.len() as u64 >= each {
                break;
            }
        }
        found.truncate(usize::try_from(each).unwrap_or(usize::MAX));
        Ok(found)
    }

    /// The first row of each group that is admitted: as many steps through the index as there are
    /// groups.
    async fn heads(&self, db: &impl ConnectionTrait, org: OrgId, after: usize) -> Result<Vec<uuid::Uuid>> {
        let Self { table, id, joins, admitted, .. } = self;
        let (backend, by, mine) = (db.get_database_backend(), self.group.join(", "), self.of_org());
        let mut values = self.values.clone();
        values.push(org.into());
        let of_s = self.group.iter().map(|column| format!("s.{column}")).collect::<Vec<_>>().join(", ");
        let (s, q) = (
            row_of(backend, table, id, "s", &next_head(table, id, &mine, self.group)),
            row_of(backend, table, id, "q", "h.id"),
        );
        let heads = format!(
            "WITH RECURSIVE head (id, {by}) AS (SELECT * FROM (SELECT {id}, {by} FROM {table} WHERE {mine} \
             ORDER BY {by}, available_at, {id} LIMIT 1) AS first_head \
             UNION ALL SELECT s.{id}, {of_s} FROM head h {s}) \
             SELECT q.{id} FROM head h {q} {joins} WHERE {admitted} \
             AND q.available_at <= $1 ORDER BY q.available_at, q.{id} LIMIT {PARTS} OFFSET {after}",
        );
        fetch(db, &heads, &values).await?.iter().map(|row| Ok(row.try_get_by_index(0)?)).collect()
    }

    /// Takes at most `each` rows from the groups of these rows.
    async fn of_groups(
        &self,
        db: &impl ConnectionTrait,
        org: OrgId,
        heads: &[uuid::Uuid],
        each: u64,
    ) -> Result<Vec<QueryResult>> {
        let Self { table, id, fit, columns, joins, admitted, wanted, .. } = self;
        let (order, by, mine) = (self.order(""), self.group.join(", "), self.of_org());
        let mut values = self.values.clone();
        values.push(org.into());
        let mut parts = Vec::with_capacity(heads.len());
        for (number, head) in heads.iter().enumerate() {
            values.push((*head).into());
            let parameter = values.len();
            // A range, in whose order the rows are wanted: if the group were given by equality,
            // Postgres might look for it among all rows in the queue's order.
            let same = |(at, column): (usize, &&str)| {
                let of_head = format!("(SELECT {column} FROM {table} WHERE {id} = ${parameter})");
                match at + 1 == self.group.len() {
                    true => format!("AND {column} >= {of_head} AND {column} <= {of_head}"),
                    false => format!("AND {column} = {of_head}"),
                }
            };
            let same: Vec<String> = self.group.iter().enumerate().map(same).collect();
            parts.push(format!(
                "SELECT * FROM (SELECT {wanted}, 0 AS beyond, q.available_at AS due_at, q.{id} AS due_id FROM (SELECT {columns} \
                 FROM {table} WHERE {mine} {fit} {} ORDER BY {by}, {order} LIMIT {each}) AS q {joins} WHERE {admitted}) AS group_{number}",
                same.join(" "),
            ));
        }
        let direction = self.direction();
        let all = parts.join(" UNION ALL ");
        let sql = format!("SELECT * FROM ({all}) AS every_group ORDER BY due_at {direction}, due_id LIMIT {each}");
        fetch(db, &sql, &values).await
    }

    /// The condition of the index by groups, in the org that follows the queue's own parameters.
    fn of_org(&self) -> String {
        format!("{} {} AND org_id = ${}", self.queued, self.grouped, self.values.len() + 1)
    }

    /// The orgs with queued rows. Skips through the index: as many steps as there are such orgs.
    pub(crate) async fn orgs(&self, db: &impl ConnectionTrait) -> Result<Vec<OrgId>> {
        let (table, queued) = (self.table, self.queued);
        let sql = format!(
            "WITH RECURSIVE found (id) AS (SELECT * FROM (SELECT org_id FROM {table} WHERE {queued} ORDER BY org_id LIMIT 1) AS first_org \
             UNION ALL SELECT (SELECT t.org_id FROM {table} t WHERE {queued} AND t.org_id > found.id ORDER BY t.org_id LIMIT 1) \
             FROM found WHERE found.id IS NOT NULL) SELECT id FROM found WHERE id IS NOT NULL"
        );
        fetch(db, &sql, &self.values).await?.iter().map(|row| Ok(row.try_get_by_index(0)?)).collect()
    }

    fn direction(&self) -> &'static str {
        if self.latest_first { "DESC" } else { "ASC" }
    }

    fn order(&self, alias: &str) -> String {
        format!("{alias}available_at {}, {alias}{}", self.direction(), self.id)
    }
}

/// A join of `head` with the row that has an id. SQLite keeps the order of a CROSS JOIN; otherwise it
/// would look up each row of the table in `head`. Postgres would read a small table as a whole.
pub(crate) fn row_of(backend: DbBackend, table: &str, id: &str, alias: &str, wanted: &str) -> String {
    match backend {
        DbBackend::Postgres => {
            format!("CROSS JOIN LATERAL (SELECT * FROM {table} WHERE {id} = {wanted} LIMIT 1) AS {alias}")
        }
        _ => format!("CROSS JOIN {table} AS {alias} ON {alias}.{id} = {wanted}"),
    }
}

/// A subquery of the id of the first row of the group that follows the group of `h`. It says which
/// columns are equal, since SQLite would walk the whole group to compare all of them at once.
pub(crate) fn next_head(table: &str, id: &str, queued: &str, group: &[&str]) -> String {
    let after = |(at, column): (usize, &&str)| {
        let equal: String = group[..at].iter().map(|column| format!(" AND t.{column} = h.{column}")).collect();
        let order: String = group[at..].iter().map(|column| format!("t.{column}, ")).collect();
        format!(
            "(SELECT t.{id} FROM {table} t WHERE {queued}{equal} AND t.{column} > h.{column} \
             ORDER BY {order}t.available_at, t.{id} LIMIT 1)"
        )
    };
    let mut each: Vec<String> = group.iter().enumerate().map(after).collect();
    each.reverse();
    match each.len() {
        1 => each.remove(0),
        _ => format!("COALESCE({})", each.join(", ")),
    }
}

/// Executes a statement with those of the parameters that it uses: Postgres can't tell the type of
/// one that is not used.
async fn fetch(db: &impl ConnectionTrait, sql: &str, values: &[Value]) -> Result<Vec<QueryResult>> {
    let mut parts = sql.split('$');
    let mut text = parts.next().unwrap_or_default().to_owned();
    let (mut used, mut given): (Vec<usize>, Vec<Value>) = (Vec::new(), Vec::new());
    for part in parts {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, rest) = part.split_at(digits);
        let number: usize = number.parse().unwrap_or_default();
        let place = used.iter().position(|known| *known == number).unwrap_or_else(|| {
            used.push(number);
            given.extend(values.get(number.wrapping_sub(1)).cloned());
            used.len() - 1
        });
        text.push_str(&format!("${}{rest}", place + 1));
    }
    Ok(db.query_all_raw(Statement::from_sql_and_values(db.get_database_backend(), text, given)).await?)
}

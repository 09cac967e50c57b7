//! What came of recipients and steps, grouped by the reason: how many, and the first few of each.

use entity::id::{RecordId, RunId};
use entity::run_record::Outcome;
use sea_orm::{ConnectionTrait, QueryResult, Statement};

use crate::domain::plan::run_template;
use crate::kernel::db::Db;
use crate::kernel::error::Result;

/// Reasons that are told one by one; what has others is counted.
const REASONS: usize = 20;
/// Records that are named of each.
const SOME: usize = 5;

/// What has the same reason.
#[derive(Clone, Debug)]
pub(super) struct ReasonGroup {
    /// The reason; none where none was kept.
    pub(super) why: Option<String>,
    /// How many.
    pub(super) count: i64,
    /// The first few records.
    pub(super) some: Vec<RecordId>,
}

/// What came of the places of an audience.
#[derive(Debug)]
pub(super) struct RecipientGroups {
    /// By outcome and reason, the most frequent first.
    pub(super) groups: Vec<(Outcome, ReasonGroup)>,
    /// How many there are of each outcome.
    pub(super) totals: Vec<(Outcome, i64)>,
}

/// Places that failed, were suppressed or left out.
pub(super) async fn places(db: &Db, run: RunId) -> Result<RecipientGroups> {
    const THESE: &str = "run_id = $1 AND outcome IN ('FAILED', 'SUPPRESSED', 'SKIPPED')";
    let totals = format!("SELECT outcome, COUNT(*) FROM run_record WHERE {THESE} GROUP BY outcome");
    let mut all = RecipientGroups { groups: Vec::new(), totals: Vec::new() };
    for row in ask(db, &totals, run).await? {
        all.totals.push((row.try_get_by_index(0)?, row.try_get_by_index(1)?));
    }
    if all.totals.is_empty() {
        return Ok(all);
    }
    let groups = format!(
        "SELECT outcome, reason, COUNT(*) FROM run_record WHERE {THESE} GROUP BY outcome, reason \
         ORDER BY COUNT(*) DESC, outcome, reason LIMIT {REASONS}"
    );
    for row in ask(db, &groups, run).await? {
        let same = ReasonGroup { why: row.try_get_by_index(1)?, count: row.try_get_by_index(2)?, some: Vec::new() };
        all.groups.push((row.try_get_by_index(0)?, same));
    }
    let some = format!(
        "SELECT outcome, reason, record_id FROM (SELECT outcome, reason, record_id, id, ROW_NUMBER() OVER \
         (PARTITION BY outcome, reason ORDER BY id) AS n FROM run_record WHERE {THESE}) x \
         WHERE n <= {SOME} AND record_id IS NOT NULL ORDER BY id LIMIT 10000"
    );
    for row in ask(db, &some, run).await? {
        let (outcome, why): (Outcome, Option<String>) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        if let Some((_, same)) = all.groups.iter_mut().find(|(of, same)| *of == outcome && same.why == why) {
            same.some.push(row.try_get_by_index(2)?);
        }
    }
    Ok(all)
}

/// Steps that failed, but for those whose failure is told of their recipient: their name, and how many by each reason.
pub(super) async fn steps(db: &Db, run: RunId) -> Result<Vec<(String, ReasonGroup)>> {
    let kinds = [run_template::DRAFT, run_template::SEND].map(|kind| format!("'{kind}'")).join(", ");
    let these = format!("run_id = $1 AND status = 'FAILED' AND kind NOT IN ({kinds})");
    let groups = format!(
        "SELECT key, MIN(name), error, COUNT(*) FROM step WHERE {these} GROUP BY key, error \
         ORDER BY COUNT(*) DESC, key, error LIMIT {REASONS}"
    );
    let mut all: Vec<(String, String, ReasonGroup)> = Vec::new();
    for row in ask(db, &groups, run).await? {
        let same = ReasonGroup { why: row.try_get_by_index(2)?, count: row.try_get_by_index(3)?, some: Vec::new() };
        all.push((row.try_get_by_index(0)?, row.try_get_by_index(1)?, same));
    }
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let some = format!(
        "SELECT key, error, record_id FROM (SELECT key, error, record_id, id, ROW_NUMBER() OVER \
         (PARTITION BY key, error ORDER BY id) AS n FROM step WHERE {these}) x \
         WHERE n <= {SOME} AND record_id IS NOT NULL ORDER BY id LIMIT 10000"
    );
    for row in ask(db, &some, run).await? {
        let (key, why): (String, Option<String>) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        if let Some((.., same)) = all.iter_mut().find(|(of, _, same)| *of == key && same.why == why) {
            same.some.push(row.try_get_by_index(2)?);
        }
    }
    Ok(all.into_iter().map(|(_, name, same)| (name, same)).collect())
}

async fn ask(db: &Db, sql: &str, run: RunId) -> Result<Vec<QueryResult>> {
    let backend = db.read().get_database_backend();
    Ok(db.read().query_all_raw(Statement::from_sql_and_values(backend, sql, [run.into()])).await?)
}

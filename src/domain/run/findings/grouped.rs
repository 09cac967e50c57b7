//! Groups outcomes of recipients and steps by reason: counts, and the first few of each.

use entity::id::{RecordId, RunId};
use entity::run_record::Outcome;
use entity::step::StepReason;
use sea_orm::{ConnectionTrait, QueryResult, Statement};

use crate::domain::plan::run_template;
use crate::kernel::db::Db;
use crate::kernel::error::Result;

/// Maximum number of reasons listed; the rest is only counted.
const REASONS: usize = 20;
/// Maximum number of example records per reason.
const SOME: usize = 5;

/// Recipients or steps with the same reason.
#[derive(Clone, Debug)]
pub(super) struct ReasonGroup {
    /// Reason; none if none was stored.
    pub(super) why: Option<String>,
    /// Count.
    pub(super) count: i64,
    /// First few records.
    pub(super) some: Vec<RecordId>,
}

/// Outcomes of a run's recipients.
#[derive(Debug)]
pub(super) struct RecipientGroups {
    /// Groups by outcome and reason, most frequent first.
    pub(super) groups: Vec<(Outcome, ReasonGroup)>,
    /// Count per outcome.
    pub(super) totals: Vec<(Outcome, i64)>,
}

/// Recipients that failed, were suppressed or skipped.
pub(super) async fn recipients(db: &Db, run: RunId) -> Result<RecipientGroups> {
    const THESE: &str = "run_id = $1 AND outcome IN ('FAILED', 'SUPPRESSED', 'SKIPPED')";
    let totals = format!("SELECT outcome, COUNT(*) FROM run_record WHERE {THESE} GROUP BY outcome");
    let mut all = RecipientGroups { groups: Vec::new(), totals: Vec::new() };
    for row in query(db, &totals, run).await? {
        all.totals.push((row.try_get_by_index(0)?, row.try_get_by_index(1)?));
    }
    if all.totals.is_empty() {
        return Ok(all);
    }
    let groups = format!(
        "SELECT outcome, reason, COUNT(*) FROM run_record WHERE {THESE} GROUP BY outcome, reason \
         ORDER BY COUNT(*) DESC, outcome, reason LIMIT {REASONS}"
    );
    for row in query(db, &groups, run).await? {
        let group = ReasonGroup { why: row.try_get_by_index(1)?, count: row.try_get_by_index(2)?, some: Vec::new() };
        all.groups.push((row.try_get_by_index(0)?, group));
    }
    let examples = format!(
        "SELECT outcome, reason, record_id FROM (SELECT outcome, reason, record_id, id, ROW_NUMBER() OVER \
         (PARTITION BY outcome, reason ORDER BY id) AS n FROM run_record WHERE {THESE}) x \
         WHERE n <= {SOME} AND record_id IS NOT NULL ORDER BY id LIMIT 10000"
    );
    for row in query(db, &examples, run).await? {
        let (outcome, why): (Outcome, Option<String>) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        if let Some((_, group)) = all.groups.iter_mut().find(|(of, group)| *of == outcome && group.why == why) {
            group.some.push(row.try_get_by_index(2)?);
        }
    }
    Ok(all)
}

/// Failed steps by name and reason, except those whose failure is reported with their recipient.
pub(super) async fn failed_steps(db: &Db, run: RunId) -> Result<Vec<(String, ReasonGroup)>> {
    let kinds = [run_template::DRAFT, run_template::SEND].map(|kind| format!("'{kind}'")).join(", ");
    steps(db, run, &format!("status = 'FAILED' AND kind NOT IN ({kinds})")).await
}

/// Steps that were skipped because a condition could not be evaluated, by name and reason.
pub(super) async fn unreadable_conditions(db: &Db, run: RunId) -> Result<Vec<(String, ReasonGroup)>> {
    steps(db, run, &format!("status = 'SKIPPED' AND reason = '{}'", StepReason::ConditionUnreadable)).await
}

async fn steps(db: &Db, run: RunId, which: &str) -> Result<Vec<(String, ReasonGroup)>> {
    let these = format!("run_id = $1 AND {which}");
    let groups = format!(
        "SELECT key, MIN(name), error, COUNT(*) FROM step WHERE {these} GROUP BY key, error \
         ORDER BY COUNT(*) DESC, key, error LIMIT {REASONS}"
    );
    let mut all: Vec<(String, String, ReasonGroup)> = Vec::new();
    for row in query(db, &groups, run).await? {
        let group = ReasonGroup { why: row.try_get_by_index(2)?, count: row.try_get_by_index(3)?, some: Vec::new() };
        all.push((row.try_get_by_index(0)?, row.try_get_by_index(1)?, group));
    }
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let examples = format!(
        "SELECT key, error, record_id FROM (SELECT key, error, record_id, id, ROW_NUMBER() OVER \
         (PARTITION BY key, error ORDER BY id) AS n FROM step WHERE {these}) x \
         WHERE n <= {SOME} AND record_id IS NOT NULL ORDER BY id LIMIT 10000"
    );
    for row in query(db, &examples, run).await? {
        let (key, why): (String, Option<String>) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        if let Some((.., group)) = all.iter_mut().find(|(of, _, group)| *of == key && group.why == why) {
            group.some.push(row.try_get_by_index(2)?);
        }
    }
    Ok(all.into_iter().map(|(_, name, group)| (name, group)).collect())
}

async fn query(db: &Db, sql: &str, run: RunId) -> Result<Vec<QueryResult>> {
    let backend = db.read().get_database_backend();
    Ok(db.read().query_all_raw(Statement::from_sql_and_values(backend, sql, [run.into()])).await?)
}

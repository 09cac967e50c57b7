//! Groups outcomes of recipients and steps by reason, for many runs in one statement each: counts,
//! and the first few of each.

use std::collections::HashMap;
use std::hash::Hash;

use entity::StepStatus;
use entity::id::{RecordId, RunId};
use entity::run_record::Outcome;
use entity::step::StepReason;
use sea_orm::TryGetable;

use super::query::{among_runs, read};
use crate::domain::plan::run_template;
use crate::kernel::db::Db;
use crate::kernel::error::Result;

/// Maximum number of reasons listed; the rest is only counted.
const REASONS: i64 = 20;
/// Maximum number of example records per reason.
const SOME: i64 = 5;

/// Recipients or steps with the same reason.
#[derive(Clone, Debug)]
pub(super) struct ReasonGroup {
    /// Name of the steps; empty for recipients.
    pub(super) name: String,
    /// Reason; none if none was stored.
    pub(super) why: Option<String>,
    /// Count.
    pub(super) count: i64,
    /// First few records.
    pub(super) some: Vec<RecordId>,
}

/// Recipients of a run with one outcome, or its steps with one status.
#[derive(Clone, Debug, Default)]
pub(super) struct Reasons {
    /// Groups by reason, most frequent first.
    pub(super) groups: Vec<ReasonGroup>,
    /// Number of those that have a reason that is not listed.
    pub(super) others: i64,
}

/// Reasons by run and by outcome or status.
pub(super) type ReasonsOf<K> = HashMap<(RunId, K), Reasons>;

/// Recipients that failed, were suppressed or skipped. The reasons of the three are listed together,
/// up to their maximum.
pub(super) async fn recipients(db: &Db, runs: &[RunId]) -> Result<ReasonsOf<Outcome>> {
    let these = format!(
        "SELECT run_id, outcome AS kind, '' AS key, '' AS name, reason AS why, record_id, id FROM run_record \
         WHERE {} AND outcome IN ('FAILED', 'SUPPRESSED', 'SKIPPED')",
        among_runs(db)
    );
    grouped(db, runs, &these, "run_id").await
}

/// Failed steps by name and reason, except those whose failure is reported with their recipient; and
/// steps that were skipped because a condition could not be evaluated.
pub(super) async fn steps(db: &Db, runs: &[RunId]) -> Result<ReasonsOf<StepStatus>> {
    let these = format!(
        "SELECT run_id, status AS kind, key, name, error AS why, record_id, id FROM step WHERE {} \
         AND (status = 'FAILED' AND kind NOT IN ('{}', '{}') OR status = 'SKIPPED' AND reason = '{}')",
        among_runs(db),
        run_template::DRAFT,
        run_template::SEND,
        StepReason::ConditionUnreadable
    );
    grouped(db, runs, &these, "run_id, kind").await
}

/// Groups rows by run, kind, key and reason. The reasons are numbered `within` these columns, and listed
/// up to their maximum.
async fn grouped<K>(db: &Db, runs: &[RunId], these: &str, within: &str) -> Result<ReasonsOf<K>>
where
    K: TryGetable + Copy + Eq + Hash,
{
    const GROUP: &str = "PARTITION BY run_id, kind, key, why";
    // One pass over the rows: they are counted and numbered, then a few of each group are kept. Of each
    // kind, its most frequent group is kept even if it is not listed, since it has the total.
    let sql = format!(
        "SELECT run_id, kind, name, why, record_id, n, total, nth_group, nth FROM \
         (SELECT run_id, kind, name, why, record_id, n, nth, \
         CAST(SUM(CASE WHEN nth = 1 THEN n END) OVER (PARTITION BY run_id, kind) AS bigint) AS total, \
         DENSE_RANK() OVER (PARTITION BY {within} ORDER BY n DESC, kind, key, why) AS nth_group, \
         DENSE_RANK() OVER (PARTITION BY run_id, kind ORDER BY n DESC, key, why) AS nth_of_kind FROM \
         (SELECT run_id, kind, key, why, record_id, MIN(name) OVER ({GROUP}) AS name, \
         COUNT(*) OVER ({GROUP}) AS n, ROW_NUMBER() OVER ({GROUP} ORDER BY id) AS nth FROM ({these}) t) x \
         WHERE nth <= {SOME}) y \
         WHERE nth_group <= {REASONS} OR (nth_of_kind = 1 AND nth = 1) ORDER BY run_id, kind, nth_group, nth"
    );
    let mut all: ReasonsOf<K> = HashMap::new();
    for row in read(db, sql, runs).await? {
        let of = all.entry((row.try_get_by_index(0)?, row.try_get_by_index(1)?)).or_default();
        let (count, nth_group, nth) =
            (row.try_get_by_index(5)?, row.try_get_by_index::<i64>(7)?, row.try_get_by_index::<i64>(8)?);
        if of.groups.is_empty() {
            of.others = row.try_get_by_index(6)?;
        }
        if nth_group > REASONS {
            continue;
        }
        if nth == 1 {
            of.others -= count;
            let (name, why) = (row.try_get_by_index(2)?, row.try_get_by_index(3)?);
            of.groups.push(ReasonGroup { name, why, count, some: Vec::new() });
        }
        if let (Some(group), Some(record)) = (of.groups.last_mut(), row.try_get_by_index(4)?) {
            group.some.push(record);
        }
    }
    Ok(all)
}

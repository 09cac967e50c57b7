//! Numbers of a run's messages, replies and steps that findings name, for many runs at once.

use std::collections::HashMap;

use entity::id::{RecordId, RunId};
use entity::{CommunicationStatus, ReplyStatus};

use super::query::{among_runs, read};
use crate::kernel::db::Db;
use crate::kernel::error::Result;

/// Numbers of one run.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Rejected drafts.
    pub(super) rejected: i64,
    /// Drafts that were changed by hand.
    pub(super) edited: i64,
    /// Messages whose outcome is unknown.
    pub(super) unknown: i64,
    /// Approved messages that are not sent yet.
    pub(super) approved: i64,
    /// Approved messages that were refused for now.
    pub(super) refused: Refused,
    /// Replies.
    pub(super) replies: i64,
    /// Replies that are not handled yet.
    pub(super) open_replies: i64,
    /// Steps that failed at least once.
    pub(super) retried: i64,
}

/// Messages that the channel's upstream refused for now.
#[derive(Clone, Debug, Default)]
pub(super) struct Refused {
    pub(super) count: i64,
    /// The record of the first of them.
    pub(super) record: Option<RecordId>,
    /// The refusal of the first of them.
    pub(super) why: Option<String>,
}

/// Counts for some runs; those without any number are left out.
pub(super) async fn of_runs(db: &Db, runs: &[RunId]) -> Result<HashMap<RunId, Counts>> {
    use CommunicationStatus::{Approved, Rejected, Unknown};
    let mut all: HashMap<RunId, Counts> = HashMap::new();
    let these = among_runs(db);
    // In a campaign's run those of its own steps: what people wrote decides nothing about it.
    let own = format!("{these} AND (occasion = 0 OR campaign_id IS NULL)");
    let with = |status| format!("COUNT(CASE WHEN status = '{status}' THEN 1 END)");
    let messages = format!(
        "SELECT run_id, {}, COUNT(edited_by), {}, {} FROM communication WHERE {own} GROUP BY run_id",
        with(Rejected),
        with(Unknown),
        with(Approved)
    );
    for row in read(db, messages, runs).await? {
        let of = all.entry(row.try_get_by_index(0)?).or_default();
        (of.rejected, of.edited) = (row.try_get_by_index(1)?, row.try_get_by_index(2)?);
        (of.unknown, of.approved) = (row.try_get_by_index(3)?, row.try_get_by_index(4)?);
    }
    let refused = format!(
        "SELECT run_id, n, record_id, error FROM (SELECT run_id, record_id, error, COUNT(*) OVER (PARTITION BY run_id) \
         AS n, ROW_NUMBER() OVER (PARTITION BY run_id ORDER BY id) AS nth FROM communication \
         WHERE {own} AND refusals > 0 AND status = '{Approved}') x WHERE nth = 1"
    );
    for row in read(db, refused, runs).await? {
        let (count, record, why) = (row.try_get_by_index(1)?, row.try_get_by_index(2)?, row.try_get_by_index(3)?);
        all.entry(row.try_get_by_index(0)?).or_default().refused = Refused { count, record, why };
    }
    let replies = format!(
        "SELECT run_id, COUNT(*), COUNT(CASE WHEN status = '{}' THEN 1 END) FROM reply WHERE {these} GROUP BY run_id",
        ReplyStatus::Open
    );
    for row in read(db, replies, runs).await? {
        let of = all.entry(row.try_get_by_index(0)?).or_default();
        (of.replies, of.open_replies) = (row.try_get_by_index(1)?, row.try_get_by_index(2)?);
    }
    let retried = format!("SELECT run_id, COUNT(*) FROM step WHERE {these} AND failure_count > 0 GROUP BY run_id");
    for row in read(db, retried, runs).await? {
        all.entry(row.try_get_by_index(0)?).or_default().retried = row.try_get_by_index(1)?;
    }
    Ok(all)
}

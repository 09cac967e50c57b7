//! Assigns positions to events on Postgres: after the commit, by whichever process holds the
//! database's one sequencer lock.
//!
//! Numbering under the org's counter row, last before the commit, holds that row until the commit
//! is on disk: measured (`benches/positions.rs`, `docs/architecture.md`) it reached 34 % of the
//! rate without it with 8 writers, 21 % with 32. So events are inserted without a position, as the
//! last statements of their transaction, and numbered in batches in the order of insertion. An
//! event is numbered once no open transaction is older than its own; it waits for the events of its
//! org that were inserted before it. Two changes of one row are in order: the second waits for the
//! first's lock, so its event is inserted later; and while an older transaction is open, both wait
//! for it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, DatabaseConnection, Statement, TransactionTrait};

use crate::kernel::db::commits::Commits;
use crate::kernel::error::Result;
use crate::kernel::limits;

/// The sequencer's advisory lock: "sortie" in ASCII.
const SEQUENCER: i64 = 0x736f_7274_6965;
/// The delay after a commit that follows others closely, as `limits::SEQUENCER_COLLECT_DELAY` after one that
/// comes alone.
const BUSY_COLLECT_DELAY: Duration = Duration::from_millis(6);
/// Delays before events are numbered again that could not be: the first, and the longest.
const FIRST_RETRY: Duration = Duration::from_millis(3);
const LAST_RETRY: Duration = Duration::from_millis(50);
/// The NOTIFY channel on which nodes wake each other; `NUMBER` names it, too.
pub(crate) const CHANNEL: &str = "sortie";

const NUMBER: &str = "
WITH waiting AS (
    SELECT sequence, org_id, transaction FROM event WHERE position IS NULL AND sequence > $1 ORDER BY sequence LIMIT 10000
), unsure AS (
    SELECT org_id, MIN(sequence) AS first FROM waiting
    WHERE transaction >= pg_snapshot_xmin(pg_current_snapshot()) GROUP BY org_id
), sure AS (
    SELECT w.sequence, w.org_id, row_number() OVER (PARTITION BY w.org_id ORDER BY w.sequence) AS number
    FROM waiting w LEFT JOIN unsure u ON u.org_id = w.org_id WHERE u.first IS NULL OR w.sequence < u.first
), counted AS (
    UPDATE event_counter c SET position = c.position + t.count
    FROM (SELECT org_id, COUNT(*) AS count FROM sure GROUP BY org_id) t WHERE c.org_id = t.org_id
    RETURNING c.org_id, c.position - t.count AS before
), numbered AS (
    UPDATE event e SET position = counted.before + sure.number
    FROM sure JOIN counted ON counted.org_id = sure.org_id WHERE e.sequence = sure.sequence RETURNING 1
)
SELECT count, (SELECT COUNT(*) FROM waiting), CASE WHEN count > 0 THEN pg_notify('sortie', $2) END
FROM (SELECT COUNT(*) AS count FROM numbered) AS n";

/// The outcome of one attempt to number events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SequencedBatch {
    /// Number of events that got a position.
    pub(crate) count: i64,
    /// True if some are left: another process is the sequencer, an older transaction is open, or
    /// there were too many for one batch.
    pub(crate) left: bool,
}

/// The sequence number up to which every event has its position; searches for unnumbered events
/// start here. Otherwise they would scan the index entries that numbering leaves behind, of which
/// there are as many as there were events since the last vacuum.
#[derive(Debug, Default)]
pub(crate) struct Watermark {
    at: AtomicI64,
    /// The next candidate: a value of the insertion sequence, and a transaction id that was
    /// assigned after reading it.
    next: Mutex<Option<(i64, i64)>>,
}

impl Watermark {
    pub(crate) fn at(&self) -> i64 {
        self.at.load(Ordering::Relaxed)
    }

    /// Raises the watermark when that is certain. Events are inserted last in their transaction,
    /// which has its id by then: so a transaction that took a sequence value before we read the
    /// sequence is older than the transaction id that we read after it. Once all those transactions
    /// have ended, no further row can appear up to that value; and the rows there must have their
    /// positions, including those that had to wait.
    pub(crate) async fn raise(&self, db: &DatabaseConnection) -> Result<()> {
        let backend = db.get_database_backend();
        let next = *self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let next = match next {
            None => {
                // Two statements, one after the other: in a single one the snapshot would be the
                // older.
                // A new sequence reports a value that was never taken, too.
                let taken = "SELECT last_value - CASE WHEN is_called THEN 0 ELSE 1 END FROM event_sequence_seq";
                let sequence = one(db, taken).await?;
                // Our own transaction id, the newest there is: a snapshot's end only covers
                // completed transactions, and open ones may lie beyond it.
                Some((sequence, one(db, "SELECT pg_current_xact_id()::text::bigint").await?))
            }
            Some((sequence, transaction)) => {
                let sql = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint >= $1 AND NOT EXISTS \
                           (SELECT 1 FROM event WHERE position IS NULL AND sequence > $2 AND sequence <= $3)";
                let values = [transaction.into(), self.at().into(), sequence.into()];
                let row = db.query_one_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
                let certain = row.map(|row| row.try_get_by_index::<bool>(0)).transpose()?.unwrap_or(false);
                if certain {
                    self.at.fetch_max(sequence, Ordering::Relaxed);
                }
                next.filter(|_| !certain)
            }
        };
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }
}

async fn one(db: &DatabaseConnection, sql: &str) -> Result<i64> {
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await?;
    Ok(row.map(|row| row.try_get_by_index::<i64>(0)).transpose()?.unwrap_or_default())
}

/// Numbers the events after the watermark that can be numbered. Wakes followers here, and other nodes by
/// one NOTIFY, which stands in no transaction of a writer: those would wait for each other at the commit.
pub(crate) async fn number(db: &DatabaseConnection, floor: i64, commits: &Commits) -> Result<SequencedBatch> {
    let backend = db.get_database_backend();
    let tx = db.begin().await?;
    let lock = Statement::from_sql_and_values(backend, "SELECT pg_try_advisory_xact_lock($1)", [SEQUENCER.into()]);
    let held = match tx.query_one_raw(lock).await? {
        Some(row) => row.try_get_by_index::<bool>(0)?,
        None => false,
    };
    let mut numbered = SequencedBatch { count: 0, left: !held };
    let statement = Statement::from_sql_and_values(backend, NUMBER, [floor.into(), commits.node().into()]);
    if held && let Some(row) = tx.query_one_raw(statement).await? {
        let (count, waiting) = (row.try_get_by_index::<i64>(0)?, row.try_get_by_index::<i64>(1)?);
        numbered = SequencedBatch { count, left: count < waiting || waiting == 10_000 };
    }
    // Also if this future is dropped while the database commits.
    let _announced = (numbered.count > 0).then(|| Announced(commits));
    tx.commit().await?;
    Ok(numbered)
}

/// Wakes followers here when it is dropped.
struct Announced<'a>(&'a Commits);

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.0.numbered();
    }
}

/// Numbers events for a reader that must see what was committed before; gives up after a moment if
/// an older transaction stays open.
pub(crate) async fn caught_up(db: &DatabaseConnection, floor: &Watermark, commits: &Commits) -> Result<()> {
    let backend = db.get_database_backend();
    for attempt in 0..10 {
        let sql = "SELECT EXISTS (SELECT 1 FROM event WHERE position IS NULL AND sequence > $1)";
        let any = db.query_one_raw(Statement::from_sql_and_values(backend, sql, [floor.at().into()])).await?;
        let any = any.map(|row| row.try_get_by_index::<bool>(0)).transpose()?.unwrap_or(false);
        if !any || !number(db, floor.at(), commits).await?.left {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1 << attempt.min(5))).await;
    }
    Ok(())
}

/// Numbers events forever: after each commit here, and once a second for processes that died before
/// they could.
pub(crate) async fn run(db: DatabaseConnection, commits: Commits, floor: Arc<Watermark>) {
    let (mut written, mut raised) = (commits.written(), Instant::now());
    let (mut retry, mut numbered_at) = (FIRST_RETRY, raised);
    loop {
        written.mark_unchanged();
        let left = match number(&db, floor.at(), &commits).await {
            Ok(numbered) => {
                // An older transaction may stay open for long, in any database of the server.
                let waits = numbered.left && numbered.count == 0;
                retry = if waits { Ord::min(2 * retry, LAST_RETRY) } else { FIRST_RETRY };
                numbered.left
            }
            Err(err) => {
                log_failure!(error, err, "events could not be numbered");
                false
            }
        };
        if raised.elapsed() >= limits::POLL {
            raised = Instant::now();
            if let Err(err) = floor.raise(&db).await {
                log_failure!(warn, err, "the watermark of the event log could not be raised");
            }
        }
        let pause = if left { retry } else { limits::POLL };
        if tokio::time::timeout(pause, written.changed()).await.is_ok() {
            // A single writer waits this long; with many writers, one numbering serves them all.
            let is_busy = numbered_at.elapsed() < BUSY_COLLECT_DELAY * 2;
            let delay = if is_busy { BUSY_COLLECT_DELAY } else { limits::SEQUENCER_COLLECT_DELAY };
            tokio::time::sleep(delay).await;
            numbered_at = Instant::now();
        }
    }
}

/// Wakes local followers and the engine when another node has numbered events.
pub(crate) async fn listen(db: DatabaseConnection, commits: Commits) {
    loop {
        if let Ok(mut listener) =
            sea_orm::sqlx::postgres::PgListener::connect_with(db.get_postgres_connection_pool()).await
            && listener.listen(CHANNEL).await.is_ok()
        {
            while let Ok(notified) = listener.recv().await {
                if notified.payload() != commits.node() {
                    commits.wake_all();
                }
            }
        }
        // Without the listener, followers poll every second.
        tokio::time::sleep(limits::POLL).await;
    }
}

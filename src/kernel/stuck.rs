//! Work that fails again and again: kept with how often and why, tried again after a growing pause, and left alone until
//! then, so that it holds up nothing else. Whoever asks why a run does not move is told.

use std::collections::HashSet;

use chrono::{DateTime, Duration, Utc};
use entity::id::*;
use entity::stuck_work::{COLUMN, Column, Entity, Model};
use sea_orm::sea_query::{Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect, Set,
};
use uuid::Uuid;

pub use entity::stuck_work::StuckWork;

use crate::kernel::db::Db;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::{Error, Result};
use crate::kernel::{limits, storable};
use crate::transact;

/// One piece of work, as failures are kept of it.
#[derive(Clone, Copy, Debug)]
pub struct WorkItem {
    /// The kind of work.
    pub work: StuckWork,
    /// The run or the sweep that it is about.
    pub subject: Uuid,
    /// The tenant.
    pub org_id: OrgId,
    /// The run; none for a sweep over records.
    pub run_id: Option<RunId>,
}

impl WorkItem {
    /// Work on a run.
    pub fn of_run(work: StuckWork, org_id: OrgId, run_id: RunId) -> Self {
        Self { work, subject: run_id.0, org_id, run_id: Some(run_id) }
    }
}

impl WorkItem {
    /// The settle of a step that a worker outside holds: it keeps no other step of its run from anybody.
    pub fn of_step(org_id: OrgId, run_id: RunId, step: StepId) -> Self {
        Self { work: StuckWork::Settle, subject: step.0, org_id, run_id: Some(run_id) }
    }
}

/// The pause after so many failures in a row: a second, doubled with each, ten minutes at most.
pub fn pause(failures: i32) -> Duration {
    let doubled = 1_i64 << (failures - 1).clamp(0, 20);
    Duration::seconds(doubled).min(limits::STUCK_MOST)
}

/// Subjects that are set aside at a time, as a subquery: what is among them is not tried now.
pub(crate) fn set_aside(works: &[StuckWork], now: DateTime<Utc>) -> SelectStatement {
    let mut held = Query::select();
    held.column(Column::Subject).from(Entity).cond_where(one_of(works)).and_where(COLUMN.next_try_at.gt(now));
    held
}

/// The condition that the work is of one of a few kinds.
fn one_of(works: &[StuckWork]) -> Condition {
    works.iter().fold(Condition::any(), |any, work| any.add(COLUMN.work.eq(*work)))
}

/// The condition that a column's row is not set aside at a time.
pub(crate) fn is_free(column: impl Into<Expr>, works: &[StuckWork], now: DateTime<Utc>) -> Expr {
    let column: Expr = column.into();
    column.not_in_subquery(set_aside(works, now))
}

/// What has failed last time, of some kinds: when it passes, its row goes.
pub async fn known(db: &Db, works: &[StuckWork]) -> Result<HashSet<(StuckWork, Uuid)>> {
    let rows: Vec<(StuckWork, Uuid)> = Entity::find()
        .select_only()
        .column(Column::Work)
        .column(Column::Subject)
        .filter(one_of(works))
        .into_tuple()
        .all(db.read())
        .await?;
    Ok(rows.into_iter().collect())
}

/// Keeps a failure, and says it in the log, once for each time that it is tried. A failure that passes by itself is no
/// fault of the work: it is only logged.
pub async fn failed(db: &Db, piece: WorkItem, err: &Error) {
    metrics::counter!("sortie_failed_ticks_total", "work" => piece.work.to_string().to_lowercase()).increment(1);
    if err.passes() {
        log_failure!(warn, err, work = %piece.work, subject = %piece.subject, "work failed; it is tried again");
        return;
    }
    match keep(db, piece, err).await {
        Ok(row) => {
            log_failure!(error, err, work = %row.work, subject = %row.subject, failures = row.failures, next_try_at = %row.next_try_at, "work failed and is set aside")
        }
        Err(other) => log_failure!(error, err, work = %piece.work, subject = %piece.subject, because = %other,
            "work failed, and that could not be kept"),
    }
}

async fn keep(db: &Db, piece: WorkItem, err: &Error) -> Result<Model> {
    transact!(db, |tx| {
        let now = tx.now();
        let told = storable::reason(&err.told());
        let found = Entity::find_by_id((piece.subject, piece.work)).lock_exclusive().one(tx.db()).await?;
        let Some(found) = found else {
            let row = Model {
                subject: piece.subject,
                work: piece.work,
                org_id: piece.org_id,
                run_id: piece.run_id,
                failures: 1,
                error: told,
                since: now,
                last_at: now,
                next_try_at: storable::after(now, pause(1)),
            };
            return Ok(row.into_active_model().reset_all().insert(tx.db()).await?);
        };
        let failures = found.failures.saturating_add(1);
        let mut row = found.into_active_model();
        row.failures = Set(failures);
        row.error = Set(told);
        row.last_at = Set(now);
        row.next_try_at = Set(storable::after(now, pause(failures)));
        Ok(row.update(tx.db()).await?)
    })
}

/// Lets a piece of work go that has passed.
pub async fn passed(db: &Db, work: StuckWork, subject: Uuid) -> Result<()> {
    transact!(db, |tx| {
        Entity::delete_many().filter(COLUMN.subject.eq(subject)).filter(COLUMN.work.eq(work)).exec(tx.db()).await?;
        Ok(())
    })
}

/// Lets the settles of some steps go that were kept each by itself: they have come to an end. Asks first, for there are
/// hardly ever any.
pub async fn settled(db: &Db, steps: &[StepId]) -> Result<()> {
    let theirs = || {
        Condition::all().add(COLUMN.work.eq(StuckWork::Settle)).add(any_of(
            db.dialect(),
            COLUMN.subject,
            steps.iter().map(|id| id.0),
        ))
    };
    if steps.is_empty() || Entity::find().filter(theirs()).one(db.read()).await?.is_none() {
        return Ok(());
    }
    transact!(db, |tx| {
        Entity::delete_many().filter(theirs()).exec(tx.db()).await?;
        Ok(())
    })
}

/// Lets go what nobody tries any more: work of runs that have ended but for their own sweeps, and what was due long ago.
pub async fn delete_expired(db: &Db) -> Result<()> {
    let now = db.now();
    let mut ended = Query::select();
    ended.column(entity::run::Column::Id).from(entity::run::Entity).and_where(entity::run::COLUMN.status.is_in([
        entity::RunStatus::Completed,
        entity::RunStatus::Cancelled,
        entity::RunStatus::Failed,
    ]));
    let over = Condition::all().add(Column::RunId.in_subquery(ended)).add(COLUMN.work.is_in([
        StuckWork::Fire,
        StuckWork::Begin,
        StuckWork::Close,
        StuckWork::Claim,
    ]));
    let gone = Condition::any().add(over).add(COLUMN.next_try_at.lt(now - limits::STUCK_KEPT));
    if Entity::find().filter(gone.clone()).one(db.read()).await?.is_none() {
        return Ok(());
    }
    transact!(db, |tx| {
        Entity::delete_many().filter(gone.clone()).exec(tx.db()).await?;
        Ok(())
    })
}

/// What is stuck of some runs.
pub async fn of_runs(db: &impl ConnectionTrait, org_id: OrgId, runs: &[RunId]) -> Result<Vec<Model>> {
    Ok(Entity::find()
        .filter(COLUMN.org_id.eq(org_id))
        .filter(any_of(db.get_database_backend(), COLUMN.run_id, runs.iter().copied()))
        .order_by_asc(COLUMN.since)
        .order_by_asc(COLUMN.work)
        .all(db)
        .await?)
}

/// What is stuck in all orgs together, the longest first, for the operator: so many, and how many there are.
pub async fn all(db: &Db, most: u64) -> Result<(Vec<Model>, u64)> {
    use sea_orm::PaginatorTrait;
    let stuck = || Entity::find().filter(COLUMN.failures.gte(limits::STUCK_FAILURES));
    let shown = stuck().order_by_asc(COLUMN.since).order_by_asc(COLUMN.subject).limit(most).all(db.read()).await?;
    let count = if (shown.len() as u64) < most { shown.len() as u64 } else { stuck().count(db.read()).await? };
    Ok((shown, count))
}

/// Repeated work as a phrase that begins a sentence: "settling its steps".
pub(crate) fn as_activity(work: StuckWork) -> &'static str {
    use StuckWork as W;
    match work {
        W::Fire => "firing it",
        W::Begin => "beginning it",
        W::Sweep => "going through its rows",
        W::Close => "moving it on after its phase",
        W::Tell => "telling what is overdue",
        W::Rescue => "taking steps back from a worker that did not come back",
        W::Claim => "claiming its steps",
        W::Settle => "settling its steps",
    }
}

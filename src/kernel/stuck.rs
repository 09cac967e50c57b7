//! Work that fails repeatedly: recorded with its failures and the last error, retried with a
//! growing backoff, and left alone until then, so that it delays nothing else. A run's `waitingFor`
//! lists it.

use std::collections::HashSet;

use chrono::{DateTime, Duration, Utc};
use entity::RunStatus;
use entity::id::*;
use entity::stuck_work::{COLUMN, Column, Entity, Model};
use sea_orm::sea_query::{Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect, Set,
};
use uuid::Uuid;

pub use entity::stuck_work::StuckWork;

use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, WriteContext};
use crate::kernel::error::{Error, Result};
use crate::kernel::{limits, storable};
use crate::transact;

/// A work item, as its failures are recorded.
#[derive(Clone, Copy, Debug)]
pub struct WorkItem {
    /// Kind of work.
    pub work: StuckWork,
    /// The run, step, sweep, schedule or agent that the work is about.
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
    /// The settling of an external worker's step: its failure delays no other step of the run.
    pub fn of_step(org_id: OrgId, run_id: RunId, step: StepId) -> Self {
        Self { work: StuckWork::Settle, subject: step.0, org_id, run_id: Some(run_id) }
    }
}

/// The backoff after a number of consecutive failures: one second, doubled with each, ten minutes
/// at most.
pub fn pause(failures: i32) -> Duration {
    let doubled = 1_i64 << (failures - 1).clamp(0, 20);
    Duration::seconds(doubled).min(limits::STUCK_MOST)
}

/// Subjects that are set aside at a time, as a subquery: they are not tried now.
pub(crate) fn set_aside(works: &[StuckWork], now: DateTime<Utc>) -> SelectStatement {
    let mut held = Query::select();
    held.column(Column::Subject).from(Entity).cond_where(one_of(works)).and_where(COLUMN.next_try_at.gt(now));
    held
}

/// The condition that the work is of one of these kinds.
fn one_of(works: &[StuckWork]) -> Condition {
    works.iter().fold(Condition::any(), |any, work| any.add(COLUMN.work.eq(*work)))
}

/// The condition that the subject in a column is not set aside at a time.
pub(crate) fn is_free(column: impl Into<Expr>, works: &[StuckWork], now: DateTime<Utc>) -> Expr {
    let column: Expr = column.into();
    column.not_in_subquery(set_aside(works, now))
}

/// The recorded work items of some kinds; on success, their rows are deleted.
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

/// Records a failure and logs it, once per attempt. A transient failure is not the work's fault: it
/// is only logged.
pub async fn failed(db: &WriteContext, item: WorkItem, err: &Error) {
    metrics::counter!("sortie_failed_ticks_total", "work" => item.work.to_string().to_lowercase()).increment(1);
    if err.is_transient() {
        log_failure!(warn, err, work = %item.work, subject = %item.subject, "work failed and will be retried");
        return;
    }
    match record_failure(db, item, err).await {
        Ok(row) => {
            log_failure!(error, err, work = %row.work, subject = %row.subject, failures = row.failures, next_try_at = %row.next_try_at, "work failed and is set aside")
        }
        Err(other) => log_failure!(error, err, work = %item.work, subject = %item.subject, because = %other,
            "work failed, and the failure could not be recorded"),
    }
}

async fn record_failure(db: &WriteContext, item: WorkItem, err: &Error) -> Result<Model> {
    transact!(db, |tx| {
        let now = tx.now();
        let message = storable::reason(&err.public_message());
        let found = Entity::find_by_id((item.subject, item.work)).lock_exclusive().one(tx.db()).await?;
        let Some(found) = found else {
            let row = Model {
                subject: item.subject,
                work: item.work,
                org_id: item.org_id,
                run_id: item.run_id,
                failures: 1,
                error: message,
                since: now,
                last_at: now,
                next_try_at: storable::after(now, pause(1)),
            };
            return Ok(row.into_active_model().reset_all().insert(tx.db()).await?);
        };
        let failures = found.failures.saturating_add(1);
        let mut row = found.into_active_model();
        row.failures = Set(failures);
        row.error = Set(message);
        row.last_at = Set(now);
        row.next_try_at = Set(storable::after(now, pause(failures)));
        Ok(row.update(tx.db()).await?)
    })
}

/// Deletes the record of work that has succeeded.
pub async fn passed(db: &WriteContext, work: StuckWork, subject: Uuid) -> Result<()> {
    transact!(db, |tx| {
        let gone = Entity::delete_many().filter(COLUMN.subject.eq(subject)).filter(COLUMN.work.eq(work));
        if gone.exec(tx.db()).await?.rows_affected > 0 {
            // It held up other work of its run.
            tx.wake_engine();
        }
        Ok(())
    })
}

/// Deletes the records of settled steps. Reads first, because there are hardly ever any.
pub async fn settled(db: &WriteContext, steps: &[StepId]) -> Result<()> {
    let condition = || {
        Condition::all().add(COLUMN.work.eq(StuckWork::Settle)).add(any_of(
            db.dialect(),
            COLUMN.subject,
            steps.iter().map(|id| id.0),
        ))
    };
    if steps.is_empty() || Entity::find().filter(condition()).one(db.read()).await?.is_none() {
        return Ok(());
    }
    transact!(db, |tx| {
        if Entity::delete_many().filter(condition()).exec(tx.db()).await?.rows_affected > 0 {
            tx.wake_engine();
        }
        Ok(())
    })
}

/// Deletes records that nobody retries: those of runs that have ended, except for the sweeps that
/// close them, and those that were due long ago.
pub async fn delete_expired(db: &WriteContext) -> Result<()> {
    let now = db.now();
    let work_of = |statuses: &[RunStatus], works: &[StuckWork]| {
        let mut runs = Query::select();
        let has_status = any_of(db.dialect(), entity::run::COLUMN.status, statuses.iter().copied());
        runs.column(entity::run::Column::Id).from(entity::run::Entity).and_where(has_status);
        Condition::all().add(Column::RunId.in_subquery(runs)).add(any_of(
            db.dialect(),
            COLUMN.work,
            works.iter().copied(),
        ))
    };
    let of_ended_runs = work_of(
        &[RunStatus::Completed, RunStatus::Cancelled, RunStatus::Failed],
        &[StuckWork::Fire, StuckWork::Begin, StuckWork::Close, StuckWork::Claim],
    );
    // The sweeps of a failed run are held until it is retried.
    let held = work_of(&[RunStatus::Failed], &[StuckWork::Sweep]);
    let obsolete = Condition::any().add(of_ended_runs).add(held).add(COLUMN.next_try_at.lt(now - limits::STUCK_KEPT));
    if Entity::find().filter(obsolete.clone()).one(db.read()).await?.is_none() {
        return Ok(());
    }
    transact!(db, |tx| {
        Entity::delete_many().filter(obsolete.clone()).exec(tx.db()).await?;
        Ok(())
    })
}

/// Stuck work of some runs.
pub async fn of_runs(db: &impl ConnectionTrait, org_id: OrgId, runs: &[RunId]) -> Result<Vec<Model>> {
    Ok(Entity::find()
        .filter(COLUMN.org_id.eq(org_id))
        .filter(any_of(db.get_database_backend(), COLUMN.run_id, runs.iter().copied()))
        .order_by_asc(COLUMN.since)
        .order_by_asc(COLUMN.work)
        .all(db)
        .await?)
}

/// Stuck work in all orgs, oldest first, for the operator: at most `most` items, and the total
/// number.
pub async fn all(db: &Db, most: u64) -> Result<(Vec<Model>, u64)> {
    use sea_orm::PaginatorTrait;
    let stuck = || Entity::find().filter(COLUMN.failures.gte(limits::STUCK_FAILURES));
    let shown = stuck().order_by_asc(COLUMN.since).order_by_asc(COLUMN.subject).limit(most).all(db.read()).await?;
    let count = if (shown.len() as u64) < most { shown.len() as u64 } else { stuck().count(db.read()).await? };
    Ok((shown, count))
}

/// Stuck work as a phrase that begins a sentence: "settling its steps".
pub(crate) fn as_activity(work: StuckWork) -> &'static str {
    use StuckWork as W;
    match work {
        W::Fire => "firing it",
        W::Begin => "starting it",
        W::Sweep => "applying a large change to it",
        W::Close => "advancing it after its phase",
        W::Tell => "reporting its overdue work",
        W::Rescue => "returning steps with an expired lease to the queue",
        W::Claim => "claiming its steps",
        W::Settle => "settling its steps",
    }
}

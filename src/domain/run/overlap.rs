//! Overlap of a schedule's runs: what happens to an occurrence that falls due while an earlier run
//! of the same schedule is open. Runs that wait for an earlier one are SCHEDULED and have
//! `buffered_at`; they start in order, each when those before it have ended.

use entity::RunStatus;
use entity::run::{COLUMN, Column, Entity, Model};
use entity::schedule::{self, OverlapPolicy};
use sea_orm::sea_query::{Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Set};
use serde_json::json;

use super::control;
use crate::domain::plan::schedule as schedules;
use crate::kernel::db::Tx;
use crate::kernel::error::Result;
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;

/// Statuses of runs that have started and not ended.
const OPEN: [RunStatus; 3] = [RunStatus::Queued, RunStatus::InProgress, RunStatus::Paused];

/// The decision on an occurrence that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The occurrence starts.
    Start,
    /// The occurrence starts once the open runs are cancelled.
    CancelOthers,
    /// The occurrence waits for the runs before it.
    Buffer,
    /// The occurrence does not start.
    Skip,
}

/// Runs of a schedule that have started and not ended, oldest first, as far as they matter to its
/// overlap policy; locked if that cancels them.
pub(super) async fn open_runs(tx: &Tx, schedule: &schedule::Model, waiting: &[Model]) -> Result<Vec<Model>> {
    if schedule.overlap == OverlapPolicy::AllowAll && waiting.iter().all(|run| run.buffered_at.is_none()) {
        return Ok(Vec::new());
    }
    let mut open = Entity::find()
        .filter(COLUMN.schedule_id.eq(schedule.id))
        // Literals, so that the partial index applies.
        .filter(Expr::cust("run.schedule_id IS NOT NULL AND run.status IN ('QUEUED', 'IN_PROGRESS', 'PAUSED')"))
        .order_by_asc(Column::Id);
    if schedule.overlap == OverlapPolicy::CancelOther {
        open = open.lock_exclusive();
    }
    Ok(open.all(tx.db()).await?)
}

/// Decides on an occurrence, or on a run that a person starts, from the schedule's open runs and its
/// waiting ones.
pub(super) fn decide(schedule: &schedule::Model, open: &[Model], waiting: &[Model]) -> Turn {
    let buffered = waiting.iter().filter(|run| run.buffered_at.is_some());
    let of_pattern = buffered.clone().filter(|run| run.backfill_for.is_none()).count();
    if open.is_empty() && buffered.clone().next().is_none() {
        return Turn::Start;
    }
    match schedule.overlap {
        OverlapPolicy::AllowAll => Turn::Start,
        OverlapPolicy::CancelOther => Turn::CancelOthers,
        OverlapPolicy::Skip => Turn::Skip,
        OverlapPolicy::BufferOne if of_pattern > 0 => Turn::Skip,
        OverlapPolicy::BufferAll if buffered.count() >= limits::BUFFERED_RUNS => Turn::Skip,
        OverlapPolicy::BufferOne | OverlapPolicy::BufferAll => Turn::Buffer,
    }
}

/// The first run that waits for earlier ones, if these have ended.
pub(super) fn first_free(schedule: &schedule::Model, open: &[Model], waiting: &[Model]) -> Option<Model> {
    if open.iter().any(|run| blocks(schedule, run)) {
        return None;
    }
    let buffered = waiting.iter().filter(|run| run.buffered_at.is_some());
    buffered.min_by_key(|run| (run.buffered_at, run.backfill_for.or(run.occurrence_at), run.id.0)).cloned()
}

/// True if waiting runs wait for this open one. Under ALLOW_ALL only backfilled runs wait, for each
/// other: the occurrences, which start beside one another, may never leave a gap.
fn blocks(schedule: &schedule::Model, open: &Model) -> bool {
    schedule.overlap != OverlapPolicy::AllowAll || open.backfill_for.is_some()
}

/// Schedules with a run that waits for earlier ones, as a subquery of their ids.
pub(super) fn with_waiting() -> SelectStatement {
    let mut waiting = Query::select();
    waiting
        .column(Column::ScheduleId)
        .from(Entity)
        .and_where(Expr::cust("run.status = 'SCHEDULED' AND run.buffered_at IS NOT NULL"));
    waiting
}

/// SQL condition: no open run blocks the schedule's waiting ones.
pub(super) fn is_free() -> Expr {
    let mut open = Query::select();
    open.column(Column::Id).from(Entity).and_where(Expr::cust(
        "run.schedule_id = schedule.id AND run.schedule_id IS NOT NULL \
         AND run.status IN ('QUEUED', 'IN_PROGRESS', 'PAUSED') \
         AND (schedule.overlap <> 'ALLOW_ALL' OR run.backfill_for IS NOT NULL)",
    ));
    Expr::exists(open).not()
}

/// Lets a scheduled run wait for the runs before it.
pub(super) async fn buffer(tx: &Tx, viewer: &Viewer, schedule: &schedule::Model, run: Model) -> Result<Model> {
    let revision = run.revision;
    let mut row = run.into_active_model();
    row.buffered_at = Set(Some(tx.now()));
    row.updated_at = Set(tx.now());
    row.revision = Set(revision + 1);
    let run = row.update(tx.db()).await?;
    super::emit(tx, viewer, "run.updated", &run, json!({}));
    emit_buffered(tx, viewer, schedule, &run);
    Ok(run)
}

/// Emits the event of a run that waits for earlier ones.
pub(super) fn emit_buffered(tx: &Tx, viewer: &Viewer, schedule: &schedule::Model, run: &Model) {
    let payload =
        json!({ "runId": run.id, "occurrenceAt": run.occurrence_at.or(run.backfill_for), "overlap": schedule.overlap });
    schedules::emit(tx, viewer, "schedule.buffered", schedule, payload);
}

/// Cancels the open runs in favour of the next one. Returns the schedule as it is then: it may have
/// ended with its campaign.
pub(super) async fn cancel_open(
    tx: &Tx,
    viewer: &Viewer,
    schedule: &schedule::Model,
    open: Vec<Model>,
) -> Result<schedule::Model> {
    for run in open.into_iter().filter(|run| OPEN.contains(&run.status)) {
        control::cancel_one(tx, viewer, run, Some("the next run of its schedule starts")).await?;
    }
    schedules::must_lock(tx, viewer, schedule.id, None).await
}

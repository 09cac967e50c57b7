//! The verbs of people on a run as a whole: pause, resume, reschedule, cancel; and the release of a
//! phase.

use chrono::{DateTime, Utc};
use entity::id::*;
use entity::run::{COLUMN, Entity, Model, RunTransition};
use entity::sweep::SweepKind;
use entity::{RunStatus, campaign};
use sea_orm::sea_query::ExprTrait;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Set,
};

use super::{advance, apply_transition, campaign_status, must_lock, next_status, occurrence, phase, sweep_queue};
use crate::domain::message::send_queue;
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
use crate::transact;

/// Pauses or resumes a run. Errors: NOT_FOUND, CONFLICT, INVALID_TRANSITION.
pub async fn pause_or_resume(
    db: &WriteContext,
    viewer: &Viewer,
    id: RunId,
    expected: Option<i32>,
    transition: RunTransition,
    reason: Option<&str>,
) -> Result<Model> {
    let reason = reason.map(|reason| validate::text("reason", reason)).transpose()?;
    transact!(db, |tx| {
        let run = must_lock(tx, viewer, id, expected).await?;
        let run = apply_transition(tx, viewer, run, transition, reason.as_deref(), |_| {}).await?;
        tx.set_result(run.id);
        if run.status == RunStatus::InProgress {
            return advance::advance(tx, viewer, run).await;
        }
        Ok(run)
    })
}

/// Moves a scheduled run to another time. Errors: NOT_FOUND, CONFLICT, INVALID_TRANSITION,
/// BAD_USER_INPUT for a time in the past.
pub async fn reschedule(
    db: &WriteContext,
    viewer: &Viewer,
    id: RunId,
    expected: Option<i32>,
    at: DateTime<Utc>,
) -> Result<Model> {
    let at = crate::kernel::storable::time(at).map_err(|unfit| unfit.of("at"))?;
    transact!(db, |tx| {
        let schedule = occurrence::lock_schedule(tx, viewer, id).await?;
        let run = must_lock(tx, viewer, id, expected).await?;
        next_status(&run, RunTransition::Reschedule)?;
        if at <= tx.now() {
            return Err(Refusal::input("at", "the time lies in the past").into());
        }
        tx.set_result(run.id);
        let run = apply_transition(tx, viewer, run, RunTransition::Reschedule, None, |row| {
            row.scheduled_for = Set(Some(at));
            row.buffered_at = Set(None);
        })
        .await?;
        if let Some(schedule) = schedule {
            occurrence::follow(tx, viewer, schedule).await?;
        }
        Ok(run)
    })
}

/// Cancels a run; idempotent. Nothing starts from now on; open steps are closed by a sweep. Errors:
/// NOT_FOUND, CONFLICT, INVALID_TRANSITION for a run that has ended otherwise.
pub async fn cancel(
    db: &WriteContext,
    viewer: &Viewer,
    id: RunId,
    expected: Option<i32>,
    reason: Option<&str>,
) -> Result<Model> {
    let reason = reason.map(|reason| validate::text("reason", reason)).transpose()?;
    transact!(db, |tx| {
        let schedule = occurrence::lock_schedule(tx, viewer, id).await?;
        let run = must_lock(tx, viewer, id, expected).await?;
        if run.status == RunStatus::Cancelled {
            return Ok(run);
        }
        next_status(&run, RunTransition::Cancel)?;
        tx.set_result(run.id);
        let was_scheduled = run.status == RunStatus::Scheduled;
        let run = cancel_one(tx, viewer, run, reason.as_deref()).await?;
        if let Some(schedule) = schedule.filter(|_| was_scheduled) {
            occurrence::skip(tx, viewer, schedule, &run).await?;
        }
        Ok(run)
    })
}

/// Cancels a locked run, without an effect on its schedule.
pub(super) async fn cancel_one(tx: &Tx, viewer: &Viewer, run: Model, reason: Option<&str>) -> Result<Model> {
    let was = run.status;
    let at = tx.now();
    let run = apply_transition(tx, viewer, run, RunTransition::Cancel, reason, |row| {
        row.ended_at = Set(Some(at));
        row.failure = Set(reason.map(str::to_owned));
    })
    .await?;
    match was {
        RunStatus::InProgress | RunStatus::Paused => {
            let message = reason
                .map_or_else(|| "the run was cancelled".to_owned(), |why| format!("the run was cancelled: {why}"));
            sweep_queue::begin(tx, viewer, &run, None, SweepKind::Cancel, Some(message)).await?;
        }
        RunStatus::Scheduled | RunStatus::Queued | RunStatus::Completed | RunStatus::Cancelled | RunStatus::Failed => {}
    }
    campaign_status::follow_others(tx, &run).await?;
    Ok(run)
}

/// Cancels every open run of a campaign whose schedules have ended.
pub(crate) async fn cancel_all_of(
    tx: &Tx,
    viewer: &Viewer,
    campaign: &campaign::Model,
    reason: Option<&str>,
) -> Result<()> {
    let affected = Entity::find()
        .filter(COLUMN.campaign_id.eq(campaign.id))
        .filter(COLUMN.status.is_in(RunStatus::OPEN).or(COLUMN.in_flight.gt(0)))
        .order_by_asc(COLUMN.id)
        .lock_exclusive()
        .all(tx.db())
        .await?;
    let reason = reason.unwrap_or("the campaign was cancelled");
    for run in affected {
        if run.status.is_open() {
            cancel_one(tx, viewer, run, Some(reason)).await?;
        } else {
            // Nobody could stop what people released in it.
            send_queue::withdraw(tx, viewer, &run, Condition::all(), reason).await?;
        }
    }
    Ok(())
}

/// Releases a phase that is not autonomous. Errors: NOT_FOUND, CONFLICT.
pub async fn release_phase(
    db: &WriteContext,
    viewer: &Viewer,
    id: PhaseId,
    expected: Option<i32>,
) -> Result<entity::phase::Model> {
    let run_id = phase::must_find(db.read(), viewer, id).await?.run_id;
    transact!(db, |tx| {
        let run = must_lock(tx, viewer, run_id, None).await?;
        let phase = phase::must_find(tx.db(), viewer, id).await?;
        validate::expect("phase", phase.revision, expected)?;
        phase::check_release_allowed(&run, &phase)?;
        let revision = phase.revision;
        let mut row = phase.into_active_model();
        row.advanced_by = Set(Some(viewer.actor()));
        row.revision = Set(revision + 1);
        row.update(tx.db()).await?;
        advance::advance(tx, viewer, run).await?;
        tx.set_result(id);
        phase::must_find(tx.db(), viewer, id).await
    })
}

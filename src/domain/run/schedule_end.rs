//! Ends schedules, and cancels the runs that wait for their time.

use entity::RunStatus;
use entity::id::{CampaignId, ScheduleId};
use entity::run::{COLUMN, Column, Entity, Model, RunTransition};
use entity::schedule::{self, EndReason, ScheduleStatus};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Set};

use crate::domain::plan::schedule as schedules;
use crate::kernel::db::Tx;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Ends the schedules of a campaign that has ended, each with an event, and cancels their waiting
/// runs.
pub(crate) async fn end_all_of(
    tx: &Tx,
    viewer: &Viewer,
    campaign: CampaignId,
    reason: EndReason,
    why: Option<&str>,
) -> Result<()> {
    for schedule in live_of(tx, viewer, campaign).await? {
        end_one(tx, viewer, schedule, reason, why).await?;
    }
    Ok(())
}

/// Returns the schedules of a campaign that have not ended, locked.
pub(super) async fn live_of(tx: &Tx, viewer: &Viewer, campaign: CampaignId) -> Result<Vec<schedule::Model>> {
    Ok(schedule::Entity::find()
        .filter(schedule::COLUMN.org_id.eq(viewer.org_id))
        .filter(schedule::COLUMN.campaign_id.eq(campaign))
        .filter(schedule::COLUMN.status.ne(ScheduleStatus::Ended))
        .order_by_asc(schedule::COLUMN.id)
        .lock_exclusive()
        .all(tx.db())
        .await?)
}

/// Ends a locked schedule, unless it has ended before. The reason is recorded with its waiting
/// runs.
pub(crate) async fn end_one(
    tx: &Tx,
    viewer: &Viewer,
    schedule: schedule::Model,
    reason: EndReason,
    why: Option<&str>,
) -> Result<schedule::Model> {
    if schedule.status == ScheduleStatus::Ended {
        return Ok(schedule);
    }
    let ended = schedules::mark_ended(tx, viewer, schedule, reason).await?;
    let default_reason = match reason {
        EndReason::EndedByPerson | EndReason::Exhausted => "the schedule was ended",
        EndReason::CampaignCancelled => "the campaign was cancelled",
        EndReason::CampaignCompleted => "the campaign was completed",
    };
    for run in waiting(tx, ended.id).await? {
        cancel_scheduled(tx, viewer, run, why.unwrap_or(default_reason)).await?;
    }
    Ok(ended)
}

/// Scheduled runs of a schedule, earliest first, locked.
pub(crate) async fn waiting(tx: &Tx, id: ScheduleId) -> Result<Vec<Model>> {
    Ok(Entity::find()
        .filter(COLUMN.schedule_id.eq(id))
        .filter(COLUMN.status.eq(RunStatus::Scheduled))
        .order_by_asc(Column::ScheduledFor)
        .order_by_asc(Column::Id)
        .lock_exclusive()
        .all(tx.db())
        .await?)
}

/// Cancels a scheduled run without further effects.
pub(crate) async fn cancel_scheduled(tx: &Tx, viewer: &Viewer, run: Model, why: &str) -> Result<Model> {
    let at = tx.now();
    super::apply_transition(tx, viewer, run, RunTransition::Cancel, Some(why), |row| {
        row.ended_at = Set(Some(at));
        row.failure = Set(Some(why.to_owned()));
    })
    .await
}

//! The status of a campaign for a single record: it follows its runs.

use entity::campaign::CampaignTransition;
use entity::id::CampaignId;
use entity::schedule::EndReason;
use entity::{RunStatus, RunType, StateMachine, run};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use super::schedule_end;
use crate::domain::plan::campaign::{self as campaigns, transition};
use crate::kernel::db::Tx;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Applies the engine's transition of a run to its campaign, if that is for a single record.
pub(crate) async fn follow_run(tx: &Tx, viewer: &Viewer, id: CampaignId, act: CampaignTransition) -> Result<()> {
    // A campaign is locked before its runs elsewhere, so that it is locked here only if it follows.
    if campaigns::must_find(tx.db(), viewer, id).await?.record_id.is_none() {
        return Ok(());
    }
    let campaign = campaigns::must_lock(tx, viewer, id, None).await?;
    // Of several runs, the last to end decides.
    let ends = matches!(act, CampaignTransition::Complete | CampaignTransition::Fail);
    if ends && has_open_runs(tx, id).await? {
        return Ok(());
    }
    if campaign.record_id.is_some() && campaign.status.next(act).is_some() {
        transition::apply_transition(tx, viewer, campaign, act, None).await?;
        if act == CampaignTransition::Complete {
            // The campaign cannot start any more runs.
            schedule_end::end_all_of(tx, viewer, id, EndReason::CampaignCompleted, None).await?;
        }
    }
    Ok(())
}

async fn has_open_runs(tx: &Tx, id: CampaignId) -> Result<bool> {
    let open = run::Entity::find()
        .filter(run::COLUMN.campaign_id.eq(id))
        .filter(run::COLUMN.run_type.ne(RunType::TestRun))
        .filter(run::COLUMN.status.is_in([RunStatus::Queued, RunStatus::InProgress, RunStatus::Paused]));
    Ok(open.one(tx.db()).await?.is_some())
}

/// Applies what the campaign's other runs decided, once a run that was open beside them is cancelled.
pub(crate) async fn follow_others(tx: &Tx, cancelled: &run::Model) -> Result<()> {
    let (Some(id), Some(since)) = (cancelled.campaign_id, cancelled.queued_at) else { return Ok(()) };
    let engine = Viewer::engine(cancelled.org_id);
    // Other campaigns may have many runs, and many of them may be cancelled at once.
    if campaigns::must_find(tx.db(), &engine, id).await?.record_id.is_none() {
        return Ok(());
    }
    let last = run::Entity::find()
        .filter(run::COLUMN.campaign_id.eq(id))
        .filter(run::COLUMN.run_type.ne(RunType::TestRun))
        .filter(run::COLUMN.status.is_in([RunStatus::Completed, RunStatus::Failed]))
        .filter(run::COLUMN.ended_at.gte(since))
        .order_by_desc(run::COLUMN.ended_at);
    let act = match last.one(tx.db()).await?.map(|run| run.status) {
        Some(RunStatus::Failed) => CampaignTransition::Fail,
        Some(_) => CampaignTransition::Complete,
        None => return Ok(()),
    };
    follow_run(tx, &engine, id, act).await
}

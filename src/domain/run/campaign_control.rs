//! Transitions of campaigns by people that depend only on the status: reject, pause, resume,
//! complete, cancel. A campaign takes its schedules along, and its runs when it is cancelled.

use entity::CampaignStatus;
use entity::campaign::{CampaignTransition, Model};
use entity::id::CampaignId;
use entity::schedule::EndReason;

use super::{control, schedule_change, schedule_end};
use crate::domain::plan::campaign::{self as campaigns, approval, transition};
use crate::domain::plan::campaign_snapshot::CampaignParts;
use crate::kernel::db::WriteContext;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
use crate::transact;

/// Applies a transition that depends only on the status (reject, pause, resume, complete, cancel).
/// Errors: NOT_FOUND, CONFLICT, INVALID_TRANSITION.
pub async fn change_status(
    db: &WriteContext,
    viewer: &Viewer,
    id: CampaignId,
    seen: transition::SeenState<'_>,
    act: CampaignTransition,
    reason: Option<&str>,
) -> Result<Model> {
    let reason = reason.map(|reason| validate::text("reason", reason)).transpose()?;
    if act == CampaignTransition::Reject && reason.as_deref().is_none_or(validate::is_blank) {
        return Err(Refusal::input("reason", "is required to reject a campaign").into());
    }
    transact!(db, |tx| {
        let mut campaign = campaigns::must_lock(tx, viewer, id, seen.revision).await?;
        if seen.content.is_some() {
            let parts = CampaignParts::of(tx.db(), viewer, campaign).await?;
            approval::expect_content_version(&parts, seen.content)?;
            campaign = parts.campaign;
        }
        if act == CampaignTransition::Cancel && campaign.status == CampaignStatus::Cancelled {
            return Ok(campaign);
        }
        transition::check_transition(tx.db(), &campaign, act).await?;
        let campaign = transition::apply_transition(tx, viewer, campaign, act, reason.clone()).await?;
        let end_reason = match act {
            CampaignTransition::Complete => Some(EndReason::CampaignCompleted),
            CampaignTransition::Cancel => Some(EndReason::CampaignCancelled),
            _ => None,
        };
        if let Some(end_reason) = end_reason {
            schedule_end::end_all_of(tx, viewer, id, end_reason, reason.as_deref()).await?;
        }
        if act == CampaignTransition::Resume {
            schedule_change::resume_all_of(tx, viewer, id).await?;
        }
        if act == CampaignTransition::Cancel {
            control::cancel_all_of(tx, viewer, &campaign, reason.as_deref()).await?;
        }
        tx.set_result(campaign.id);
        Ok(campaign)
    })
}

//! The archive of campaigns: puts those aside that are over, or that never began. An archived campaign
//! does not change until it is taken back.

use entity::CampaignStatus;
use entity::campaign::{CampaignTransition, Model};
use entity::id::CampaignId;
use sea_orm::{IntoActiveModel, Set};
use serde_json::json;

use super::{emit, must_lock, save};
use crate::kernel::db::WriteContext;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
use crate::transact;

/// Checks that a campaign may be archived, because nothing of it can run, or taken back. Errors:
/// CONFLICT.
pub(crate) fn check_allowed(campaign: &Model, archived: bool) -> Result<()> {
    match (archived, campaign.archived_at.is_some()) {
        (true, true) => return Err(Refusal::conflict("the campaign is archived already").into()),
        (false, false) => return Err(Refusal::conflict("the campaign is not archived").into()),
        (false, true) => return Ok(()),
        (true, false) => {}
    }
    match campaign.status {
        CampaignStatus::Draft | CampaignStatus::Completed | CampaignStatus::Cancelled | CampaignStatus::Failed => {
            Ok(())
        }
        status @ (CampaignStatus::PendingApproval | CampaignStatus::Active | CampaignStatus::Paused) => {
            let message = format!("the campaign is {status}: complete or cancel it first");
            Err(Refusal::conflict(message).with("status", json!(status)).into())
        }
    }
}

/// Checks that a campaign is not archived. Only the engine reopens an archived one, which takes it
/// back. Errors: CONFLICT.
pub(crate) fn check_not_archived(campaign: &Model, act: Option<CampaignTransition>) -> Result<()> {
    if campaign.archived_at.is_none() || act == Some(CampaignTransition::Reopen) {
        return Ok(());
    }
    Err(Refusal::conflict("the campaign is archived: take it back with unarchiveCampaign").into())
}

/// Archives a campaign, or takes it back. Errors: NOT_FOUND; CONFLICT if it is already in that state,
/// or while something of it can run.
pub async fn set(
    db: &WriteContext,
    viewer: &Viewer,
    id: CampaignId,
    expected: Option<i32>,
    archived: bool,
    reason: Option<&str>,
) -> Result<Model> {
    let reason = reason.map(|reason| validate::text("reason", reason)).transpose()?;
    transact!(db, |tx| {
        let before = must_lock(tx, viewer, id, expected).await?;
        check_allowed(&before, archived)?;
        tx.set_result(id);
        let revision = before.revision;
        let mut row = before.into_active_model();
        row.archived_at = Set(archived.then(|| tx.now()));
        row.archived_by = Set(archived.then(|| viewer.actor()));
        let campaign = save(tx, row, revision).await?;
        let kind = if archived { "campaign.archived" } else { "campaign.unarchived" };
        emit(tx, viewer, kind, &campaign, json!({ "reason": reason }));
        Ok(campaign)
    })
}

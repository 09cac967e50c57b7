//! Transitions of campaigns: submit and approve, and the check for allowed actions. Those that take
//! the campaign's schedules or runs along are in `run::campaign_control`.

use async_graphql::Enum;
use entity::campaign::{CampaignTransition, Model};
use entity::id::CampaignId;
use entity::{CampaignStatus, RunStatus, StateMachine, run};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter, Set};
use serde_json::json;

use super::approval;
use super::archive;
use super::preflight::{self, LaunchAction, Preflight, PreflightContext};
use super::{editable, emit, must_find, must_lock, save};
use crate::domain::plan::campaign_snapshot::CampaignParts;
use crate::kernel::db::{Db, Tx, WriteContext};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
use crate::transact;

/// An action on a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "CampaignAction")]
pub enum Action {
    /// Update the campaign.
    Update,
    /// Submit it for approval.
    Submit,
    /// Approve it.
    Approve,
    /// Reject it; it becomes a draft again.
    Reject,
    /// Pause it.
    Pause,
    /// Resume it.
    Resume,
    /// Complete it.
    Complete,
    /// Cancel it.
    Cancel,
    /// Launch a test run.
    TestRun,
    /// Launch a run.
    Run,
    /// Schedule runs.
    Schedule,
    /// Archive it.
    Archive,
    /// Take it back from the archive.
    Unarchive,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 13] = [
        Self::Update,
        Self::Submit,
        Self::Approve,
        Self::Reject,
        Self::Pause,
        Self::Resume,
        Self::Complete,
        Self::Cancel,
        Self::TestRun,
        Self::Run,
        Self::Schedule,
        Self::Archive,
        Self::Unarchive,
    ];
}

/// Checks that an action is allowed now; the error gives the reason against it. The mutations use
/// the same checks.
pub async fn check_allowed(db: &Db, viewer: &Viewer, campaign: &Model, action: Action) -> Result<()> {
    let parts = async || CampaignParts::of(db.read(), viewer, campaign.clone()).await;
    let launches = async |launch| {
        let context = PreflightContext { any_status: false, input: None };
        check_ready(&preflight::preflight(db, viewer, &parts().await?, launch, context).await?)
    };
    let passes = async |act| {
        next_status(campaign, act)?;
        check_ready(&preflight_of_pass(db, viewer, &parts().await?, act).await?)
    };
    match action {
        Action::Update => editable(campaign),
        Action::Submit => passes(CampaignTransition::Submit).await,
        Action::Approve => passes(CampaignTransition::Approve).await,
        Action::Reject => check_transition(db.read(), campaign, CampaignTransition::Reject).await,
        Action::Pause => check_transition(db.read(), campaign, CampaignTransition::Pause).await,
        Action::Resume => check_transition(db.read(), campaign, CampaignTransition::Resume).await,
        Action::Complete => check_transition(db.read(), campaign, CampaignTransition::Complete).await,
        // Cancelling is idempotent.
        Action::Cancel if campaign.status == CampaignStatus::Cancelled => Ok(()),
        Action::Cancel => check_transition(db.read(), campaign, CampaignTransition::Cancel).await,
        Action::TestRun => launches(LaunchAction::TestRun).await,
        Action::Run => launches(LaunchAction::Run).await,
        Action::Schedule => launches(LaunchAction::Schedule).await,
        Action::Archive => archive::check_allowed(campaign, true),
        Action::Unarchive => archive::check_allowed(campaign, false),
    }
}

fn check_ready(report: &Preflight) -> Result<()> {
    if report.ready { Ok(()) } else { Err(Refusal::conflict(report.failures()).into()) }
}

/// Checks a submission or an approval: its preflight, after the approval's need of changes.
async fn preflight_of_pass(
    db: &Db,
    viewer: &Viewer,
    parts: &CampaignParts,
    act: CampaignTransition,
) -> Result<Preflight> {
    if act == CampaignTransition::Approve {
        approval::require_changes(db.read(), viewer, parts).await?;
    }
    let context = PreflightContext { any_status: true, input: None };
    preflight::preflight(db, viewer, parts, LaunchAction::Run, context).await
}

/// Checks a transition that needs no preflight: by the campaign's status and, to complete it, its
/// runs.
pub(crate) async fn check_transition(
    db: &impl ConnectionTrait,
    campaign: &Model,
    act: CampaignTransition,
) -> Result<()> {
    next_status(campaign, act)?;
    match act {
        CampaignTransition::Complete => no_open_runs(db, campaign).await,
        _ => Ok(()),
    }
}

/// Returns the status after a transition. Errors: INVALID_TRANSITION; CONFLICT for an archived one.
pub(crate) fn next_status(campaign: &Model, act: CampaignTransition) -> Result<CampaignStatus> {
    archive::check_not_archived(campaign, Some(act))?;
    Ok(campaign.status.next(act).ok_or_else(|| Refusal::transition("campaign", campaign.status, act))?)
}

/// Rejects if a run of the campaign has been launched and has not ended; runs that wait for their time
/// end with their schedules. Errors: CONFLICT.
async fn no_open_runs(db: &impl ConnectionTrait, campaign: &Model) -> Result<()> {
    let open = run::Entity::find()
        .filter(run::COLUMN.campaign_id.eq(campaign.id))
        .filter(run::COLUMN.status.is_in([RunStatus::Queued, RunStatus::InProgress, RunStatus::Paused]))
        .count(db)
        .await?;
    if open > 0 {
        return Err(
            Refusal::conflict(format!("{open} runs of the campaign are open; wait for them or cancel them")).into()
        );
    }
    Ok(())
}

/// The state of a campaign that the caller has read; a different state is a conflict.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeenState<'a> {
    /// The revision.
    pub revision: Option<i32>,
    /// The version of the content that an approval covers: `approval::content_version`.
    pub content: Option<&'a str>,
}

/// Submits or approves a campaign. Returns the preflight for RUN without the activity check, and
/// changes nothing if it fails.
pub async fn pass_with_preflight(
    db: &WriteContext,
    viewer: &Viewer,
    id: CampaignId,
    seen: SeenState<'_>,
    act: CampaignTransition,
    reason: Option<&str>,
) -> Result<(Model, Preflight)> {
    let reason = reason.map(|reason| validate::text("reason", reason)).transpose()?;
    loop {
        let campaign = must_find(db.read(), viewer, id).await?;
        validate::expect("campaign", campaign.revision, seen.revision)?;
        next_status(&campaign, act)?;
        let parts = CampaignParts::of(db.read(), viewer, campaign).await?;
        approval::expect_content_version(&parts, seen.content)?;
        let report = preflight_of_pass(db, viewer, &parts, act).await?;
        if !report.ready {
            if let Some(key) = db.idempotency() {
                key.check_unused(db.read()).await?;
            }
            return Ok((parts.campaign, report));
        }
        let revisions = parts.revisions();
        let moved = transact!(db, |tx| {
            let campaign = must_lock(tx, viewer, id, seen.revision).await?;
            let parts = CampaignParts::of(tx.db(), viewer, campaign).await?;
            if parts.revisions() != revisions {
                tx.discard();
                return Ok(None);
            }
            if act == CampaignTransition::Approve {
                approval::require_changes(tx.db(), viewer, &parts).await?;
                approval::store_approved_content(tx, viewer, &parts).await?;
            }
            Ok(Some(apply_transition(tx, viewer, parts.campaign, act, reason.clone()).await?))
        })?;
        if let Some(campaign) = moved {
            return Ok((campaign, report));
        }
    }
}

/// Returns the campaign and its current preflight, for a repeated request to
/// [`pass_with_preflight`].
pub async fn replay_pass(db: &Db, viewer: &Viewer, id: CampaignId) -> Result<(Model, Preflight)> {
    let parts = CampaignParts::of(db.read(), viewer, must_find(db.read(), viewer, id).await?).await?;
    let context = PreflightContext { any_status: true, input: None };
    let report = preflight::preflight(db, viewer, &parts, LaunchAction::Run, context).await?;
    Ok((parts.campaign, report))
}

/// Applies a transition to a locked campaign, with its event.
pub(crate) async fn apply_transition(
    tx: &Tx,
    viewer: &Viewer,
    before: Model,
    act: CampaignTransition,
    reason: Option<String>,
) -> Result<Model> {
    let to = next_status(&before, act)?;
    let (from, revision, version) = (before.status, before.revision, before.version);
    let (was_archived, began) = (before.archived_at.is_some(), before.started_at.is_some());
    let mut row = before.into_active_model();
    row.status = Set(to);
    if to == CampaignStatus::Active && !began {
        row.started_at = Set(Some(tx.now()));
    }
    row.completed_at = Set(to.is_over().then(|| tx.now()));
    match act {
        CampaignTransition::Approve => {
            row.approved_by = Set(Some(viewer.actor()));
            row.approved_at = Set(Some(tx.now()));
            row.approved_version = Set(Some(version));
        }
        CampaignTransition::Reject => row.rejected_because = Set(reason.clone()),
        CampaignTransition::Submit => row.rejected_because = Set(None),
        CampaignTransition::Reopen => {
            row.archived_at = Set(None);
            row.archived_by = Set(None);
        }
        CampaignTransition::Pause
        | CampaignTransition::Resume
        | CampaignTransition::Complete
        | CampaignTransition::Fail
        | CampaignTransition::Cancel => {}
    }
    let campaign = save(tx, row, revision).await?;
    if was_archived && campaign.archived_at.is_none() {
        emit(tx, viewer, "campaign.unarchived", &campaign, json!({ "reason": null }));
    }
    let kind = match act {
        CampaignTransition::Submit => "campaign.submitted",
        CampaignTransition::Approve => "campaign.approved",
        CampaignTransition::Reject => "campaign.rejected",
        CampaignTransition::Pause => "campaign.paused",
        CampaignTransition::Resume => "campaign.resumed",
        CampaignTransition::Complete => "campaign.completed",
        CampaignTransition::Fail => "campaign.failed",
        CampaignTransition::Cancel => "campaign.cancelled",
        CampaignTransition::Reopen => "campaign.reopened",
    };
    let mut payload = json!({ "from": from, "to": to, "reason": reason });
    match act {
        CampaignTransition::Approve => {
            payload["approvedBy"] = json!(campaign.approved_by);
            payload["version"] = json!(campaign.approved_version);
        }
        CampaignTransition::Complete | CampaignTransition::Fail | CampaignTransition::Cancel => {
            payload["outcome"] = json!(to)
        }
        CampaignTransition::Submit
        | CampaignTransition::Reject
        | CampaignTransition::Pause
        | CampaignTransition::Resume
        | CampaignTransition::Reopen => {}
    }
    emit(tx, viewer, kind, &campaign, payload);
    Ok(campaign)
}

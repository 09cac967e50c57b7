//! Refreshes a run: recomputes derived state and starts whatever can start.

use entity::RunStatus;
use entity::id::RunId;
use entity::run::Model;

use super::permissions::{Action, CampaignFacts, RunContext, check_allowed};
use super::{advance, must_find, must_lock, snapshot, task};
use crate::domain::plan::campaign::preflight::{self, LaunchAction, PreflightContext};
use crate::domain::plan::campaign_snapshot::CampaignParts;
use crate::kernel::db::WriteContext;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;
use crate::transact;

/// Refreshes a run. If it is scheduled: runs the preflight again and stores it. If it is running or
/// paused: recounts the tasks' counters, and derives the status of its tasks, its phases and the
/// run anew. Correct state does not change. Errors: NOT_FOUND, CONFLICT for an ended run.
pub async fn refresh(db: &WriteContext, viewer: &Viewer, id: RunId, expected: Option<i32>) -> Result<Model> {
    let run = must_find(db.read(), viewer, id).await?;
    let campaign = super::campaign_of(db.read(), viewer, &run).await?;
    let facts = campaign.as_ref().map(CampaignFacts::of);
    let report = match campaign {
        Some(campaign) if run.status == RunStatus::Scheduled => {
            let parts = CampaignParts::of(db.read(), viewer, campaign).await?;
            let terms = PreflightContext { input: None, any_status: false };
            Some(preflight::preflight(db, viewer, &parts, LaunchAction::Run, terms).await?)
        }
        _ => None,
    };
    let report = report.map(serde_json::to_value).transpose()?;
    let run = transact!(db, |tx| {
        let run = must_lock(tx, viewer, id, expected).await?;
        check_allowed(&run, &RunContext::of(facts, &[], None), Action::Refresh)?;
        tx.set_result(id);
        match run.status {
            RunStatus::Scheduled => {
                if let Some(report) = &report {
                    snapshot::emit(tx, &run, report.clone(), None).await?;
                }
                Ok(run)
            }
            _ => {
                task::recount(tx, id).await?;
                advance::advance(tx, &Viewer::engine(viewer.org_id), run).await
            }
        }
    })?;
    db.wake();
    Ok(run)
}

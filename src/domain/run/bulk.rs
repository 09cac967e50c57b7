//! Bulk actions: one action on all runs that match a filter. The matches are counted first; then
//! each run is handled under its own lock, so that a rejected one does not hold up the others.

use std::collections::{HashMap, HashSet};

use entity::RunStatus;
use entity::id::{CampaignId, RunId};
use entity::run::{self, RunTransition};
use sea_orm::{EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};

use super::list;
use super::list::RunFilter;
use super::permissions::{Action, CampaignFacts, RunContext, check_allowed};
use crate::kernel::db::{Db, WriteContext};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;

/// Result of a bulk action.
#[derive(Clone, Debug, Default)]
pub struct BulkResult {
    /// Number of runs that match the filter.
    pub matched: u64,
    /// Runs that the action was applied to.
    pub done: Vec<RunId>,
    /// Dry run: number of runs that the action would be applied to.
    pub would: u64,
    /// Runs for which the action was rejected, with the reason.
    pub refused: Vec<(RunId, Refusal)>,
}

/// Cancels or retries the runs that match a filter. A dry run performs the same checks and changes
/// nothing: `would` then counts the runs that would change. Errors: BAD_USER_INPUT for a filter
/// without a condition; LIMIT_EXCEEDED for more than a thousand runs, also in a dry run.
pub async fn act(
    db: &WriteContext,
    viewer: &Viewer,
    filter: &RunFilter,
    action: Action,
    reason: Option<&str>,
    dry: bool,
) -> Result<BulkResult> {
    filter.require_condition()?;
    let all = run::Entity::find().filter(list::condition(db.dialect(), viewer, filter)?);
    let matched = all.clone().count(db.read()).await?;
    if matched > limits::BULK {
        return Err(
            Refusal::limit(format!("{matched} runs: at most {} at once; narrow the filter", limits::BULK)).into()
        );
    }
    let reason = reason.map(|reason| crate::kernel::validate::text("reason", reason)).transpose()?;
    let runs = all.order_by_asc(run::Column::Id).limit(limits::BULK).all(db.read()).await?;
    let campaigns = campaigns(db, viewer, &runs).await?;
    let mut unreached = match action {
        Action::Retry => super::unreached::judge(db.read(), viewer, &runs).await?,
        _ => HashMap::new(),
    };
    let mut result = BulkResult { matched, ..BulkResult::default() };
    for run in runs {
        let id = run.id;
        let campaign = run.campaign_id.and_then(|id| campaigns.get(&id).copied());
        let verdict = check_changes(&run, &RunContext::of(campaign, &[], unreached.remove(&id)), action);
        let outcome = match verdict {
            Err(err) => Err(err),
            Ok(()) if dry => {
                result.would += 1;
                continue;
            }
            Ok(()) if action == Action::Cancel => super::control::cancel(db, viewer, id, None, reason.as_deref()).await,
            Ok(()) => super::retry::retry(db, viewer, id, None, reason.as_deref()).await,
        };
        match outcome {
            Ok(run) => result.done.push(run.id),
            Err(Error::Refused(refusal)) => result.refused.push((id, refusal)),
            Err(err) => return Err(err),
        }
    }
    Ok(result)
}

/// Checks that the action would change the run. Unlike a single cancel, a bulk cancel rejects runs
/// that are cancelled already.
fn check_changes(run: &run::Model, context: &RunContext, action: Action) -> Result<()> {
    if action == Action::Cancel && run.status == RunStatus::Cancelled {
        return Err(Refusal::transition("run", run.status, RunTransition::Cancel).into());
    }
    check_allowed(run, context, action)
}

async fn campaigns(db: &Db, viewer: &Viewer, runs: &[run::Model]) -> Result<HashMap<CampaignId, CampaignFacts>> {
    let ids: HashSet<CampaignId> = runs.iter().filter_map(|run| run.campaign_id).collect();
    let ids: Vec<CampaignId> = ids.into_iter().collect();
    let rows = crate::domain::plan::campaign::find_all(db.read(), viewer, &ids).await?;
    Ok(rows.into_iter().map(|row| (row.id, CampaignFacts::of(&row))).collect())
}

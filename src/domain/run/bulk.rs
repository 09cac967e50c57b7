//! The same act on many runs: those that a filter lets through are counted first, then each is done by itself, under its own
//! lock; one that is refused does not hold up the others.

use std::collections::{HashMap, HashSet};

use entity::id::{CampaignId, RunId};
use entity::run::{self, RunTransition};
use entity::{CampaignStatus, RunStatus};
use sea_orm::{EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};

use super::list::RunFilter;
use super::{Action, list};
use crate::kernel::db::Db;
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct BulkResult {
    /// How many the filter lets through.
    pub matched: u64,
    /// Those that it was done to.
    pub done: Vec<RunId>,
    /// How many a dry run found that it would be done to.
    pub would: u64,
    /// Those that it was refused for, with why.
    pub refused: Vec<(RunId, Refusal)>,
}

/// Calls off or retries what a filter lets through. Dry, it judges each as the act would and does nothing: `would` is then how
/// many would be done. Errors: BAD_USER_INPUT for a filter without a condition; LIMIT_EXCEEDED for more than a thousand, dry or not.
pub async fn act(
    db: &Db,
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
    let again = match action {
        Action::Retry => super::unreached::judge(db.read(), viewer, &runs).await?,
        _ => HashMap::new(),
    };
    let mut done = BulkResult { matched, ..BulkResult::default() };
    for run in runs {
        let id = run.id;
        let mut judged = judge(&run, run.campaign_id.and_then(|id| campaigns.get(&id).copied()), action);
        if judged.is_ok() && action == Action::Retry {
            judged = match again.get(&id) {
                Some(judged) => judged.retry.clone().map(|_| ()).map_err(Error::from),
                None => Ok(()),
            };
        }
        let outcome = match judged {
            Err(err) => Err(err),
            Ok(()) if dry => {
                done.would += 1;
                continue;
            }
            Ok(()) if action == Action::Cancel => super::cancel(db, viewer, id, None, reason.as_deref()).await,
            Ok(()) => super::retry::retry(db, viewer, id, None, reason.as_deref()).await,
        };
        match outcome {
            Ok(run) => done.done.push(run.id),
            Err(Error::Refused(refusal)) => done.refused.push((id, refusal)),
            Err(err) => return Err(err),
        }
    }
    Ok(done)
}

/// Whether the act would change the run. Of many, one that is called off already is none that is called off.
fn judge(run: &run::Model, campaign: Option<CampaignStatus>, action: Action) -> Result<()> {
    if action == Action::Cancel && run.status == RunStatus::Cancelled {
        return Err(Refusal::transition("run", run.status, RunTransition::Cancel).into());
    }
    super::check_allowed(run, campaign, action)
}

async fn campaigns(db: &Db, viewer: &Viewer, runs: &[run::Model]) -> Result<HashMap<CampaignId, CampaignStatus>> {
    let ids: HashSet<CampaignId> = runs.iter().filter_map(|run| run.campaign_id).collect();
    let ids: Vec<CampaignId> = ids.into_iter().collect();
    let rows = crate::domain::plan::campaign::find_all(db.read(), viewer, &ids).await?;
    Ok(rows.into_iter().map(|row| (row.id, row.status)).collect())
}

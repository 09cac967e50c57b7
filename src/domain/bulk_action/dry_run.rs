//! Dry runs of bulk actions: judge the first targets by the checks of the single mutations, and change
//! nothing. What the targets depend on is read for all of them together.

use std::collections::{HashMap, HashSet};

use entity::communication::Resolution;
use entity::id::*;
use entity::{BulkNoun, BulkVerb, run, step};
use sea_orm::ConnectionTrait;
use sea_orm::sea_query::Order;
use uuid::Uuid;

use super::start::{BulkRequest, Targets, check, count};
use crate::domain::message::communication;
use crate::domain::plan::campaign::{self, archive};
use crate::domain::run::permissions::{self, CampaignFacts, RunContext};
use crate::domain::run::step::{self as steps, StepContext, StepRows, assign};
use crate::domain::run::{self as runs, phase, resolve, snapshot, task, unreached};
use crate::kernel::db::Db;
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;

/// The result of a dry run.
#[derive(Clone, Debug, Default)]
pub struct DryRun {
    /// Number of targets.
    pub matched: u64,
    /// Number of targets that were checked: the first ones, in the order of their ids.
    pub checked: u64,
    /// Number of checked targets that the action would be applied to.
    pub would_do: u64,
    /// Number of checked targets for which it would be refused.
    pub refused: u64,
    /// The first of those, with the refusals.
    pub sample: Vec<(Uuid, Refusal)>,
}

/// Judges the targets of a request. Errors: as `start`.
pub async fn dry_run(db: &Db, viewer: &Viewer, request: &BulkRequest) -> Result<DryRun> {
    let targets = check(db, viewer, request).await?;
    let mut result = DryRun { matched: count(db, &targets).await?, ..DryRun::default() };
    let ids = first(db, &targets).await?;
    let verdicts = match request.verb.noun() {
        BulkNoun::Runs => of_runs(db, viewer, request.verb, &ids).await?,
        BulkNoun::Steps => of_steps(db, viewer, request.verb, &ids).await?,
        BulkNoun::Communications => of_communications(db, viewer, request.resolution, &ids).await?,
        BulkNoun::Campaigns => of_campaigns(db, viewer, &ids).await?,
    };
    for (id, verdict) in ids.into_iter().zip(verdicts) {
        result.checked += 1;
        match verdict {
            Ok(()) => result.would_do += 1,
            Err(Error::Refused(refusal)) => {
                result.refused += 1;
                if result.sample.len() < limits::BULK_SAMPLE {
                    result.sample.push((id, refusal));
                }
            }
            Err(err) => return Err(err),
        }
    }
    Ok(result)
}

/// The first targets.
async fn first(db: &Db, targets: &Targets) -> Result<Vec<Uuid>> {
    match targets {
        Targets::Ids(ids) => Ok(ids.iter().copied().take(limits::BULK_CHECKED as usize).collect()),
        Targets::Query(query) => {
            // The column has the same name for every noun.
            let mut query = query.as_ref().clone();
            let query = query.order_by(run::Column::Id, Order::Asc).limit(limits::BULK_CHECKED).take();
            let rows = db.read().query_all(&query).await?;
            rows.iter().map(|row| Ok(row.try_get_by_index(0)?)).collect()
        }
    }
}

async fn of_runs(db: &Db, viewer: &Viewer, verb: BulkVerb, ids: &[Uuid]) -> Result<Vec<Result<()>>> {
    let action = match verb {
        BulkVerb::RetryRuns => permissions::Action::Retry,
        BulkVerb::PauseRuns => permissions::Action::Pause,
        BulkVerb::ResumeRuns => permissions::Action::Resume,
        _ => permissions::Action::Cancel,
    };
    let run_ids: Vec<RunId> = ids.iter().copied().map(RunId).collect();
    let found = runs::find_all(db.read(), viewer, &run_ids).await?;
    let campaigns: HashMap<CampaignId, CampaignFacts> =
        campaigns(db, viewer, &found).await?.into_iter().map(|row| (row.id, CampaignFacts::of(&row))).collect();
    let mut unreached = match verb {
        BulkVerb::RetryRuns => unreached::judge(db.read(), viewer, &found).await?,
        _ => HashMap::new(),
    };
    let mut verdicts: HashMap<RunId, Result<()>> = HashMap::new();
    for run in found {
        let campaign = run.campaign_id.and_then(|id| campaigns.get(&id).copied());
        let context = RunContext::of(campaign, &[], unreached.remove(&run.id));
        verdicts.insert(run.id, permissions::check_allowed(&run, &context, action));
    }
    let missing = |id: RunId| Err(Refusal::not_found("run", id).into());
    Ok(run_ids.into_iter().map(|id| verdicts.remove(&id).unwrap_or_else(|| missing(id))).collect())
}

async fn campaigns(db: &Db, viewer: &Viewer, runs: &[run::Model]) -> Result<Vec<entity::campaign::Model>> {
    let ids: HashSet<CampaignId> = runs.iter().filter_map(|run| run.campaign_id).collect();
    campaign::find_all(db.read(), viewer, &ids.into_iter().collect::<Vec<_>>()).await
}

async fn of_steps(db: &Db, viewer: &Viewer, verb: BulkVerb, ids: &[Uuid]) -> Result<Vec<Result<()>>> {
    let action = match verb {
        BulkVerb::ApproveSteps => Some(steps::Action::Approve),
        BulkVerb::RejectSteps => Some(steps::Action::Reject),
        BulkVerb::SkipSteps => Some(steps::Action::Skip),
        _ => None,
    };
    let step_ids: Vec<StepId> = ids.iter().copied().map(StepId).collect();
    let found = steps::find_all(db.read(), viewer, &step_ids).await?;
    let mut verdicts: HashMap<StepId, Result<()>> = HashMap::new();
    match action {
        None => verdicts.extend(found.iter().map(|step| (step.id, assign::check_assignable(step)))),
        Some(action) => {
            let parts = RunParts::read(db, viewer, &found).await?;
            let mut drafts = HashMap::new();
            for step in &found {
                let context = Box::pin(parts.context(db, step, &mut drafts)).await?;
                verdicts.insert(step.id, steps::check_allowed(viewer, step, &context, action));
            }
        }
    }
    let missing = |id: StepId| Err(Refusal::not_found("step", id).into());
    Ok(step_ids.into_iter().map(|id| verdicts.remove(&id).unwrap_or_else(|| missing(id))).collect())
}

async fn of_communications(
    db: &Db,
    viewer: &Viewer,
    resolution: Option<Resolution>,
    ids: &[Uuid],
) -> Result<Vec<Result<()>>> {
    let resolution = resolution.ok_or_else(|| Error::internal("a dry run that resolves without a resolution"))?;
    let ids: Vec<CommunicationId> = ids.iter().copied().map(CommunicationId).collect();
    let found = communication::find_all(db.read(), viewer, &ids).await?;
    let run_ids: HashSet<RunId> = found.iter().map(|message| message.run_id).collect();
    let runs = runs::find_all(db.read(), viewer, &run_ids.into_iter().collect::<Vec<_>>()).await?;
    let runs: HashMap<RunId, run::Model> = runs.into_iter().map(|run| (run.id, run)).collect();
    let mut verdicts = HashMap::new();
    for message in &found {
        let run = runs.get(&message.run_id).ok_or_else(|| Error::internal("a message without its run"))?;
        verdicts.insert(message.id, resolve::check_resolvable(run, message, resolution));
    }
    let missing = |id: CommunicationId| Err(Refusal::not_found("communication", id).into());
    Ok(ids.into_iter().map(|id| verdicts.remove(&id).unwrap_or_else(|| missing(id))).collect())
}

async fn of_campaigns(db: &Db, viewer: &Viewer, ids: &[Uuid]) -> Result<Vec<Result<()>>> {
    let ids: Vec<CampaignId> = ids.iter().copied().map(CampaignId).collect();
    let found = campaign::find_all(db.read(), viewer, &ids).await?;
    let mut verdicts: HashMap<_, _> = found.iter().map(|row| (row.id, archive::check_allowed(row, true))).collect();
    let missing = |id: CampaignId| Err(Refusal::not_found("campaign", id).into());
    Ok(ids.into_iter().map(|id| verdicts.remove(&id).unwrap_or_else(|| missing(id))).collect())
}

/// The runs of some steps, with their parts.
struct RunParts(HashMap<RunId, StepRows>);

impl RunParts {
    async fn read(db: &Db, viewer: &Viewer, of: &[step::Model]) -> Result<Self> {
        let ids: HashSet<RunId> = of.iter().map(|step| step.run_id).collect();
        let ids: Vec<RunId> = ids.into_iter().collect();
        let found = runs::find_all(db.read(), viewer, &ids).await?;
        let campaigns: HashMap<_, _> =
            campaigns(db, viewer, &found).await?.into_iter().map(|row| (row.id, row.status)).collect();
        let phases = phase::of_runs(db.read(), viewer, &ids).await?;
        let tasks = task::of_runs(db.read(), viewer, &ids).await?;
        let mut snapshots: HashMap<_, _> = snapshot::of_begun(db.read(), viewer, &ids).await?.into_iter().collect();
        let mut all: HashMap<RunId, StepRows> = HashMap::new();
        for run in found {
            let (id, campaign) = (run.id, run.campaign_id.and_then(|id| campaigns.get(&id).copied()));
            if let Some(snapshot) = snapshots.remove(&id) {
                all.insert(id, StepRows { run, phases: Vec::new(), tasks: Vec::new(), snapshot, campaign });
            }
        }
        for phase in phases {
            if let Some(rows) = all.get_mut(&phase.run_id) {
                rows.phases.push(phase);
            }
        }
        for task in tasks {
            if let Some(rows) = all.get_mut(&task.run_id) {
                rows.tasks.push(task);
            }
        }
        Ok(Self(all))
    }

    /// The context of a step's actions. `drafts` keeps the numbers of drafts by run.
    async fn context(&self, db: &Db, step: &step::Model, drafts: &mut HashMap<RunId, u64>) -> Result<StepContext> {
        let rows = self.0.get(&step.run_id).cloned().ok_or_else(|| Error::internal("a step without its run"))?;
        let count = async {
            if let Some(known) = drafts.get(&step.run_id) {
                return Ok(*known);
            }
            let found = steps::permissions::count_drafts(db.read(), step.run_id).await?;
            drafts.insert(step.run_id, found);
            Ok::<u64, Error>(found)
        };
        StepContext::of(db.read(), step, rows, count, db.now()).await
    }
}

//! Access to a person's step that is in progress, for actions within it. Locks the run until the
//! transaction ends.

use entity::definition::StepDef;
use entity::id::*;
use entity::step::Executor;
use entity::{CampaignStatus, RunType, StepStatus, campaign, run, step};
use sea_orm::EntityTrait;
use serde_json::json;

use crate::domain::plan::run_template::guided::GuidedConfig;
use crate::domain::run::step as steps;
use crate::kernel::db::Tx;
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::viewer::Viewer;

/// Step in progress, with its context.
#[derive(Debug)]
pub(crate) struct ActiveStep {
    /// Run, locked.
    pub(crate) run: run::Model,
    /// Step.
    pub(crate) step: step::Model,
    /// Configuration of what the step shows and offers.
    pub(crate) guide: GuidedConfig,
}

/// Loads a step for an action and locks its run. Errors: NOT_FOUND; CONFLICT if it is not in
/// progress, is not done by a person, is assigned to somebody else, or its campaign is paused.
pub(crate) async fn enter(tx: &Tx, viewer: &Viewer, id: StepId) -> Result<ActiveStep> {
    let run = steps::transition::lock_run(tx, viewer, id).await?;
    let step = steps::must_find(tx.db(), viewer, id).await?;
    let campaign = match run.campaign_id {
        Some(id) => campaign::Entity::find_by_id(id).one(tx.db()).await?,
        None => None,
    };
    let is_paused = campaign.is_some_and(|campaign| campaign.status == CampaignStatus::Paused);
    check(viewer, &run, &step, is_paused)?;
    let guide = guide(tx.db(), &run, &step).await?;
    Ok(ActiveStep { run, step, guide })
}

/// Checks that actions within the step are allowed now, given whether its campaign is paused.
pub(super) fn check(viewer: &Viewer, run: &run::Model, step: &step::Model, is_paused: bool) -> Result<()> {
    open(viewer, run, step)?;
    if is_paused {
        return Err(Refusal::conflict("its campaign is paused: resume it to act within its steps").into());
    }
    Ok(())
}

/// Checks that the step is open for actions within it, apart from its campaign.
pub(crate) fn open(viewer: &Viewer, run: &run::Model, step: &step::Model) -> Result<()> {
    super::at_work(run)?;
    if step.assigned_to != Executor::Human {
        return Err(Refusal::conflict("this step is done by a worker, not by a person").into());
    }
    if step.status != StepStatus::InProgress {
        let hint = match step.status {
            StepStatus::Pending => "start it first".to_owned(),
            status => format!("it is {status}: reset or restart it, and start it"),
        };
        let message = format!("actions need a step that is IN_PROGRESS; {hint}");
        return Err(Refusal::conflict(message).with("status", json!(step.status)).into());
    }
    steps::permissions::check_may_work(viewer, step)
}

/// Configuration of what a step shows and offers.
pub(crate) async fn guide(
    db: &impl sea_orm::ConnectionTrait,
    run: &run::Model,
    step: &step::Model,
) -> Result<GuidedConfig> {
    let snapshot = crate::domain::run::snapshot::of(db, run).await?;
    let Some((_, declared)) = snapshot.step(&step.key) else { return Ok(GuidedConfig::default()) };
    of_declared(run, declared)
}

/// Configuration of a step of a run's structure.
pub(crate) fn of_declared(run: &run::Model, declared: &StepDef) -> Result<GuidedConfig> {
    match run.run_type {
        // Validated when the run began.
        RunType::Guided => GuidedConfig::of(declared).map_err(Error::internal),
        RunType::Run | RunType::TestRun | RunType::Schedule => Ok(GuidedConfig::of_campaign(declared)),
    }
}

//! A step of guided work that is in progress, entered to do something from within it: its run is locked until the
//! transaction ends.

use entity::id::*;
use entity::{StepStatus, run, step};
use serde_json::json;

use crate::domain::plan::run_template::guided::GuidedConfig;
use crate::domain::run::step as steps;
use crate::kernel::db::Tx;
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::viewer::Viewer;

/// What there is within.
#[derive(Debug)]
pub(crate) struct ActiveStep {
    /// The run, locked.
    pub(crate) run: run::Model,
    /// The step.
    pub(crate) step: step::Model,
    /// What it shows and offers.
    pub(crate) guide: GuidedConfig,
}

/// Enters a step. Errors: NOT_FOUND; CONFLICT where it is not in progress, or somebody else's.
pub(crate) async fn enter(tx: &Tx, viewer: &Viewer, id: StepId) -> Result<ActiveStep> {
    let run = steps::transition::lock_run(tx, viewer, id).await?;
    let step = steps::must_find(tx.db(), viewer, id).await?;
    open(viewer, &run, &step)?;
    let guide = guide(tx.db(), &run, &step).await?;
    Ok(ActiveStep { run, step, guide })
}

/// Whether something can be done from within it now.
pub(crate) fn open(viewer: &Viewer, run: &run::Model, step: &step::Model) -> Result<()> {
    super::at_work(run)?;
    if step.status != StepStatus::InProgress {
        let told = match step.status {
            StepStatus::Pending => "start it first".to_owned(),
            status => format!("it is {status}: reset or restart it, and start it"),
        };
        let told = format!("something is done from within a step that is IN_PROGRESS; {told}");
        return Err(Refusal::conflict(told).with("status", json!(step.status)).into());
    }
    steps::permissions::doing(viewer, step)
}

/// What a step shows and offers.
pub(crate) async fn guide(
    db: &impl sea_orm::ConnectionTrait,
    run: &run::Model,
    step: &step::Model,
) -> Result<GuidedConfig> {
    let snapshot = crate::domain::run::snapshot::of(db, run).await?;
    let Some((_, declared)) = snapshot.step(&step.key) else { return Ok(GuidedConfig::default()) };
    // What was judged when the run began can be read.
    GuidedConfig::of(declared).map_err(Error::ours)
}

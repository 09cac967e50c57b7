//! Closes a cancelled run: once its sweep has finished and no worker holds a step of it, its tasks
//! are closed, and active and pending phases are skipped, with the reason.

use entity::phase::PhaseTransition;
use entity::sweep::SweepKind;
use entity::{run, task};
use sea_orm::{ActiveModelTrait, IntoActiveModel, Set};

use super::plan::cancelled::{Next, next};
use crate::domain::run::{phase, sweep_queue};
use crate::kernel::db::Tx;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Event reason of a phase skipped because its run was cancelled.
const RUN_CANCELLED: &str = "RUN_CANCELLED";

/// Closes what can be closed now.
pub(super) async fn close(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    mut phases: Vec<entity::phase::Model>,
    mut tasks: Vec<task::Model>,
) -> Result<()> {
    if sweep_queue::is_open(tx, run.id, SweepKind::Cancel).await? {
        return Ok(());
    }
    while let Some(next) = next(&phases, &tasks) {
        match next {
            Next::StopFanOut(i) => tasks[i] = stop_fan_out(tx, &tasks[i]).await?,
            Next::SetStatus(i, status) => tasks[i] = super::set_status(tx, run, tasks[i].clone(), status).await?,
            Next::SkipPhase(i) => {
                let (phase, why) = (phases[i].clone(), Some(RUN_CANCELLED));
                phases[i] = phase::apply_transition(tx, viewer, run, phase, PhaseTransition::Cancel, why).await?;
            }
        }
    }
    Ok(())
}

/// Marks that the task creates no further steps.
async fn stop_fan_out(tx: &Tx, task: &task::Model) -> Result<task::Model> {
    let mut row = task.clone().into_active_model();
    row.fan_out_done = Set(true);
    row.retrying = Set(false);
    Ok(row.update(tx.db()).await?)
}

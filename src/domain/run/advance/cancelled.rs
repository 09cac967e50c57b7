//! Closes a cancelled run: once its sweep has finished and no worker holds a step of it, its tasks
//! are closed, and active and pending phases are skipped, with the reason.

use entity::phase::PhaseTransition;
use entity::sweep::SweepKind;
use entity::task::{self, TaskFacts};
use entity::{PhaseStatus, run};
use sea_orm::{ActiveModelTrait, IntoActiveModel, Set};

use crate::domain::run::{phase, sweep_queue};
use crate::kernel::db::Tx;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Event reason of a phase skipped because its run was cancelled.
const RUN_CANCELLED: &str = "RUN_CANCELLED";

/// Closes what can be closed now. Steps with a lease may still settle; their phase closes with the
/// last of them.
pub(super) async fn close(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    phases: Vec<entity::phase::Model>,
    tasks: Vec<task::Model>,
) -> Result<()> {
    if sweep_queue::is_open(tx, run.id, SweepKind::Cancel).await? {
        return Ok(());
    }
    for phase in phases {
        if !matches!(phase.status, PhaseStatus::Active | PhaseStatus::Pending) {
            continue;
        }
        let mut has_open = false;
        for task in tasks.iter().filter(|task| task.phase_id == phase.id) {
            let open = task.counts().open() > 0;
            has_open |= open;
            let task = if open || (task.fan_out_done && !task.retrying) {
                task.clone()
            } else {
                stop_fan_out(tx, task).await?
            };
            let facts = TaskFacts {
                counts: task.counts(),
                fan_out_done: task.fan_out_done,
                fail_when: task.fail_when.0,
                depends_met: true,
                phase_active: phase.status == PhaseStatus::Active,
                retrying: task.retrying,
            };
            super::set_status(tx, run, task, facts.status()).await?;
        }
        if !has_open {
            phase::apply_transition(tx, viewer, run, phase, PhaseTransition::Cancel, Some(RUN_CANCELLED)).await?;
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

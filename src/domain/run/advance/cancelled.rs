//! A cancelled run ends as a whole: once its sweep has closed and nobody holds a step of it, its tasks are closed, and the
//! phases that were at work or still to come are skipped, with the reason.

use entity::phase::{self, PhaseTransition};
use entity::sweep::SweepKind;
use entity::task::{self, TaskFacts};
use entity::{PhaseStatus, run};
use sea_orm::{ActiveModelTrait, IntoActiveModel, Set};

use crate::domain::run::sweep;
use crate::kernel::db::Tx;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// The reason of a phase that is skipped with its run.
const RUN_CANCELLED: &str = "RUN_CANCELLED";

/// Closes what can be closed now. Steps that a worker holds may still settle; their phase closes with the last of them.
pub(super) async fn close(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    phases: Vec<phase::Model>,
    tasks: Vec<task::Model>,
) -> Result<()> {
    if sweep::is_open(tx, run.id, SweepKind::Cancel).await? {
        return Ok(());
    }
    for phase in phases {
        if !matches!(phase.status, PhaseStatus::Active | PhaseStatus::Pending) {
            continue;
        }
        let mut held = false;
        for task in tasks.iter().filter(|task| task.phase_id == phase.id) {
            let open = task.counts().open() > 0;
            held |= open;
            let task =
                if open || (task.fan_out_done && !task.retrying) { task.clone() } else { all_made(tx, task).await? };
            let situation = TaskFacts {
                counts: task.counts(),
                fan_out_done: task.fan_out_done,
                fail_when: task.fail_when.0,
                depends_met: true,
                phase_active: phase.status == PhaseStatus::Active,
                retrying: task.retrying,
            };
            super::set_status(tx, run, task, situation.status()).await?;
        }
        if !held {
            super::change_phase(tx, viewer, run, phase, PhaseTransition::Cancel, Some(RUN_CANCELLED)).await?;
        }
    }
    Ok(())
}

/// No further step of the task is made.
async fn all_made(tx: &Tx, task: &task::Model) -> Result<task::Model> {
    let mut row = task.clone().into_active_model();
    row.fan_out_done = Set(true);
    row.retrying = Set(false);
    Ok(row.update(tx.db()).await?)
}

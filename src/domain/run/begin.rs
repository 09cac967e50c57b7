//! Begins a run: creates its phases, tasks and single steps, and starts adding its recipients.

use entity::definition::TaskDef;
use entity::id::*;
use entity::phase;
use entity::run::{self, RunTransition};
use entity::sweep::SweepKind;
use entity::task;
use entity::{PhaseStatus, RunType, TaskStatus};
use sea_orm::{ActiveModelTrait, Set};

use super::advance::advance;
use super::executor_ids::ExecutorIds;
use super::new_steps::{StepBatch, insert};
use super::snapshot::RunSnapshot;
use crate::kernel::db::Tx;
use crate::kernel::error::{Error, Result};
use crate::kernel::viewer::Viewer;

/// Creates phases, tasks and single steps of a run that begins, and advances it.
pub(crate) async fn begin(tx: &Tx, viewer: &Viewer, run: run::Model) -> Result<run::Model> {
    let at = tx.now();
    let mut run =
        super::apply_transition(tx, viewer, run, RunTransition::Start, None, |row| row.started_at = Set(Some(at)))
            .await?;
    let snapshot = super::snapshot::of(tx.db(), &run).await?;
    let mut recipient = None;
    if let Some(record_id) = snapshot.one_record() {
        // A run about one record has its recipient from the start, and its single steps are about
        // that record.
        (run, recipient) = super::sweep::audience::take_one(tx, viewer, run, &snapshot, record_id).await?;
    }
    let guided = snapshot.guided.as_ref().filter(|_| run.run_type == RunType::Guided);
    if let Some(guided) = guided {
        run = super::guided::begin(tx, viewer, run, guided).await?;
    }
    let executors = ExecutorIds::of_run(tx, viewer, snapshot.executors.as_ref(), &snapshot.definition).await?;
    let batch = StepBatch { run: &run, executors, assignee: guided.and_then(|guided| guided.assignee) };
    let mut sequence = 0;
    for (number, declared) in snapshot.definition.phases.iter().enumerate() {
        let phase = phase(tx, &run, &snapshot, number, declared).await?;
        for declared in &declared.tasks {
            sequence += 1;
            let task = task(tx, &run, phase.id, declared, sequence).await?;
            if !declared.fan_out {
                let each = declared.steps.iter().enumerate();
                let steps = each.map(|(i, step)| batch.blank(tx, &task, step, i, recipient)).collect();
                insert(tx, &run, &viewer.actor(), steps).await?;
            }
        }
    }
    if recipient.is_none() && guided.is_none() {
        super::sweep_queue::begin(tx, viewer, &run, None, SweepKind::Audience, None).await?;
    }
    super::repeat::carry_over(tx, viewer, &run, &snapshot).await?;
    advance(tx, viewer, run).await
}

async fn phase(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    number: usize,
    declared: &entity::definition::PhaseDef,
) -> Result<phase::Model> {
    // Launching a test run counts as the person's action.
    let advanced_by = (snapshot.test.is_some() && !declared.autonomous).then(|| run.created_by.clone());
    let phase = phase::ActiveModel {
        id: Set(PhaseId::new()),
        org_id: Set(run.org_id),
        run_id: Set(run.id),
        key: Set(declared.key.clone()),
        name: Set(declared.name.clone()),
        sequence: Set(i32::try_from(number).map_err(Error::internal)?),
        status: Set(PhaseStatus::Pending),
        autonomous: Set(declared.autonomous),
        interrupt_events: Set(phase::Names(declared.interrupt_events.clone())),
        advanced_by: Set(advanced_by),
        open_until: Set(None),
        started_at: Set(None),
        completed_at: Set(None),
        revision: Set(1),
    };
    Ok(phase.insert(tx.db()).await?)
}

async fn task(tx: &Tx, run: &run::Model, phase_id: PhaseId, declared: &TaskDef, sequence: i32) -> Result<task::Model> {
    let task = task::ActiveModel {
        id: Set(TaskId::new()),
        org_id: Set(run.org_id),
        run_id: Set(run.id),
        phase_id: Set(phase_id),
        key: Set(declared.key.clone()),
        name: Set(declared.name.clone()),
        sequence: Set(sequence),
        status: Set(TaskStatus::Pending),
        fan_out: Set(declared.fan_out),
        fan_out_begun: Set(false),
        fan_out_done: Set(!declared.fan_out),
        retrying: Set(false),
        fail_when: Set(task::FailRule(declared.fail_rule())),
        depends_on: Set(phase::Names(declared.depends_on.clone())),
        pending: Set(0),
        queued: Set(0),
        in_progress: Set(0),
        awaiting_approval: Set(0),
        completed: Set(0),
        skipped: Set(0),
        failed: Set(0),
        due_at: Set(None),
        left_out_reason: Set(None),
        started_at: Set(None),
        completed_at: Set(None),
    };
    Ok(task.insert(tx.db()).await?)
}

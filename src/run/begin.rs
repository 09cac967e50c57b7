//! A run begins: its phases, tasks and single steps are made, and its audience is taken in.

use entity::id::*;
use entity::phase;
use entity::run::{self, RunAct};
use entity::step::{self, StepStatus};
use entity::sweep::SweepKind;
use entity::task;
use entity::{Actor, PhaseStatus, TaskStatus};
use sea_orm::{ActiveModelTrait, EntityTrait, IntoActiveModel, Set};

use super::advance::advance;
use crate::db::Tx;
use crate::error::{Error, Result};
use crate::viewer::Viewer;

/// Makes phases, tasks and single steps of a run that begins, and moves it as far as it goes.
pub(crate) async fn begin(tx: &Tx, viewer: &Viewer, run: run::Model) -> Result<run::Model> {
    let at = tx.now();
    let run = super::step_to(tx, viewer, run, RunAct::Start, None, |row| row.started_at = Set(Some(at))).await?;
    let brief = super::brief::of(tx.db(), &run).await?;
    let test = brief.test.is_some();
    let mut sequence = 0;
    for (number, declared) in brief.definition.phases.iter().enumerate() {
        // A test run's launcher has acted by launching it.
        let person_act = (test && !declared.autonomous).then(|| run.created_by.clone());
        let phase = phase::ActiveModel {
            id: Set(PhaseId::new()),
            org_id: Set(run.org_id),
            run_id: Set(run.id),
            key: Set(declared.key.clone()),
            name: Set(declared.name.clone()),
            sequence: Set(i32::try_from(number).map_err(Error::ours)?),
            status: Set(PhaseStatus::Pending),
            autonomous: Set(declared.autonomous),
            interrupt_events: Set(phase::Names(declared.interrupt_events.clone())),
            person_act: Set(person_act),
            started_at: Set(None),
            completed_at: Set(None),
            revision: Set(1),
        };
        let phase = phase.insert(tx.db()).await?;
        for declared in &declared.tasks {
            sequence += 1;
            let task = task::ActiveModel {
                id: Set(TaskId::new()),
                org_id: Set(run.org_id),
                run_id: Set(run.id),
                phase_id: Set(phase.id),
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
                started_at: Set(None),
                completed_at: Set(None),
            };
            let task = task.insert(tx.db()).await?;
            if !declared.fan_out {
                let steps: Vec<step::Model> =
                    declared.steps.iter().enumerate().map(|(i, step)| blank(tx, &run, &task, step, i, None)).collect();
                insert(tx, &run, &viewer.actor(), steps).await?;
            }
        }
    }
    super::sweep::begin(tx, viewer, &run, None, SweepKind::Audience, None).await?;
    advance(tx, viewer, run).await
}

/// A step as it is made, waiting for its trigger.
pub(crate) fn blank(
    tx: &Tx,
    run: &run::Model,
    task: &task::Model,
    declared: &entity::definition::StepDef,
    sequence: usize,
    place: Option<(RunRecordId, Option<RecordId>)>,
) -> step::Model {
    step::Model {
        id: StepId::new(),
        org_id: run.org_id,
        run_id: run.id,
        phase_id: task.phase_id,
        task_id: task.id,
        run_record_id: place.map(|place| place.0),
        record_id: place.and_then(|place| place.1),
        key: declared.key.clone(),
        name: declared.name.clone(),
        kind: declared.kind.clone(),
        sequence: i32::try_from(sequence).unwrap_or(i32::MAX),
        status: StepStatus::Pending,
        trigger: declared.trigger.to_string(),
        content_source: declared.content_source,
        assigned_to: declared.assigned_to,
        result: None,
        error: None,
        available_at: tx.now(),
        attempt_count: 0,
        failure_count: 0,
        max_attempts: declared.max_attempts,
        lapse_count: 0,
        lease_owner: None,
        lease_expires_at: None,
        started_at: None,
        completed_at: None,
        completed_by: None,
        created_at: tx.now(),
        revision: 1,
    }
}

/// Inserts steps, with their counters and, for those that are queued at once, their events.
pub(crate) async fn insert(tx: &Tx, run: &run::Model, actor: &Actor, steps: Vec<step::Model>) -> Result<()> {
    if steps.is_empty() {
        return Ok(());
    }
    let rows: Vec<step::ActiveModel> = steps.iter().map(|step| step.clone().into_active_model().reset_all()).collect();
    step::Entity::insert_many(rows).exec_without_returning(tx.db()).await?;
    let changes: Vec<_> = steps
        .into_iter()
        .map(|step| super::step::Change { step, from: None, kind: "step.queued", reason: None })
        .collect();
    super::step::note(tx, run, actor, &changes).await?;
    Ok(())
}

//! Begins a run: creates its phases, tasks and single steps, and starts adding its recipients.

use entity::definition::{StepDef, TaskDef};
use entity::id::*;
use entity::phase;
use entity::run::{self, RunTransition};
use entity::step::{self, Executor, StepStatus};
use entity::sweep::SweepKind;
use entity::task;
use entity::{Actor, PhaseStatus, RunType, TaskStatus};
use sea_orm::{ActiveModelTrait, IntoActiveModel, Set};

use super::advance::advance;
use super::snapshot::RunSnapshot;
use crate::domain::plan::run_template::{Executors, kind};
use crate::kernel::db::Tx;
use crate::kernel::db::batch::insert_all;
use crate::kernel::error::{Error, Result};
use crate::kernel::viewer::Viewer;

/// Context for creating steps.
#[derive(Debug)]
pub(crate) struct StepBatch<'a> {
    /// Run.
    pub(crate) run: &'a run::Model,
    /// Members and agents named in the structure.
    pub(crate) executors: Executors,
    /// Assignee of steps that name nobody.
    pub(crate) assignee: Option<MemberId>,
}

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
    let executors = Executors::of(tx.db(), viewer, &snapshot.definition).await?;
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
    let person_act = (snapshot.test.is_some() && !declared.autonomous).then(|| run.created_by.clone());
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
        person_act: Set(person_act),
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
        left_out: Set(None),
        started_at: Set(None),
        completed_at: Set(None),
    };
    Ok(task.insert(tx.db()).await?)
}

impl StepBatch<'_> {
    /// Builds a new step, waiting for its trigger.
    pub(crate) fn blank(
        &self,
        tx: &Tx,
        task: &task::Model,
        declared: &StepDef,
        sequence: usize,
        recipient: Option<(RunRecordId, Option<RecordId>)>,
    ) -> step::Model {
        let by_name = match declared.assigned_to {
            Executor::Human => declared
                .assignee
                .as_ref()
                .and_then(|email| self.executors.members.get(&email.to_lowercase()).map(|id| id.0)),
            Executor::Agent | Executor::Workflow => {
                declared.agent.as_ref().and_then(|name| self.executors.agents.get(name)).map(|id| id.0)
            }
        };
        step::Model {
            id: StepId::new(),
            org_id: self.run.org_id,
            run_id: self.run.id,
            phase_id: task.phase_id,
            task_id: task.id,
            run_record_id: recipient.map(|recipient| recipient.0),
            record_id: recipient.and_then(|recipient| recipient.1),
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
            reason: None,
            available_at: tx.now(),
            attempt_count: 0,
            failure_count: 0,
            max_attempts: declared.max_attempts,
            lapse_count: 0,
            lease_owner: None,
            lease_expires_at: None,
            lease_token: None,
            started_at: None,
            started_by: None,
            completed_at: None,
            completed_by: None,
            assignee_id: by_name.or(self.assignee.map(|id| id.0)),
            assignee_role: declared.role,
            outside: kind::is_external(declared),
            due_at: None,
            overdue_at: None,
            approval: None,
            created_at: tx.now(),
            revision: 1,
        }
    }
}

/// Inserts steps, with their counters and the events of those that do not wait. Returns them as
/// changes.
pub(crate) async fn insert(
    tx: &Tx,
    run: &run::Model,
    actor: &Actor,
    steps: Vec<step::Model>,
) -> Result<Vec<super::step::Change>> {
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    insert_all(tx, steps.iter().map(|step| step.clone().into_active_model().reset_all())).await?;
    let changes: Vec<_> = steps
        .into_iter()
        .map(|step| {
            let kind = if step.status == StepStatus::Skipped { "step.skipped" } else { "step.queued" };
            super::step::Change { reason: step.error.clone(), step, from: None, kind }
        })
        .collect();
    super::step::record_changes(tx, run, actor, &changes).await?;
    Ok(changes)
}

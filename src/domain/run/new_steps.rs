//! Builds and inserts new steps.

use entity::definition::StepDef;
use entity::id::*;
use entity::step::{self, StepStatus};
use entity::{Actor, Executor, run, task};
use sea_orm::{ActiveModelTrait, IntoActiveModel};

use super::executor_ids::ExecutorIds;
use super::step::{Change, list, record_changes};
use crate::domain::plan::run_template::kind;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::insert_all;
use crate::kernel::error::Result;

/// Context for creating steps.
#[derive(Debug)]
pub(crate) struct StepBatch<'a> {
    /// Run.
    pub(crate) run: &'a run::Model,
    /// Members and agents named in the structure.
    pub(crate) executors: ExecutorIds,
    /// Assignee of steps that name nobody.
    pub(crate) assignee: Option<MemberId>,
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
            search: list::folded(&declared.name),
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
            // The run's member does the steps of people.
            assignee_id: self
                .executors
                .of_step(declared)
                .or_else(|| self.assignee.filter(|_| declared.assigned_to == Executor::Human).map(|id| id.0)),
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
pub(crate) async fn insert(tx: &Tx, run: &run::Model, actor: &Actor, steps: Vec<step::Model>) -> Result<Vec<Change>> {
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    insert_all(tx, steps.iter().map(|step| step.clone().into_active_model().reset_all())).await?;
    let changes: Vec<_> = steps
        .into_iter()
        .map(|step| {
            let kind = if step.status == StepStatus::Skipped { "step.skipped" } else { "step.queued" };
            Change { reason: step.error.clone(), step, from: None, kind }
        })
        .collect();
    record_changes(tx, run, actor, &changes).await?;
    Ok(changes)
}

//! Applies the transitions of single steps, with their events and counters.

use entity::id::StepId;
use entity::step::{ActiveModel, Approval, Executor, Model, StepReason, StepTransition};
use entity::{RunType, StateMachine, run, task};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect, Set};
use serde_json::Value;

pub(crate) mod set;

use super::{Change, record_changes};
use crate::domain::run::executor_ids;
use crate::kernel::db::Tx;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;

/// Input that accompanies an action.
#[derive(Clone, Debug, Default)]
pub struct ActionInput {
    /// Result of the work.
    pub result: Option<Value>,
    /// Reason as text.
    pub reason: Option<String>,
    /// Reason as a code, if the action alone does not determine it.
    pub code: Option<StepReason>,
}

/// Adds the viewer's approval.
pub(super) fn with_approval(so_far: &Option<Approval>, viewer: &Viewer) -> Option<Approval> {
    let mut approval = so_far.clone().unwrap_or_default();
    approval.approved_by.push(viewer.actor());
    Some(approval)
}

/// Finds and locks the run of a step.
pub(in crate::domain::run) async fn lock_run(tx: &Tx, viewer: &Viewer, id: StepId) -> Result<run::Model> {
    let mut of = sea_orm::sea_query::Query::select();
    of.column(entity::step::Column::RunId).from(entity::step::Entity).and_where(entity::step::COLUMN.id.eq(id));
    let run = run::Entity::find()
        .filter(run::COLUMN.org_id.eq(viewer.org_id))
        .filter(run::COLUMN.id.in_subquery(of))
        .lock_exclusive()
        .one(tx.db())
        .await?;
    run.ok_or_else(|| Refusal::not_found("step", id).into())
}

/// Applies a transition to a single step, with its event and counters.
pub(crate) async fn apply(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    step: Model,
    transition: StepTransition,
    input: &ActionInput,
) -> Result<Model> {
    Ok(apply_transition(tx, viewer, run, step, transition, input).await?.0)
}

/// Same as [`apply`]; also returns the tasks whose counters changed.
pub(super) async fn apply_transition(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    step: Model,
    transition: StepTransition,
    input: &ActionInput,
) -> Result<(Model, Vec<task::Model>)> {
    let (from, revision) = (step.status, step.revision);
    let to = from.next(transition).ok_or_else(|| Refusal::transition("step", from, transition))?;
    let (attempts, failures) = (step.attempt_count, step.failure_count);
    let (approval, reason) = (step.approval.clone(), step.reason);
    let (former, guided) = (step.result.clone(), run.run_type == RunType::Guided);
    let by_engine = step.assigned_to == Executor::Workflow && !step.outside;
    let mut row: ActiveModel = step.into_active_model();
    row.status = Set(to);
    row.lease_owner = Set(None);
    row.lease_token = Set(None);
    row.lease_expires_at = Set(None);
    let mut close = || {
        row.completed_at = Set(Some(tx.now()));
        row.completed_by = Set(Some(viewer.actor()));
    };
    match transition {
        StepTransition::Start => {
            row.attempt_count = Set(attempts + 1);
            if reason != Some(StepReason::Rejected) {
                row.error = Set(None);
                row.reason = Set(None);
            }
            row.started_at = Set(Some(tx.now()));
            row.started_by = Set(viewer.actor().is_person().then(|| viewer.actor()));
        }
        StepTransition::Complete => {
            close();
            row.error = Set(None);
            row.reason = Set(None);
            row.result = Set(merge_results(former.clone().filter(|_| guided), input.result.clone()));
        }
        StepTransition::Approve => {
            close();
            row.error = Set(None);
            row.reason = Set(None);
            row.approval = Set(with_approval(&approval, viewer));
        }
        StepTransition::Skip => {
            close();
            row.error = Set(input.reason.clone());
            row.reason = Set(input.code.or(Some(StepReason::Person)));
            // A result that nobody approved does not count: a skipped step with a result is one that
            // was carried over. Guided work keeps its counts.
            if !guided && !by_engine {
                row.result = Set(None);
            }
        }
        StepTransition::Fail { retry } | StepTransition::Reject { retry } | StepTransition::Lapse { retry } => {
            // A person's resolution of a message is not a failure of the work, and does not count
            // as an attempt.
            row.failure_count = Set(failures + i32::from(input.code != Some(StepReason::MessageResolved)));
            row.error = Set(input.reason.clone());
            let code = match transition {
                StepTransition::Reject { .. } => StepReason::Rejected,
                StepTransition::Lapse { .. } => StepReason::LeaseLost,
                _ => StepReason::Person,
            };
            row.reason = Set(input.code.or(Some(code)));
            if matches!(transition, StepTransition::Reject { .. }) {
                row.approval = Set(None);
            }
            if !retry {
                close();
            }
        }
        StepTransition::Reset | StepTransition::Restart | StepTransition::WaitAgain => {
            row.completed_at = Set(None);
            row.completed_by = Set(None);
            row.error = Set(None);
            row.reason = Set(None);
            row.approval = Set(None);
            row.result = Set(None);
        }
        StepTransition::Submit => {
            if input.result.is_some() {
                row.result = Set(input.result.clone());
            }
            row.error = Set(None);
            row.reason = Set(None);
            let submitted = Approval { submitted_by: Some(viewer.actor()), ..Approval::default() };
            row.approval = Set(viewer.actor().is_person().then_some(submitted));
        }
        StepTransition::Fire | StepTransition::Retry => {}
    }
    row.revision = Set(revision + 1);
    let step = row.update(tx.db()).await?;
    if matches!(transition, StepTransition::Reset | StepTransition::Restart | StepTransition::WaitAgain) {
        executor_ids::release_deleted(tx, std::slice::from_ref(&step)).await?;
    }
    // The event keeps the former result for the step's history.
    let kind = event_kind(transition);
    let mut change = Change { step: step.clone(), from: Some(from), kind, reason: input.reason.clone() };
    if kind == "step.reset" {
        change.step.result = former;
    }
    let counted = Box::pin(record_changes(tx, run, &viewer.actor(), &[change])).await?;
    Ok((step, counted))
}

/// Kind of the event of a transition.
fn event_kind(transition: StepTransition) -> &'static str {
    match transition {
        StepTransition::Fire => "step.queued",
        StepTransition::Start => "step.started",
        StepTransition::Submit => "step.awaiting_approval",
        StepTransition::Complete => "step.completed",
        StepTransition::Approve => "step.approved",
        StepTransition::Reject { .. } => "step.rejected",
        StepTransition::Skip => "step.skipped",
        StepTransition::Fail { retry: false } | StepTransition::Lapse { retry: false } => "step.failed",
        StepTransition::Fail { retry: true } | StepTransition::Lapse { retry: true } | StepTransition::Retry => {
            "step.retried"
        }
        StepTransition::Reset | StepTransition::Restart | StepTransition::WaitAgain => "step.reset",
    }
}

/// Merges counts collected during the work into the given result; counts take precedence.
fn merge_results(counted: Option<Value>, given: Option<Value>) -> Option<Value> {
    match (counted, given) {
        (Some(Value::Object(counted)), Some(Value::Object(mut given))) => {
            given.extend(counted);
            Some(Value::Object(given))
        }
        (counted, given) => given.or(counted),
    }
}

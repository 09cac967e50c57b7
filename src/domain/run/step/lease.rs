//! Claims steps and settles their results, for the engine's own workers and for external ones. Each
//! claim and each settle is one guarded statement for many steps.

use std::sync::LazyLock;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use entity::definition::StepDef;
use entity::id::*;
use entity::step::{Approval, COLUMN, Column, Entity, Model, StepReason, StepStatus, StepTransition};
use entity::{Actor, RunStatus, StateMachine, run};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveEnum, ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, Statement};
use serde_json::{Value, json};

use super::{Change, SetTransition};
use crate::domain::plan::run_template;
use crate::domain::run::retry;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::dialect::{self, Type};
use crate::kernel::error::Result;
use crate::kernel::storable;

/// Worker that claims steps.
#[derive(Clone, Debug)]
pub(crate) struct LeaseHolder {
    /// Owner name written into leases.
    pub(crate) owner: String,
    /// Token that it presents when it settles; none for the engine's own workers, which are known
    /// by their owner name.
    pub(crate) token: Option<String>,
    /// Expiry of the lease.
    pub(crate) until: DateTime<Utc>,
    /// Actor recorded for its changes.
    pub(crate) actor: Actor,
}

/// Extends the leases of those steps that this owner still holds.
pub(crate) async fn renew(
    tx: &Tx,
    steps: impl Iterator<Item = StepId>,
    owner: &str,
    until: DateTime<Utc>,
) -> Result<()> {
    Entity::update_many()
        .col_expr(Column::LeaseExpiresAt, Expr::value(until))
        .filter(any_of(tx.dialect(), COLUMN.id, steps))
        .filter(COLUMN.lease_owner.eq(owner))
        .filter(COLUMN.status.eq(StepStatus::InProgress))
        .exec(tx.db())
        .await?;
    Ok(())
}

/// The condition that a step's lease has expired by this time, so that others may claim the step.
pub(crate) fn lapsed(at: DateTime<Utc>) -> Condition {
    Condition::all()
        .add(COLUMN.status.eq(StepStatus::InProgress))
        .add(COLUMN.lease_owner.is_not_null())
        .add(COLUMN.lease_expires_at.lt(at))
}

/// Claims those candidates that are still claimable: one guarded update writes lease and attempt.
/// The update repeats the checks of the search, because another worker may have claimed and
/// returned the step meanwhile.
pub(crate) async fn claim(
    tx: &Tx,
    candidates: &[(StepId, RunId)],
    holder: &LeaseHolder,
) -> Result<Vec<(Model, Arc<run::Model>)>> {
    let ids: Vec<RunId> = candidates.iter().map(|(_, run)| *run).collect();
    let running = crate::domain::run::list_running(tx, &ids).await?;
    let is_running = |(_, of): &&(StepId, RunId)| running.iter().any(|run| run.id == *of);
    let starts = SetTransition::new(StepStatus::Queued, &[StepTransition::Start]);
    let steps = starts
        .update()?
        .col_expr(Column::LeaseOwner, Expr::value(holder.owner.clone()))
        .col_expr(Column::LeaseToken, Expr::value(holder.token.clone()))
        .col_expr(Column::LeaseExpiresAt, Expr::value(holder.until))
        .col_expr(Column::AttemptCount, Expr::col(Column::AttemptCount).add(1))
        .col_expr(Column::StartedAt, Expr::value(tx.now()))
        // A previous attempt's error is obsolete; a reviewer's rejection tells this attempt what to
        // do.
        .col_expr(Column::Error, Expr::case(rejected(), Expr::col(Column::Error)).into())
        .col_expr(Column::Reason, Expr::case(rejected(), Expr::col(Column::Reason)).into())
        // Selects by id alone: the planner has no statistics on a run that has just begun, and
        // would scan all its steps.
        .filter(any_of(tx.dialect(), COLUMN.id, candidates.iter().filter(is_running).map(|(step, _)| *step)))
        .filter(still_claimable(tx, holder))
        .exec_with_returning(tx.db())
        .await?;
    let mut claimed = Vec::with_capacity(steps.len());
    for run in running {
        let mine: Vec<&Model> = steps.iter().filter(|step| step.run_id == run.id).collect();
        let changes = starts.changes(mine.iter().map(|step| (*step).clone()), |_| None)?;
        super::record_changes(tx, &run, &holder.actor, &changes).await?;
        let run = Arc::new(run);
        claimed.extend(mine.into_iter().map(|step| (step.clone(), run.clone())));
    }
    Ok(claimed)
}

/// SQL condition: the step is due, and assigned to nobody else. A CASE, so that no index serves it.
fn still_claimable(tx: &Tx, holder: &LeaseHolder) -> Expr {
    let mut fits = Condition::all().add(COLUMN.available_at.lte(tx.now()));
    if let Some(agent) = holder.actor.agent_id {
        fits = fits.add(Condition::any().add(COLUMN.assignee_id.is_null()).add(COLUMN.assignee_id.eq(agent.0)));
    }
    let fits: Expr = Expr::case(fits, 1).finally(0).into();
    fits.eq(1)
}

/// SQL condition: a person has rejected the step's result.
fn rejected() -> Expr {
    Expr::col(Column::Reason).eq(StepReason::Rejected.to_value())
}

/// Author of a settle.
#[derive(Clone, Debug)]
pub(crate) struct Settler {
    /// Actor recorded for the changes.
    pub(crate) actor: Actor,
    /// Member whose credential an agent's worker uses; none for built-in agents and the engine.
    pub(crate) member_id: Option<MemberId>,
}

/// Outcome of the work on a claimed step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LeaseEnd<'a> {
    /// Completed, with its result.
    Done(&'a Value),
    /// Postponed: back into the queue until this time, without counting as a failure.
    Later(DateTime<Utc>, &'a str),
    /// Skipped.
    Skipped(StepReason, &'a str),
    /// The outcome is unknown; a person has to resolve it.
    Unknown(&'a str),
    /// Failed: error, whether a retry may succeed, and the minimum pause before it.
    Failed(&'a str, bool, Option<std::time::Duration>),
}

/// The result of a step that another run has done.
static DONE: LazyLock<Value> = LazyLock::new(|| json!({}));

/// Error text of a step whose result can't be stored.
pub(crate) fn unstorable_error(unstorable: &storable::UnstorableAt) -> String {
    let at = if unstorable.path.is_empty() { String::new() } else { format!(" at {}", unstorable.path) };
    format!("UNSTORABLE: the result can't be stored{at}: {}", unstorable.unfit)
}

/// Builds the row that a settle writes on a step, following the state machine. Completed work that
/// requires approval is submitted. In a cancelled run, completed work stays completed; everything
/// else is skipped, also work that nobody can approve any more: a repeat would take it for done.
pub(crate) fn row(
    tx: &Tx,
    run: &run::Model,
    step: &Model,
    end: LeaseEnd<'_>,
    declared: Option<&StepDef>,
    settler: &Settler,
) -> Value {
    let cancelled = run.status == RunStatus::Cancelled;
    let submits = declared.and_then(run_template::approval_of).is_some();
    let mut failures = step.failure_count;
    let mut available = tx.now();
    let unstorable = match end {
        LeaseEnd::Done(result) => storable::json(result).err().map(|unstorable| unstorable_error(&unstorable)),
        _ => None,
    };
    let reason = match (end, &unstorable) {
        (LeaseEnd::Done(_), None) => None,
        (LeaseEnd::Done(_), Some(_)) | (LeaseEnd::Failed(..), _) => Some(StepReason::WorkFailed),
        (LeaseEnd::Later(..), _) => Some(StepReason::PutOff),
        (LeaseEnd::Skipped(reason, _), _) => Some(reason),
        (LeaseEnd::Unknown(_), _) => Some(StepReason::OutcomeUnknown),
    };
    let (transition, result, error) = match (end, &unstorable) {
        // Fails permanently: a retry would repeat the work's external effects.
        (LeaseEnd::Done(_), Some(why)) => {
            failures += 1;
            (StepTransition::Fail { retry: false }, None, Some(why.as_str()))
        }
        (end, _) => match end {
            LeaseEnd::Done(result) if submits => (StepTransition::Submit, Some(result), None),
            LeaseEnd::Done(result) => (StepTransition::Complete, Some(result), None),
            LeaseEnd::Later(at, why) => {
                available = at;
                (StepTransition::Lapse { retry: true }, None, Some(why))
            }
            // The result marks it as done: what follows it goes on.
            LeaseEnd::Skipped(StepReason::CarriedOver, why) => (StepTransition::Skip, Some(&*DONE), Some(why)),
            LeaseEnd::Skipped(_, why) => (StepTransition::Skip, None, Some(why)),
            LeaseEnd::Unknown(why) => (StepTransition::Submit, None, Some(why)),
            LeaseEnd::Failed(why, retryable, after) => {
                failures += 1;
                let pause = after.and_then(|after| chrono::Duration::from_std(after).ok());
                available = storable::after(
                    tx.now(),
                    pause.unwrap_or_default().max(retry::pause(failures, declared.and_then(|of| of.retry))),
                );
                (StepTransition::Fail { retry: retryable && failures < step.max_attempts }, None, Some(why))
            }
        },
    };
    let transition =
        if cancelled && transition != StepTransition::Complete { StepTransition::Skip } else { transition };
    // A postponed or submitted step has no failure of its own.
    let has_failed = error.is_some() && !matches!(end, LeaseEnd::Later(..));
    let (result, error) = match transition {
        StepTransition::Skip if cancelled => (None, if has_failed { error } else { Some("RUN_CANCELLED") }),
        _ => (result, error),
    };
    let reason = if transition == StepTransition::Skip && cancelled { Some(StepReason::RunCancelled) } else { reason };
    // A step that its worker returns unchanged keeps the rejection that the next attempt has to heed.
    let keeps = matches!(end, LeaseEnd::Later(..)) && step.outside && step.reason == Some(StepReason::Rejected);
    let (result, error, reason) = match keeps && !cancelled {
        true => (step.result.as_ref(), step.error.as_deref(), step.reason),
        false => (result, error, reason),
    };
    let submitted = (submits && transition == StepTransition::Submit && reason.is_none()).then(|| Approval {
        submitted_by: Some(settler.actor.clone()),
        member_id: settler.member_id,
        approved_by: Vec::new(),
    });
    let to = StepStatus::InProgress.next(transition).unwrap_or(StepStatus::Failed);
    let closed = matches!(to, StepStatus::Completed | StepStatus::Skipped | StepStatus::Failed);
    json!({
        "of_id": step.id.0.simple().to_string(),
        "of_attempt": step.attempt_count,
        "to_status": to,
        "to_result": result,
        "to_error": error.map(storable::reason),
        "to_reason": reason,
        "to_available": dialect::time(storable::after(available, chrono::Duration::zero())),
        "to_failures": failures,
        "to_completed": closed.then(|| dialect::time(tx.now())),
        "to_by": &settler.actor,
        "to_approval": submitted,
    })
}

/// SQL condition: the step was interrupted during its lease and its work ended without a result; it
/// is not retried, and what ended it is not a failure of its own.
const INTERRUPTED: &str = "step.reason = 'INTERRUPTED' AND (v.to_status = 'QUEUED' OR v.to_reason = 'NO_MESSAGE')";

/// Settles the steps whose lease the holder still has. A late settle matches no row.
pub(crate) async fn update(tx: &Tx, owner: &str, rows: Vec<Value>) -> Result<Vec<Model>> {
    let columns = [
        ("of_id", Type::Uuid),
        ("of_attempt", Type::Int),
        ("to_status", Type::Text),
        ("to_result", Type::Json),
        ("to_error", Type::Text),
        ("to_reason", Type::Text),
        ("to_available", Type::Time),
        ("to_failures", Type::Int),
        ("to_completed", Type::Time),
        ("to_by", Type::Json),
        ("to_approval", Type::Json),
    ];
    let sql = format!(
        "UPDATE step SET status = CASE WHEN {INTERRUPTED} THEN 'SKIPPED' ELSE v.to_status END, result = v.to_result, \
         error = CASE WHEN {INTERRUPTED} THEN step.error ELSE v.to_error END, \
         reason = CASE WHEN {INTERRUPTED} THEN step.reason ELSE v.to_reason END, available_at = v.to_available, \
         failure_count = CASE WHEN {INTERRUPTED} THEN step.failure_count ELSE v.to_failures END, \
         completed_at = CASE WHEN {INTERRUPTED} THEN $3 ELSE v.to_completed END, \
         completed_by = CASE WHEN {INTERRUPTED} OR v.to_completed IS NOT NULL THEN v.to_by END, \
         approval = v.to_approval, lease_owner = NULL, \
         lease_token = NULL, lease_expires_at = NULL, \
         lapse_count = CASE WHEN v.to_status = 'QUEUED' THEN 0 ELSE lapse_count END, revision = revision + 1 FROM {} WHERE step.id = v.of_id \
         AND step.attempt_count = v.of_attempt AND step.status = 'IN_PROGRESS' AND step.lease_owner = $2 RETURNING *",
        tx.dialect().rows("$1", "v", &columns)
    );
    let values = [json!(rows).into(), owner.into(), tx.now().into()];
    let statement = Statement::from_sql_and_values(tx.db().get_database_backend(), sql, values);
    Ok(Entity::find().from_raw_sql(statement).all(tx.db()).await?)
}

/// Returns the status change of a settled step.
pub(crate) fn settled(step: &Model) -> Change {
    let kind = match step.status {
        StepStatus::Completed => "step.completed",
        StepStatus::AwaitingApproval => "step.awaiting_approval",
        StepStatus::Skipped => "step.skipped",
        StepStatus::Failed => "step.failed",
        StepStatus::Queued => "step.retried",
        StepStatus::Pending | StepStatus::InProgress => "step.queued",
    };
    Change { step: step.clone(), from: Some(StepStatus::InProgress), kind, reason: step.error.clone() }
}

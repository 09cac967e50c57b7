//! Retries failed work: a run's failed phase, its failed recipients, or one step. Completed work
//! stays as it is.

use entity::CommunicationStatus;
use entity::definition::RetryDef;
use entity::id::*;
use entity::phase::PhaseTransition;
use entity::run::{Model, RunTransition};
use entity::step::{self, StepStatus, StepTransition};
use entity::sweep as sweeps;
use entity::{PhaseStatus, RunStatus, RunType, run_record};
use rand::RngExt;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Set};

use super::permissions::{Action, CampaignFacts, RunContext, check_allowed};
use super::step::{ActionInput, SetTransition};
use super::{
    advance, apply_transition, dependents, executor_ids, interrupt, must_lock, phase, recipients, step_messages,
    sweep_queue, task, unreached,
};
use crate::domain::plan::run_template;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};
use crate::transact;

/// Backoff after a number of failures: doubled each time, capped, with jitter in both directions.
pub(crate) fn pause(failures: i32, retry_def: Option<RetryDef>) -> chrono::Duration {
    let retry_def = retry_def.unwrap_or_default();
    let (base, limit) =
        (retry_def.pause.map_or(limits::BACKOFF_BASE, |span| span.0), retry_def.most.map(|span| span.0));
    let limit = limit.unwrap_or(limits::BACKOFF_MAX.max(base));
    let doubled = base.saturating_mul(1 << (failures - 1).clamp(0, 20)).min(limit);
    let by = f64::from(retry_def.jitter.unwrap_or(25).clamp(0, 100)) / 100.0;
    let jitter = if by > 0.0 { rand::rng().random_range(1.0 - by..1.0 + by) } else { 1.0 };
    chrono::Duration::from_std(doubled.mul_f64(jitter)).unwrap_or_default()
}

/// Failed → in progress: sweeps enqueue the failed steps of the failed phase, and those that had not
/// finished when the run failed continue. Completed → in progress: sweeps enqueue the failed steps of
/// recipients that failed and that no repeat has reached, and their later phases run again for them.
/// Errors: NOT_FOUND, CONFLICT if no recipients are left, INVALID_TRANSITION.
pub async fn retry(
    db: &WriteContext,
    viewer: &Viewer,
    id: RunId,
    expected: Option<i32>,
    reason: Option<&str>,
) -> Result<Model> {
    let reason = reason.map(|reason| validate::text("reason", reason)).transpose()?;
    transact!(db, |tx| {
        // Locks the campaign first, as a repeat does: only one of its runs over one audience is
        // retried or repeated at a time.
        let campaign = match super::must_find(tx.db(), viewer, id).await?.campaign_id {
            Some(campaign_id) => Some(crate::domain::plan::campaign::must_lock(tx, viewer, campaign_id, None).await?),
            None => None,
        };
        let run = must_lock(tx, viewer, id, expected).await?;
        let campaign = campaign.as_ref().map(CampaignFacts::of);
        let context = RunContext::read(tx.db(), viewer, &run, campaign, Action::Retry).await?;
        check_allowed(&run, &context, Action::Retry)?;
        let only_left = context.retries_only_unreached();
        let failed_at = run.ended_at.unwrap_or_else(|| tx.now());
        let done = run.status == RunStatus::Completed;
        let reason_of_sweeps = only_left.then_some(RECIPIENTS);
        let run = apply_transition(tx, viewer, run, RunTransition::Retry, reason.as_deref(), |row| {
            row.ended_at = Set(None);
            row.failure = Set(None);
            row.outcome = Set(None);
        })
        .await?;
        if let Some(campaign) = run.campaign_id.filter(|_| run.run_type != RunType::TestRun) {
            let reopen = entity::campaign::CampaignTransition::Reopen;
            super::campaign_status::follow_run(tx, &Viewer::engine(run.org_id), campaign, reopen).await?;
        }
        sweep_queue::set_held(tx, id, false).await?;
        let phases = phase::of_runs(tx.db(), viewer, &[id]).await?;
        let tasks = task::of_runs(tx.db(), viewer, &[id]).await?;
        tx.set_result(id);
        if done {
            reopen(tx, viewer, &run, phases, &tasks).await?;
            return advance::advance(tx, viewer, run).await;
        }
        for phase in phases.into_iter().filter(|phase| phase.status == PhaseStatus::Failed) {
            let phase = phase::apply_transition(tx, viewer, &run, phase, PhaseTransition::Retry, None).await?;
            for task in tasks.iter().filter(|task| task.phase_id == phase.id && task.failed > 0) {
                task::retrying(tx, task.id, true).await?;
                let reason = reason_of_sweeps.map(str::to_owned);
                sweep_queue::begin_retry(tx, viewer, &run, task.id, reason).await?;
            }
        }
        let snapshot = super::snapshot::of(tx.db(), &run).await?;
        dependents::follow::begin_all(tx, &run, &snapshot).await?;
        interrupt::apply_missed_events(tx, &run, failed_at).await?;
        advance::advance(tx, viewer, run).await
    })
}

/// Reason of a sweep that retries only steps of unreached recipients.
const RECIPIENTS: &str = "RECIPIENTS";

/// Reopens a completed run for its failed recipients, from the first phase in which one of their
/// steps failed. New drafts are reviewed again, and the summary is written again; other single
/// steps stay done.
async fn reopen(
    tx: &Tx,
    viewer: &Viewer,
    run: &Model,
    phases: Vec<entity::phase::Model>,
    tasks: &[entity::task::Model],
) -> Result<()> {
    let failed = |task: &&entity::task::Model| task.fan_out && task.failed > 0;
    let tasks_of = |phase: &entity::phase::Model| {
        let id = phase.id;
        tasks.iter().filter(move |task| task.phase_id == id)
    };
    let Some(first) = phases.iter().position(|phase| tasks_of(phase).any(|task| failed(&task))) else {
        let message = "none of its steps for a record failed: use `repeatRun` with `onlyFailed: true`";
        return Err(Refusal::conflict(message).into());
    };
    let snapshot = super::snapshot::of(tx.db(), run).await?;
    let drafts = |task: &&entity::task::Model| {
        snapshot.task(&task.key).is_some_and(|task| task.steps.iter().any(|step| step.kind == run_template::DRAFT))
    };
    let drafted_again = tasks.iter().filter(failed).any(|task| drafts(&task));
    let engine = Viewer::engine(run.org_id);
    for (i, phase) in phases.into_iter().enumerate().skip(first) {
        let phase_tasks: Vec<&entity::task::Model> = tasks_of(&phase).collect();
        let transition = if i == first { PhaseTransition::Retry } else { PhaseTransition::Reopen };
        phase::apply_transition(tx, viewer, run, phase, transition, None).await?;
        for task in &phase_tasks {
            let listens = snapshot.task(&task.key).is_some_and(entity::definition::TaskDef::on_event);
            if i > first && task.fan_out && !listens && task.left_out_reason.is_none() {
                let mut row = (*task).clone().into_active_model();
                row.fan_out_begun = Set(false);
                row.fan_out_done = Set(false);
                row.update(tx.db()).await?;
            }
            if failed(task) {
                task::retrying(tx, task.id, true).await?;
                sweep_queue::begin_retry(tx, viewer, run, task.id, Some(RECIPIENTS.into())).await?;
            }
        }
        let mut kinds = vec![run_template::SUMMARISE];
        if drafted_again {
            kinds.push(run_template::REVIEW);
        }
        let to_redo = step::Entity::find()
            .filter(any_of(
                tx.dialect(),
                step::COLUMN.task_id,
                phase_tasks.iter().filter(|task| !task.fan_out).map(|task| task.id),
            ))
            .filter(any_of(tx.dialect(), step::Column::Kind, kinds))
            .filter(step::COLUMN.status.is_in([StepStatus::Completed, StepStatus::Skipped]))
            .all(tx.db())
            .await?;
        for step in to_redo {
            let transition =
                if step.status == StepStatus::Completed { StepTransition::Reset } else { StepTransition::Restart };
            let input = ActionInput { reason: Some("recipients are retried".into()), ..ActionInput::default() };
            super::step::apply(tx, &engine, run, step, transition, &input).await?;
        }
    }
    Ok(())
}

/// Enqueues a chunk of a task's failed steps.
pub(super) async fn chunk(tx: &Tx, viewer: &Viewer, run: &Model, sweep: &sweeps::Model) -> Result<Option<uuid::Uuid>> {
    let mut failed = step::Entity::find()
        .filter(step::COLUMN.task_id.eq(sweep.task_id))
        .filter(step::COLUMN.status.eq(StepStatus::Failed));
    if sweep.reason.as_deref() == Some(RECIPIENTS) {
        let family = unreached::Family::of(tx.db(), viewer, run).await?;
        let left = step::Column::RecordId.in_subquery(unreached::records(run, &family, unreached::ReachAgain::Retry));
        failed = failed.filter(step::Column::RecordId.is_null().or(left));
    }
    if let Some(key) = sweep.last_key {
        failed = failed.filter(step::COLUMN.id.gt(StepId(key)));
    }
    let failed = failed.order_by_asc(step::COLUMN.id).limit(limits::CHUNK).all(tx.db()).await?;
    let ids: Vec<StepId> = failed.iter().map(|step| step.id).collect();
    requeue(tx, viewer, run, &ids, None).await?;
    if let Some(task) = sweep.task_id {
        interrupt::stop_again(tx, run, task, &failed).await?;
    }
    Ok(ids.last().map(|id| id.0))
}

/// Returns the dependents skipped with a step to PENDING, approves its message again if it was
/// cancelled with it, and clears its recipient's outcome.
pub(in crate::domain::run) async fn wait_again(
    tx: &Tx,
    run: &Model,
    snapshot: &super::snapshot::RunSnapshot,
    step: &step::Model,
) -> Result<()> {
    dependents::restore(tx, run, snapshot, std::slice::from_ref(step)).await?;
    step_messages::reapprove_waiting(tx, run, std::slice::from_ref(step)).await?;
    recipients::clear_skipped(tx, step.run_record_id).await
}

/// Enqueues failed steps again with all their attempts, clears their recipients' outcomes and
/// approves their messages again.
pub(in crate::domain::run) async fn requeue(
    tx: &Tx,
    viewer: &Viewer,
    run: &Model,
    ids: &[StepId],
    reason: Option<&str>,
) -> Result<()> {
    let retries = SetTransition::new(StepStatus::Failed, &[StepTransition::Retry]);
    let steps = retries
        .update()?
        .col_expr(step::Column::AvailableAt, Expr::value(tx.now()))
        .col_expr(step::Column::FailureCount, Expr::value(0))
        .col_expr(step::Column::LapseCount, Expr::value(0))
        .col_expr(step::Column::Reason, Expr::value(Option::<String>::None))
        .col_expr(step::Column::CompletedAt, Expr::value(Option::<chrono::DateTime<chrono::Utc>>::None))
        .col_expr(step::Column::CompletedBy, Expr::value(Option::<serde_json::Value>::None))
        .filter(any_of(tx.dialect(), step::COLUMN.id, ids.iter().copied()))
        .exec_with_returning(tx.db())
        .await?;
    executor_ids::release_deleted(tx, &steps).await?;
    let recipients: Vec<RunRecordId> = steps.iter().filter_map(|step| step.run_record_id).collect();
    let messages = step_messages::messages_of(tx, &steps);
    let snapshot = super::snapshot::of(tx.db(), run).await?;
    dependents::restore(tx, run, &snapshot, &steps).await?;
    let reason = reason.map(str::to_owned);
    let changes = retries.changes(steps, |_| reason.clone())?;
    super::step::record_changes(tx, run, &viewer.actor(), &changes).await?;
    if recipients.is_empty() {
        return Ok(());
    }
    run_record::Entity::update_many()
        .col_expr(run_record::Column::Outcome, Expr::value(Option::<String>::None))
        .col_expr(run_record::Column::Reason, Expr::value(Option::<String>::None))
        .filter(any_of(tx.dialect(), run_record::COLUMN.id, recipients.iter().copied()))
        .exec(tx.db())
        .await?;
    // Refused messages, and messages cancelled when their step failed.
    step_messages::reapprove(tx, viewer, run, messages, &[CommunicationStatus::Failed, CommunicationStatus::Cancelled])
        .await
}

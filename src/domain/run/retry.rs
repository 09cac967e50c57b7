//! Retries failed work: a run's failed phase, its failed recipients, or one step. Completed work
//! stays as it is.

use std::collections::BTreeMap;

use entity::communication::{self, CommunicationStatus};
use entity::definition::RetryDef;
use entity::id::*;
use entity::phase::PhaseTransition;
use entity::run::{Model, RunTransition};
use entity::step::{self, StepReason, StepStatus, StepTransition};
use entity::sweep::{self as sweeps, SweepKind};
use entity::{CampaignStatus, PhaseStatus, RunStatus, RunType, run_record};
use rand::RngExt;
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{
    ActiveEnum, ActiveModelTrait, ColumnTrait, Condition, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect, Set,
};

use super::step::{ActionInput, Change};
use super::{advance, apply_transition, interrupt, must_lock, sweep, task, unreached};
use crate::domain::plan::run_template;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};
use crate::transact;

/// Checks that the run can be retried, apart from its state machine.
pub(super) fn check_allowed(run: &Model, campaign: CampaignStatus) -> Result<()> {
    let why = match campaign {
        _ if run.started_at.is_none() => "its preflight failed before it began: launch the campaign again".to_owned(),
        CampaignStatus::Completed | CampaignStatus::Cancelled => format!("its campaign is {campaign}"),
        CampaignStatus::Draft
        | CampaignStatus::PendingApproval
        | CampaignStatus::Active
        | CampaignStatus::Paused
        | CampaignStatus::Failed => return Ok(()),
    };
    Err(Refusal::conflict(why).into())
}

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

/// Failed → in progress: sweeps enqueue the failed steps of the failed phase. Completed → in
/// progress: sweeps enqueue the failed steps of recipients that failed and that no repeat has
/// reached, and their later phases run again for them. Errors: NOT_FOUND, CONFLICT if no recipients
/// are left, INVALID_TRANSITION.
pub async fn retry(db: &Db, viewer: &Viewer, id: RunId, expected: Option<i32>, reason: Option<&str>) -> Result<Model> {
    let reason = reason.map(|reason| validate::text("reason", reason)).transpose()?;
    transact!(db, |tx| {
        // Locks the campaign first, as a repeat does: only one of its runs over one audience is
        // retried or repeated at a time.
        let campaign = match super::must_find(tx.db(), viewer, id).await?.campaign_id {
            Some(campaign_id) => Some(crate::domain::plan::campaign::must_lock(tx, viewer, campaign_id, None).await?),
            None => None,
        };
        let run = must_lock(tx, viewer, id, expected).await?;
        super::check_allowed(&run, campaign.map(|campaign| campaign.status), super::Action::Retry)?;
        let only_left = unreached::retryable(tx.db(), viewer, &run).await?;
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
            crate::domain::plan::campaign::transition::follow_run(tx, &Viewer::engine(run.org_id), campaign, reopen)
                .await?;
        }
        let phases = super::phase::of_runs(tx.db(), viewer, &[id]).await?;
        let tasks = task::of_runs(tx.db(), viewer, &[id]).await?;
        tx.set_result(id);
        if done {
            reopen(tx, viewer, &run, phases, &tasks).await?;
            return advance::advance(tx, viewer, run).await;
        }
        for phase in phases.into_iter().filter(|phase| phase.status == PhaseStatus::Failed) {
            let phase = advance::step_phase(tx, viewer, &run, phase, PhaseTransition::Retry).await?;
            for task in tasks.iter().filter(|task| task.phase_id == phase.id && task.failed > 0) {
                task::retrying(tx, task.id, true).await?;
                let reason = reason_of_sweeps.map(str::to_owned);
                sweep::begin(tx, viewer, &run, Some(task.id), SweepKind::Retry, reason).await?;
            }
        }
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
        advance::step_phase(tx, viewer, run, phase, transition).await?;
        for task in &phase_tasks {
            let listens = snapshot.task(&task.key).is_some_and(entity::definition::TaskDef::on_event);
            if i > first && task.fan_out && !listens && task.left_out.is_none() {
                let mut row = (*task).clone().into_active_model();
                row.fan_out_begun = Set(false);
                row.fan_out_done = Set(false);
                row.update(tx.db()).await?;
            }
            if failed(task) {
                task::retrying(tx, task.id, true).await?;
                sweep::begin(tx, viewer, run, Some(task.id), SweepKind::Retry, Some(RECIPIENTS.into())).await?;
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
    super::dependents::restore(tx, run, snapshot, std::slice::from_ref(step)).await?;
    wait_with(tx, run, std::slice::from_ref(step)).await?;
    clear_skipped(tx, step.run_record_id).await
}

/// Clears the outcomes of skipped recipients that have work again.
pub(in crate::domain::run) async fn clear_skipped(
    tx: &Tx,
    recipients: impl IntoIterator<Item = RunRecordId>,
) -> Result<()> {
    let recipients: Vec<RunRecordId> = recipients.into_iter().collect();
    if recipients.is_empty() {
        return Ok(());
    }
    run_record::Entity::update_many()
        .col_expr(run_record::Column::Outcome, Expr::value(Option::<String>::None))
        .col_expr(run_record::Column::Reason, Expr::value(Option::<String>::None))
        .filter(any_of(tx.dialect(), run_record::COLUMN.id, recipients))
        .filter(run_record::COLUMN.outcome.eq(run_record::Outcome::Skipped))
        .exec(tx.db())
        .await?;
    Ok(())
}

/// Condition for the messages that these steps send: `email` its own, `send_message` the
/// recipient's drafted one. Excludes messages of other steps of the same recipient.
fn messages_of(tx: &Tx, steps: &[step::Model]) -> Condition {
    let sending = steps.iter().filter(|step| run_template::is_message(&step.kind));
    let recipients: Vec<RunRecordId> = sending.filter_map(|step| step.run_record_id).collect();
    let mut writing = Query::select();
    writing
        .column(step::Column::Id)
        .from(step::Entity)
        .and_where(any_of(tx.dialect(), step::COLUMN.run_record_id, recipients.iter().copied()))
        .and_where(step::Column::Kind.eq(run_template::EMAIL));
    let drafted = Condition::all()
        .add(any_of(tx.dialect(), communication::COLUMN.run_record_id, recipients.iter().copied()))
        .add(communication::COLUMN.step_id.not_in_subquery(writing));
    let emails = steps.iter().filter(|step| step.kind == run_template::EMAIL);
    let own = any_of(tx.dialect(), communication::COLUMN.step_id, emails.map(|step| step.id));
    Condition::any().add(drafted).add(own)
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
    let steps = step::Entity::update_many()
        .col_expr(step::Column::Status, Expr::value(StepStatus::Queued.to_value()))
        .col_expr(step::Column::AvailableAt, Expr::value(tx.now()))
        .col_expr(step::Column::FailureCount, Expr::value(0))
        .col_expr(step::Column::LapseCount, Expr::value(0))
        .col_expr(step::Column::Reason, Expr::value(Option::<String>::None))
        .col_expr(step::Column::CompletedAt, Expr::value(Option::<chrono::DateTime<chrono::Utc>>::None))
        .col_expr(step::Column::CompletedBy, Expr::value(Option::<serde_json::Value>::None))
        .col_expr(step::Column::Revision, Expr::col(step::Column::Revision).add(1))
        .filter(any_of(tx.dialect(), step::COLUMN.id, ids.iter().copied()))
        .filter(step::COLUMN.status.eq(StepStatus::Failed))
        .exec_with_returning(tx.db())
        .await?;
    let recipients: Vec<RunRecordId> = steps.iter().filter_map(|step| step.run_record_id).collect();
    let messages = messages_of(tx, &steps);
    let snapshot = super::snapshot::of(tx.db(), run).await?;
    super::dependents::restore(tx, run, &snapshot, &steps).await?;
    let reason = reason.map(str::to_owned);
    let change = |step| Change { step, from: Some(StepStatus::Failed), kind: "step.retried", reason: reason.clone() };
    let changes: Vec<Change> = steps.into_iter().map(change).collect();
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
    reapprove_messages(tx, viewer, run, messages, &[CommunicationStatus::Failed, CommunicationStatus::Cancelled]).await
}

/// Approves messages again that were cancelled with their steps, as the steps wait again; sent
/// messages stay sent.
pub(in crate::domain::run) async fn wait_with(tx: &Tx, run: &Model, steps: &[step::Model]) -> Result<()> {
    if !steps.iter().any(|step| run_template::is_message(&step.kind) || is_mail_of_engine(run, step)) {
        return Ok(());
    }
    let engine = Viewer::engine(run.org_id);
    reapprove_messages(tx, &engine, run, messages_of(tx, steps), &[CommunicationStatus::Cancelled]).await
}

/// True if the engine sends the step's one mail. In guided work people send the mails of such a step,
/// and those go out whatever becomes of it.
pub(in crate::domain::run) fn is_mail_of_engine(run: &Model, step: &step::Model) -> bool {
    step.kind == run_template::EMAIL && run.run_type != RunType::Guided
}

/// Cancels the approved messages of steps that were skipped, with the steps' reasons. Several steps
/// that could send the same message leave it to the end of the run.
pub(in crate::domain::run) async fn cancel_with(
    tx: &Tx,
    run: &Model,
    snapshot: &super::snapshot::RunSnapshot,
    skipped: &[step::Model],
) -> Result<()> {
    let sends = |kind: &str| [run_template::SEND, run_template::CALL].contains(&kind);
    let tasks = snapshot.definition.phases.iter().flat_map(|phase| &phase.tasks);
    let shared = tasks.flat_map(|task| &task.steps).filter(|step| sends(&step.kind)).count() > 1;
    let mine = |step: &&step::Model| is_mail_of_engine(run, step) || (sends(&step.kind) && !shared);
    let skipped: Vec<step::Model> = skipped.iter().filter(mine).cloned().collect();
    cancel_messages(tx, run, skipped, &[CommunicationStatus::Approved]).await
}

/// Cancels the messages of recipients whose step to send them was skipped, at the end of the run:
/// nothing sends them any more.
pub(super) async fn cancel_left(tx: &Tx, run: &Model, recipients: &[RunRecordId]) -> Result<()> {
    let skipped = step::Entity::find()
        .filter(any_of(tx.dialect(), step::COLUMN.run_record_id, recipients.iter().copied()))
        .filter(step::COLUMN.status.eq(StepStatus::Skipped))
        .filter(any_of(tx.dialect(), step::Column::Kind, run_template::MESSAGES.map(str::to_owned)))
        .all(tx.db())
        .await?;
    cancel_messages(tx, run, skipped, &[CommunicationStatus::Draft, CommunicationStatus::Approved]).await
}

/// Cancels messages of skipped steps, with the steps' reasons.
pub(in crate::domain::run) async fn cancel_messages(
    tx: &Tx,
    run: &Model,
    skipped: Vec<step::Model>,
    statuses: &[CommunicationStatus],
) -> Result<()> {
    let engine = Viewer::engine(run.org_id);
    let mut by_reason: BTreeMap<String, Vec<step::Model>> = BTreeMap::new();
    // A message that was carried over was sent by another run.
    for step in skipped.into_iter().filter(|step| step.reason != Some(StepReason::CarriedOver)) {
        let code = step.reason.map_or_else(|| "SKIPPED".to_owned(), |code| code.to_string());
        let reason = step.error.as_ref().map_or_else(|| code.clone(), |text| format!("{code}: {text}"));
        by_reason.entry(reason).or_default().push(step);
    }
    for (reason, steps) in by_reason {
        let messages = messages_of(tx, &steps);
        crate::domain::message::communication::cancel_matching(tx, &engine, run, &messages, statuses, &reason).await?;
    }
    Ok(())
}

async fn reapprove_messages(
    tx: &Tx,
    viewer: &Viewer,
    run: &Model,
    messages: Condition,
    ended: &[CommunicationStatus],
) -> Result<()> {
    for from in ended.iter().copied() {
        let rows = communication::Entity::update_many()
            .col_expr(communication::Column::Status, Expr::value(CommunicationStatus::Approved.to_value()))
            // The retry period starts anew.
            .col_expr(communication::Column::Refusals, Expr::value(0))
            .col_expr(communication::Column::RefusedSince, Expr::value(Option::<chrono::DateTime<chrono::Utc>>::None))
            .col_expr(communication::Column::UpdatedAt, Expr::value(tx.now()))
            .col_expr(communication::Column::Revision, Expr::col(communication::Column::Revision).add(1))
            .filter(messages.clone())
            .filter(communication::COLUMN.status.eq(from))
            .exec_with_returning(tx.db())
            .await?;
        for row in &rows {
            crate::domain::message::communication::emit(
                tx,
                viewer,
                run,
                "communication.approved",
                row,
                from,
                Some("retried"),
            );
        }
    }
    Ok(())
}

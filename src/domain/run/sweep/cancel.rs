//! Skips the open rows of a cancelled run: steps, then messages, then recipients. Each table is
//! walked once by key: rows behind the key are closed, and a cancelled run gets no new rows.

use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::run;
use entity::run_record::{self, Outcome, RecipientReason};
use entity::step::{self, StepReason, StepStatus};
use entity::sweep::{self as sweeps, Model};
use entity::task;
use sea_orm::sea_query::{Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{ActiveEnum, ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;
use uuid::Uuid;

use crate::domain::plan::run_template::MESSAGES;
use crate::domain::run::recipients;
use crate::domain::run::step::ReasonText;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;

/// Processes a chunk of the current table; at its end, the first chunk of the next.
pub(super) async fn chunk(tx: &Tx, viewer: &Viewer, run: &run::Model, sweep: &Model) -> Result<Option<Uuid>> {
    let stage = sweep.detail.as_ref().and_then(|detail| detail["at"].as_str()).unwrap_or("steps");
    let mut last = match stage {
        "steps" => skip_steps(tx, viewer, run, sweep, sweep.last_key).await?,
        "messages" => cancel_messages(tx, viewer, run, sweep.last_key).await?,
        _ => return skip_recipients(tx, run, sweep.last_key).await,
    };
    if last.is_none() && stage == "steps" {
        last = cancel_messages(tx, viewer, run, None).await?;
        set_stage(tx, sweep, "messages").await?;
    }
    if last.is_none() {
        last = skip_recipients(tx, run, None).await?;
        set_stage(tx, sweep, "places").await?;
    }
    Ok(last)
}

async fn set_stage(tx: &Tx, sweep: &Model, stage: &str) -> Result<()> {
    sweeps::Entity::update_many()
        .col_expr(sweeps::Column::Detail, Expr::value(json!({ "at": stage })))
        .filter(sweeps::COLUMN.id.eq(sweep.id))
        .exec(tx.db())
        .await?;
    Ok(())
}

/// Skips steps without a lease. A step with a lease may still settle, but starts nothing.
async fn skip_steps(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    sweep: &Model,
    after: Option<Uuid>,
) -> Result<Option<Uuid>> {
    let mut open = step::Entity::find()
        .filter(step::COLUMN.run_id.eq(run.id))
        .filter(step::COLUMN.status.is_in(StepStatus::OPEN))
        .filter(step::COLUMN.lease_owner.is_null());
    if let Some(after) = after {
        open = open.filter(step::COLUMN.id.gt(StepId(after)));
    }
    let open = open.order_by_asc(step::COLUMN.id).limit(limits::CHUNK).all(tx.db()).await?;
    let last = open.last().map(|step| step.id.0);
    if last.is_some() {
        crate::domain::run::skip::give_up_hand_overs(tx, viewer, run, &open).await?;
        let reason = sweep.reason.clone().unwrap_or_else(|| "the run was cancelled".into());
        crate::domain::run::skip::skip(tx, viewer, run, open, &ReasonText::new(StepReason::RunCancelled, reason))
            .await?;
    }
    Ok(last)
}

async fn cancel_messages(tx: &Tx, viewer: &Viewer, run: &run::Model, after: Option<Uuid>) -> Result<Option<Uuid>> {
    let mut unsent = communication::Entity::find()
        .filter(communication::COLUMN.run_id.eq(run.id))
        .filter(communication::COLUMN.status.is_in([CommunicationStatus::Draft, CommunicationStatus::Approved]));
    if let Some(after) = after {
        unsent = unsent.filter(communication::COLUMN.id.gt(CommunicationId(after)));
    }
    let unsent = unsent.order_by_asc(communication::COLUMN.id).limit(limits::CHUNK).all(tx.db()).await?;
    let last = unsent.last().map(|row| row.id.0);
    if last.is_some() {
        let recipients = unsent.iter().map(|row| row.run_record_id);
        let theirs = Condition::all().add(any_of(tx.dialect(), communication::COLUMN.run_record_id, recipients));
        let statuses = [CommunicationStatus::Draft, CommunicationStatus::Approved];
        let why = "the run was cancelled";
        crate::domain::message::communication::cancel_matching(tx, viewer, run, &theirs, &statuses, why).await?;
        if run.in_flight > 0 {
            crate::domain::message::send_queue::drop_cancelled(tx, run).await?;
        }
    }
    Ok(last)
}

/// Skips recipients with no step in progress and no message being sent.
async fn skip_recipients(tx: &Tx, run: &run::Model, after: Option<Uuid>) -> Result<Option<Uuid>> {
    let mut open = run_record::Entity::find()
        .select_only()
        .column(run_record::Column::Id)
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(run_record::COLUMN.outcome.is_null())
        .filter(run_record::COLUMN.id.not_in_subquery(leased_recipients(run)))
        .filter(recipients::has_message(CommunicationStatus::Sending).not());
    if let Some(after) = after {
        open = open.filter(run_record::COLUMN.id.gt(RunRecordId(after)));
    }
    let open: Vec<RunRecordId> =
        open.order_by_asc(run_record::COLUMN.id).limit(limits::CHUNK).into_tuple().all(tx.db()).await?;
    let Some(last) = open.last().map(|id| id.0) else { return Ok(None) };
    skip(tx, run, &open).await?;
    Ok(Some(last))
}

/// SQL expression for a cancelled recipient's outcome: sent if all its messages were sent before;
/// unknown if the outcome of a message is.
fn outcome_expr(missed: &Expr) -> Expr {
    Expr::case(recipients::has_message(CommunicationStatus::Unknown), Outcome::Unknown.to_value())
        .case(missed.clone(), Outcome::Skipped.to_value())
        .case(recipients::has_sent(), Outcome::Sent.to_value())
        .finally(Outcome::Skipped.to_value())
        .into()
}

/// SQL expression for its reason: RUN_CANCELLED only if something was skipped because of the
/// cancel.
fn reason_expr(missed: &Expr) -> Expr {
    let unknown = RecipientReason::OutcomeUnknown.to_string();
    let cancelled = RecipientReason::RunCancelled.to_string();
    let step = Expr::cust(format!("CASE {} ELSE '{cancelled}' END", super::close::missed_because()));
    Expr::case(recipients::has_message(CommunicationStatus::Unknown), unknown)
        .case(missed.clone(), step)
        .case(recipients::has_sent(), Option::<String>::None)
        .finally(cancelled)
        .into()
}

/// SQL condition: the recipient misses one of its messages, as the step was skipped, or not yet
/// created when the run was cancelled.
async fn is_missed(tx: &Tx, run: &run::Model) -> Result<Expr> {
    let skipped = Expr::cust(format!("({})", super::close::any_missed()));
    let snapshot = crate::domain::run::snapshot::of(tx.db(), run).await?;
    let has_messages = |task: &task::Model| {
        let declared = snapshot.task(&task.key).filter(|declared| !declared.on_event());
        declared.is_some_and(|task| task.steps.iter().any(|step| MESSAGES.contains(&step.kind.as_str())))
    };
    let is_expected = |task: &&task::Model| task.fan_out && task.left_out_reason.is_none() && has_messages(task);
    let tasks = crate::domain::run::task::of_runs(tx.db(), &Viewer::engine(run.org_id), &[run.id]).await?;
    let tasks: Vec<TaskId> = tasks.iter().filter(is_expected).map(|task| task.id).collect();
    if tasks.is_empty() {
        return Ok(skipped);
    }
    let mut created = Query::select();
    created
        .expr(Expr::val(1))
        .from(step::Entity)
        .and_where(Expr::col((step::Entity, step::Column::TaskId)).eq(Expr::col((task::Entity, task::Column::Id))))
        .and_where(
            Expr::col((step::Entity, step::Column::RunRecordId))
                .eq(Expr::col((run_record::Entity, run_record::Column::Id))),
        );
    let mut uncreated = Query::select();
    uncreated
        .expr(Expr::val(1))
        .from(task::Entity)
        .and_where(any_of(tx.dialect(), task::COLUMN.id, tasks))
        .and_where(Expr::exists(created).not());
    Ok(skipped.or(Expr::exists(uncreated)))
}

/// Recipients with a step in progress.
fn leased_recipients(run: &run::Model) -> SelectStatement {
    let mut held = Query::select();
    held.column(step::Column::RunRecordId)
        .from(step::Entity)
        .and_where(step::COLUMN.run_id.eq(run.id))
        .and_where(step::COLUMN.lease_owner.is_not_null())
        .and_where(step::COLUMN.run_record_id.is_not_null());
    held
}

async fn skip(tx: &Tx, run: &run::Model, recipients: &[RunRecordId]) -> Result<()> {
    let missed = is_missed(tx, run).await?;
    run_record::Entity::update_many()
        .col_expr(run_record::Column::Outcome, outcome_expr(&missed))
        .col_expr(run_record::Column::Reason, reason_expr(&missed))
        .filter(any_of(tx.dialect(), run_record::COLUMN.id, recipients.iter().copied()))
        .filter(run_record::COLUMN.outcome.is_null())
        .filter(run_record::COLUMN.id.not_in_subquery(leased_recipients(run)))
        .filter(recipients::has_message(CommunicationStatus::Sending).not())
        .exec(tx.db())
        .await?;
    Ok(())
}

/// Closes the recipients of steps that settled after their run was cancelled, possibly behind the
/// sweep's position: drops their unsent messages, unless another step of the recipient is in
/// progress. The sweep drops those that people released.
pub(crate) async fn settled(tx: &Tx, viewer: &Viewer, run: &run::Model, recipients: &[RunRecordId]) -> Result<()> {
    crate::domain::message::communication::cancel_unsent(tx, viewer, run, recipients, "the run was cancelled").await?;
    skip(tx, run, recipients).await
}

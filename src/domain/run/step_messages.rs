//! The messages that steps send: cancelled when their steps are skipped, approved again when these
//! wait again or are retried.

use std::collections::BTreeMap;

use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::step::{self, StepReason, StepStatus};
use entity::{RunType, run};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ActiveEnum, ColumnTrait, Condition, EntityTrait, QueryFilter};

use super::snapshot::RunSnapshot;
use crate::domain::message::communication as ledger;
use crate::domain::plan::run_template;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Condition for the messages that these steps send: `email` its own, `send_message` the
/// recipient's drafted one. Excludes messages of other steps of the same recipient, and those that
/// people released.
pub(super) fn messages_of(tx: &Tx, steps: &[step::Model]) -> Condition {
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
    let theirs = Condition::any().add(drafted).add(own);
    Condition::all().add(theirs).add(communication::COLUMN.action_number.eq(0))
}

/// Approves messages again that were cancelled with their steps, as the steps wait again; sent
/// messages stay sent.
pub(super) async fn reapprove_waiting(tx: &Tx, run: &run::Model, steps: &[step::Model]) -> Result<()> {
    if !steps.iter().any(|step| run_template::is_message(&step.kind) || is_mail_of_engine(run, step)) {
        return Ok(());
    }
    let engine = Viewer::engine(run.org_id);
    reapprove(tx, &engine, run, messages_of(tx, steps), &[CommunicationStatus::Cancelled]).await
}

/// True if the engine sends the step's one mail. In guided work people send the mails of such a
/// step, and those go out whatever becomes of it.
pub(in crate::domain::run) fn is_mail_of_engine(run: &run::Model, step: &step::Model) -> bool {
    step.kind == run_template::EMAIL && run.run_type != RunType::Guided
}

/// Cancels the approved messages of steps that were skipped, with the steps' reasons. Several steps
/// that could send the same message leave it to the end of the run.
pub(super) async fn cancel_skipped(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    skipped: &[step::Model],
) -> Result<()> {
    let shared = is_shared(snapshot);
    let mine = |step: &&step::Model| is_mail_of_engine(run, step) || (sends_drafted(&step.kind) && !shared);
    let skipped: Vec<step::Model> = skipped.iter().filter(mine).cloned().collect();
    cancel(tx, run, skipped, &[CommunicationStatus::Approved]).await
}

/// Cancels the drafts of steps that found nothing to send because nobody has approved it: the review
/// was skipped. Nothing sends them any more.
pub(crate) async fn cancel_unapproved(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    settled: impl Iterator<Item = &step::Model>,
) -> Result<()> {
    let unapproved = |step: &&step::Model| {
        step.kind == run_template::SEND
            && step.status == StepStatus::Skipped
            && step.reason == Some(StepReason::NoMessage)
    };
    let skipped: Vec<step::Model> = settled.filter(unapproved).cloned().collect();
    if skipped.is_empty() || is_shared(snapshot) {
        return Ok(());
    }
    cancel(tx, run, skipped, &[CommunicationStatus::Draft]).await
}

/// True for step kinds that send the message that another step has drafted.
fn sends_drafted(kind: &str) -> bool {
    [run_template::SEND, run_template::CALL].contains(&kind)
}

/// True if several steps of a structure may send the same drafted message.
fn is_shared(snapshot: &RunSnapshot) -> bool {
    let tasks = snapshot.definition.phases.iter().flat_map(|phase| &phase.tasks);
    tasks.flat_map(|task| &task.steps).filter(|step| sends_drafted(&step.kind)).count() > 1
}

/// Cancels the messages of recipients whose step to send them was skipped, at the end of the run:
/// nothing sends them any more.
pub(super) async fn cancel_leftovers(tx: &Tx, run: &run::Model, recipients: &[RunRecordId]) -> Result<()> {
    let skipped = step::Entity::find()
        .filter(any_of(tx.dialect(), step::COLUMN.run_record_id, recipients.iter().copied()))
        .filter(step::COLUMN.status.eq(StepStatus::Skipped))
        .filter(any_of(tx.dialect(), step::Column::Kind, run_template::MESSAGES.map(str::to_owned)))
        .all(tx.db())
        .await?;
    cancel(tx, run, skipped, &[CommunicationStatus::Draft, CommunicationStatus::Approved]).await
}

/// Cancels messages of skipped steps, with the steps' reasons.
pub(in crate::domain::run) async fn cancel(
    tx: &Tx,
    run: &run::Model,
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
        ledger::cancel_matching(tx, &engine, run, &messages, statuses, &reason).await?;
    }
    Ok(())
}

/// Approves messages again that ended with these statuses; the retry period starts anew.
pub(super) async fn reapprove(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    messages: Condition,
    ended: &[CommunicationStatus],
) -> Result<()> {
    for from in ended.iter().copied() {
        let rows = communication::Entity::update_many()
            .col_expr(communication::Column::Status, Expr::value(CommunicationStatus::Approved.to_value()))
            .col_expr(communication::Column::Refusals, Expr::value(0))
            .col_expr(communication::Column::RefusedSince, Expr::value(Option::<chrono::DateTime<chrono::Utc>>::None))
            .col_expr(communication::Column::UpdatedAt, Expr::value(tx.now()))
            .col_expr(communication::Column::Revision, Expr::col(communication::Column::Revision).add(1))
            .filter(messages.clone())
            .filter(communication::COLUMN.status.eq(from))
            .exec_with_returning(tx.db())
            .await?;
        for row in &rows {
            ledger::emit(tx, viewer, run, "communication.approved", row, from, Some("retried"));
        }
    }
    Ok(())
}

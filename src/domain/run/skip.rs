//! Skips open steps that nobody holds.
//!
//! A step that waits to resume the hand-over of a message, after its worker was lost in the middle of
//! it, is not skipped as if nothing had happened: nobody would look up the message any more.

use std::collections::{HashMap, HashSet};

use entity::communication::{self as ledger, CommunicationStatus};
use entity::id::*;
use entity::run_record::{self, Outcome, RecipientReason};
use entity::step::{self, Executor, StepReason, StepStatus, StepTransition};
use entity::{RunType, run};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveEnum, ColumnTrait, EntityTrait, JoinType, QueryFilter, QuerySelect, RelationDef};

use super::step::{Change, ReasonText, SetTransition, record_changes, skip_open};
use super::sweep::close;
use super::{early_events, unhandled_replies};
use crate::domain::message::communication;
use crate::domain::plan::run_template::kind;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Skips steps, with their events.
pub(crate) async fn skip(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    steps: Vec<step::Model>,
    why: &ReasonText,
) -> Result<()> {
    let statuses: HashMap<StepId, StepStatus> = steps.iter().map(|step| (step.id, step.status)).collect();
    let mut skipping = skip_open();
    // A result that a person rejected does not count. Guided work keeps its counts.
    if run.run_type != RunType::Guided {
        let by_engine = Expr::col(step::Column::AssignedTo)
            .eq(Executor::Workflow.to_value())
            .and(Expr::col(step::Column::Outside).eq(false));
        let kept = Expr::case(by_engine, Expr::col(step::Column::Result));
        skipping = skipping.col_expr(step::Column::Result, kept.into());
    }
    let skipped = skipping
        .col_expr(step::Column::Error, Expr::value(why.text.clone()))
        .col_expr(step::Column::Reason, Expr::value(why.code.to_value()))
        .col_expr(step::Column::CompletedAt, Expr::value(tx.now()))
        .col_expr(step::Column::CompletedBy, Expr::value(serde_json::to_value(viewer.actor())?))
        .filter(any_of(tx.dialect(), step::COLUMN.id, steps.iter().map(|step| step.id)))
        .filter(step::COLUMN.lease_owner.is_null())
        .exec_with_returning(tx.db())
        .await?;
    unhandled_replies::follow_up(tx, viewer, run, skipped.iter()).await?;
    let changes: Vec<Change> = skipped
        .into_iter()
        .map(|step| Change {
            from: statuses.get(&step.id).copied(),
            step,
            kind: "step.skipped",
            reason: Some(why.text.clone()),
        })
        .collect();
    record_changes(tx, run, &viewer.actor(), &changes).await?;
    Ok(())
}

/// Skips steps that nobody holds because of an event, with their messages and recipients. A message
/// whose hand-over was cut short is left to a person.
pub(super) async fn interrupted(tx: &Tx, run: &run::Model, open: Vec<step::Model>, name: &str) -> Result<()> {
    let engine = Viewer::engine(run.org_id);
    let unsure = give_up_hand_overs(tx, &engine, run, &open).await?;
    let (unsure, open): (Vec<_>, Vec<_>) = open.into_iter().partition(|step| unsure.contains(&step.id));
    await_resolution(tx, run, unsure).await?;
    let stopped: Vec<RunRecordId> = open.iter().filter_map(|step| step.run_record_id).collect();
    communication::cancel_unsent(tx, &engine, run, &stopped, name).await?;
    close::interrupted(tx, &stopped, name).await?;
    skip(tx, &engine, run, open, &early_events::interrupted_by(name)).await
}

/// Marks the messages as UNKNOWN whose hand-over these steps wait to resume. Returns those steps.
pub(in crate::domain::run) async fn give_up_hand_overs(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    steps: &[step::Model],
) -> Result<HashSet<StepId>> {
    // Messages of guided work are handed over by the send queue, which has its own leases.
    if run.run_type == RunType::Guided {
        return Ok(HashSet::new());
    }
    let sends = |step: &&step::Model| !step.outside && matches!(step.kind.as_str(), kind::SEND | kind::EMAIL);
    let waiting: Vec<&step::Model> =
        steps.iter().filter(sends).filter(|step| step.lease_owner.is_none() && step.attempt_count > 0).collect();
    if waiting.is_empty() {
        return Ok(HashSet::new());
    }
    let recipients = waiting.iter().filter_map(|step| step.run_record_id);
    let sending: Vec<(CommunicationId, RunRecordId, StepId, String)> = ledger::Entity::find()
        .select_only()
        .columns([ledger::Column::Id, ledger::Column::RunRecordId, ledger::Column::StepId])
        .column(step::Column::Kind)
        .join(JoinType::InnerJoin, written_by())
        .filter(any_of(tx.dialect(), ledger::COLUMN.run_record_id, recipients))
        // What people released is handed over by the send queue.
        .filter(ledger::COLUMN.action_number.eq(0))
        .filter(ledger::COLUMN.status.eq(CommunicationStatus::Sending))
        .into_tuple()
        .all(tx.db())
        .await?;
    let is_of = |step: &step::Model, (_, recipient, by, of_kind): &(_, RunRecordId, StepId, String)| {
        match step.kind.as_str() {
            kind::EMAIL => step.id == *by,
            // A drafted message; an `email` step sends its own.
            _ => step.run_record_id == Some(*recipient) && of_kind != kind::EMAIL,
        }
    };
    let unsure = |message: &&(CommunicationId, _, _, _)| waiting.iter().any(|step| is_of(step, message));
    let lost: Vec<CommunicationId> = sending.iter().filter(unsure).map(|message| message.0).collect();
    if lost.is_empty() {
        return Ok(HashSet::new());
    }
    communication::mark_unknown(tx, viewer, run, any_of(tx.dialect(), ledger::COLUMN.id, lost)).await?;
    let of_some = |step: &&&step::Model| sending.iter().any(|message| is_of(step, message));
    Ok(waiting.iter().filter(of_some).map(|step| step.id).collect())
}

/// The join of a message with the step that wrote it.
fn written_by() -> RelationDef {
    ledger::Entity::belongs_to(step::Entity).from(ledger::Column::StepId).to(step::Column::Id).into()
}

/// Lets a person resolve the outcome of steps' messages, as if each step had been claimed once more.
async fn await_resolution(tx: &Tx, run: &run::Model, steps: Vec<step::Model>) -> Result<()> {
    if steps.is_empty() {
        return Ok(());
    }
    let resolving = SetTransition::new(StepStatus::Queued, &[StepTransition::Start, StepTransition::Submit]);
    let why = "its worker stopped while its message was being sent: it is unknown if it was sent";
    let waiting = resolving
        .update()?
        .col_expr(step::Column::AttemptCount, Expr::col(step::Column::AttemptCount).add(1))
        .col_expr(step::Column::Error, Expr::value(why))
        .col_expr(step::Column::Reason, Expr::value(StepReason::OutcomeUnknown.to_value()))
        .filter(any_of(tx.dialect(), step::COLUMN.id, steps.iter().map(|step| step.id)))
        .exec_with_returning(tx.db())
        .await?;
    let recipients = waiting.iter().filter(|step| step.kind == kind::SEND).filter_map(|step| step.run_record_id);
    run_record::Entity::update_many()
        .col_expr(run_record::Column::Outcome, Expr::value(Outcome::Unknown.to_value()))
        .col_expr(run_record::Column::Reason, Expr::value(RecipientReason::OutcomeUnknown.to_value()))
        .filter(any_of(tx.dialect(), run_record::COLUMN.id, recipients))
        .exec(tx.db())
        .await?;
    let changes = resolving.changes(waiting, |_| Some(why.to_owned()))?;
    record_changes(tx, run, &Viewer::engine(run.org_id).actor(), &changes).await?;
    Ok(())
}

//! Resolves messages whose outcome is UNKNOWN, on a person's report.

pub use entity::communication::Resolution;
use entity::communication::{CommunicationStatus, CommunicationTransition, Model};
use entity::id::*;
use entity::run_record::{self, Outcome, RecipientReason};
use entity::step::{StepReason, StepStatus, StepTransition};
use entity::{RunStatus, RunType, StateMachine, run, step};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, Set};
use serde_json::json;

use super::review::check_unknown;
use super::step::{self as steps, ActionInput, Change};
use super::sweep::close;
use super::{advance, dependents, must_lock, snapshot};
use crate::domain::message::communication::{self as ledger, NOT_SENT};
use crate::domain::message::send_queue;
use crate::domain::plan::run_template;
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::transact;

/// True if the run still sends this message. Messages that a person released from within a step, such
/// as a meeting's, are also sent after the run has completed or failed.
fn sends(run: &run::Model, message: &Model) -> bool {
    match run.status {
        RunStatus::InProgress | RunStatus::Paused => true,
        RunStatus::Completed | RunStatus::Failed => message.action_number > 0,
        RunStatus::Scheduled | RunStatus::Queued | RunStatus::Cancelled => false,
    }
}

/// Checks that a message of this run can be resolved in this way; the error says why not. Errors:
/// INVALID_TRANSITION; CONFLICT for SEND_AGAIN if the run no longer sends.
pub(crate) fn check_resolvable(run: &run::Model, found: &Model, resolution: Resolution) -> Result<()> {
    check_unknown(found)?;
    if resolution == Resolution::SendAgain && !sends(run, found) {
        let status = run.status;
        let message = format!("its run is {status} and sends no more messages: resolve it as SENT or NOT_SENT");
        return Err(Refusal::conflict(message).with("allowed", json!(["SENT", "NOT_SENT"])).into());
    }
    Ok(())
}

/// Settles an UNKNOWN outcome, also of a run that has ended. Errors: NOT_FOUND, INVALID_TRANSITION;
/// CONFLICT for SEND_AGAIN if the run no longer sends.
pub async fn resolve(
    db: &WriteContext,
    viewer: &Viewer,
    id: CommunicationId,
    expected: Option<i32>,
    resolution: Resolution,
) -> Result<Model> {
    let run_id = ledger::must_find(db.read(), viewer, id).await?.run_id;
    transact!(db, |tx| {
        let run = must_lock(tx, viewer, run_id, None).await?;
        let found = ledger::must_lock(tx, viewer, id, expected).await?;
        check_resolvable(&run, &found, resolution)?;
        let (from, revision, recipient_id) = (found.status, found.revision, found.run_record_id);
        let (transition, step_transition, outcome) = match resolution {
            Resolution::Sent => (CommunicationTransition::ResolveSent, StepTransition::Approve, Some(Outcome::Sent)),
            Resolution::SendAgain => {
                (CommunicationTransition::ResolveSendAgain, StepTransition::Reject { retry: true }, None)
            }
            Resolution::NotSent => (
                CommunicationTransition::ResolveNotSent,
                StepTransition::Reject { retry: false },
                Some(Outcome::Failed),
            ),
        };
        let to = from.next(transition).ok_or_else(|| Refusal::transition("communication", from, transition))?;
        let mut row = found.into_active_model();
        row.status = Set(to);
        // The error of the unknown outcome no longer applies.
        row.error = Set((resolution == Resolution::NotSent).then(|| NOT_SENT.to_owned()));
        if resolution == Resolution::Sent {
            row.sent_at = Set(Some(tx.now()));
        }
        let communication = ledger::save(tx, row, revision).await?;
        let is_action = communication.action_number > 0;
        let drafted = step::Entity::find_by_id(communication.step_id).one(tx.db()).await?;
        // The recipient of an `email` step gets its outcome at the end of the run, as more messages
        // may follow, unless it has one because an event had interrupted it.
        let own = drafted.filter(|step| step.kind == run_template::EMAIL);
        if !is_action && own.is_none() && run.status.is_open() {
            let because = (resolution == Resolution::NotSent).then(|| RecipientReason::Person.with(Some(NOT_SENT)));
            let settled = run_record::ActiveModel {
                id: Set(recipient_id),
                outcome: Set(outcome),
                reason: Set(because),
                ..Default::default()
            };
            settled.update(tx.db()).await?;
        } else if own.is_some() && run.status.is_open() {
            let recipient = run_record::Entity::find_by_id(recipient_id).one(tx.db()).await?;
            if recipient.is_some_and(|row| row.outcome == Some(Outcome::Unknown)) {
                close::update_outcomes(tx, &[recipient_id]).await?;
            }
        }
        let kind = match to {
            CommunicationStatus::Sent => "communication.sent",
            CommunicationStatus::Failed => "communication.failed",
            _ => "communication.approved",
        };
        ledger::emit(tx, viewer, &run, kind, &communication, from, Some("resolved by a person"));
        tx.set_result(id);
        if is_action {
            // In a campaign's run, what a person wrote decides nothing about the recipient.
            let decides = !run.status.is_open() && run.run_type == RunType::Guided;
            settle_action(tx, viewer, run, &communication).await?;
            if decides {
                close::update_outcomes(tx, &[recipient_id]).await?;
            }
            return Ok(communication);
        }
        if resolution == Resolution::Sent
            && !communication.test
            && let Some(record) = communication.record_id
        {
            crate::domain::audience::record::set_last_contacted(tx, &[record]).await?;
        }
        let waiting = match own {
            Some(own) => Some(own).filter(|step| step.status == StepStatus::AwaitingApproval),
            None => {
                let sending = step::Entity::find()
                    .filter(step::COLUMN.run_record_id.eq(recipient_id))
                    .filter(step::Column::Kind.eq(run_template::SEND))
                    .filter(step::COLUMN.status.eq(StepStatus::AwaitingApproval));
                sending.order_by_asc(step::COLUMN.id).one(tx.db()).await?
            }
        };
        if let Some(step) = waiting {
            let why = match resolution {
                Resolution::Sent => None,
                Resolution::SendAgain => Some("a person had its message sent again".to_owned()),
                Resolution::NotSent => Some(NOT_SENT.to_owned()),
            };
            let input = ActionInput { reason: why, code: Some(StepReason::MessageResolved), result: None };
            let step = steps::apply(tx, viewer, &run, step, step_transition, &input).await?;
            if !run.status.is_open() {
                close::update_outcomes(tx, &[recipient_id]).await?;
                return Ok(communication);
            }
            let snapshot = snapshot::of(tx.db(), &run).await?;
            let changed = Change { step, from: None, kind: "", reason: None };
            dependents::advance(tx, &run, &snapshot, &[changed]).await?;
            advance::advance(tx, viewer, run).await?;
        } else if !run.status.is_open() {
            // The step was closed with its run.
            close::update_outcomes(tx, &[recipient_id]).await?;
        }
        Ok(communication)
    })
}

/// Applies the resolution to a message that a person's action released: queues it again, or records
/// its outcome.
async fn settle_action(tx: &Tx, viewer: &Viewer, run: run::Model, message: &Model) -> Result<()> {
    if message.status == CommunicationStatus::Approved {
        return send_queue::queue(tx, viewer, std::slice::from_ref(message)).await;
    }
    if let (CommunicationStatus::Sent, Some(id)) = (message.status, message.record_id) {
        crate::domain::audience::record::set_last_contacted(tx, &[id]).await?;
    }
    send_queue::record_outcomes(tx, &viewer.actor(), &run, &[message]).await?;
    send_queue::in_flight(tx, run, -1).await?;
    Ok(())
}

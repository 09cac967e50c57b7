//! What became of a message whose fate was unknown: a person says so.

use async_graphql::Enum;
use entity::communication::{CommunicationStatus, CommunicationTransition, Model};
use entity::id::*;
use entity::run_record::{self, Outcome, RecipientReason};
use entity::step::{StepReason, StepStatus, StepTransition};
use entity::{RunStatus, StateMachine, run, step};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, Set};
use serde_json::json;

use super::{Action, check_allowed, context_of, emit, must_find, must_lock, save};
use crate::domain::message::send_queue;
use crate::domain::plan::run_template;
use crate::domain::run as runs;
use crate::domain::run::step::ActionInput;
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::transact;

/// What became of a message whose fate is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum Resolution {
    /// It went out: its step is completed.
    Sent,
    /// Send it again: its step is queued.
    SendAgain,
    /// It did not go out, and is left so: its step fails.
    NotSent,
}

/// The error of a message of which a person said that it did not go out.
pub(crate) const NOT_SENT: &str = "a person said that it did not go out";

/// The refusal to say what became of a message whose fate is not unknown.
pub(super) fn refused(message: &Model, act: CommunicationTransition) -> Refusal {
    let told = format!("its fate is known, it is {}: only a message that is UNKNOWN is resolved", message.status);
    Refusal { message: told, ..Refusal::transition("communication", message.status, act) }
}

/// Whether a run still sends: what a person let out from guided work also goes when that is done, as a meeting's messages.
fn sends(run: &run::Model, message: &Model) -> bool {
    match run.status {
        RunStatus::InProgress | RunStatus::Paused => true,
        RunStatus::Completed => message.occasion > 0,
        RunStatus::Scheduled | RunStatus::Queued | RunStatus::Failed | RunStatus::Cancelled => false,
    }
}

/// Settles an UNKNOWN outcome, also of a run that has ended. Errors: NOT_FOUND, CONFLICT where it is to go again out of a run
/// that sends no more, INVALID_TRANSITION.
pub async fn resolve(
    db: &Db,
    viewer: &Viewer,
    id: CommunicationId,
    expected: Option<i32>,
    resolution: Resolution,
) -> Result<Model> {
    let run_id = must_find(db.read(), viewer, id).await?.run_id;
    transact!(db, |tx| {
        let run = runs::must_lock(tx, viewer, run_id, None).await?;
        let found = must_lock(tx, viewer, id, expected).await?;
        check_allowed(&found, &context_of(tx, viewer, &found).await?, Action::Resolve)?;
        if resolution == Resolution::SendAgain && !sends(&run, &found) {
            let status = run.status;
            let told = format!("its run is {status} and sends nothing more: say SENT or NOT_SENT");
            return Err(Refusal::conflict(told).with("allowed", json!(["SENT", "NOT_SENT"])).into());
        }
        let (from, revision, place) = (found.status, found.revision, found.run_record_id);
        let (act, step_act, outcome) = match resolution {
            Resolution::Sent => (CommunicationTransition::ResolveSent, StepTransition::Approve, Some(Outcome::Sent)),
            Resolution::SendAgain => {
                (CommunicationTransition::ResolveAgain, StepTransition::Reject { again: true }, None)
            }
            Resolution::NotSent => {
                (CommunicationTransition::ResolveNot, StepTransition::Reject { again: false }, Some(Outcome::Failed))
            }
        };
        let to = from.next(act).ok_or_else(|| Refusal::transition("communication", from, act))?;
        let mut row = found.into_active_model();
        row.status = Set(to);
        // What was said of it while nobody knew is past.
        row.error = Set((resolution == Resolution::NotSent).then(|| NOT_SENT.to_owned()));
        if resolution == Resolution::Sent {
            row.sent_at = Set(Some(tx.now()));
        }
        let communication = save(tx, row, revision).await?;
        let posted = communication.occasion > 0;
        let drafted = step::Entity::find_by_id(communication.step_id).one(tx.db()).await?;
        // An `email` step has a message of its own; what came of its place is said at the run's end, for more may follow.
        let own = drafted.filter(|step| step.kind == run_template::EMAIL);
        if !posted && own.is_none() && run.status.is_open() {
            let because = (resolution == Resolution::NotSent).then(|| RecipientReason::Person.with(Some(NOT_SENT)));
            let settled = run_record::ActiveModel {
                id: Set(place),
                outcome: Set(outcome),
                reason: Set(because),
                ..Default::default()
            };
            settled.update(tx.db()).await?;
        }
        let kind = match to {
            CommunicationStatus::Sent => "communication.sent",
            CommunicationStatus::Failed => "communication.failed",
            _ => "communication.approved",
        };
        emit(tx, viewer, &run, kind, &communication, from, Some("resolved by a person"));
        tx.set_result(id);
        if posted {
            let ended = !run.status.is_open();
            resolved(tx, viewer, run, &communication).await?;
            if ended {
                runs::sweep::close::follow(tx, &[place]).await?;
            }
            return Ok(communication);
        }
        if resolution == Resolution::Sent
            && !communication.test
            && let Some(record) = communication.record_id
        {
            crate::domain::audience::record::contacted(tx, &[record]).await?;
        }
        let waiting = match own {
            Some(own) => Some(own).filter(|step| step.status == StepStatus::AwaitingApproval),
            None => {
                let sending = step::Entity::find()
                    .filter(step::COLUMN.run_record_id.eq(place))
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
            let said = ActionInput { reason: why, code: Some(StepReason::MessageResolved), result: None };
            let step = runs::step::take(tx, viewer, &run, step, step_act, &said).await?;
            if !run.status.is_open() {
                runs::sweep::close::follow(tx, &[place]).await?;
                return Ok(communication);
            }
            let snapshot = runs::snapshot::of(tx.db(), &run).await?;
            let changed = runs::step::Change { step, from: None, kind: "", reason: None };
            runs::dependents::advance(tx, &run, &snapshot, &[changed]).await?;
            runs::advance::advance(tx, viewer, run).await?;
        } else if !run.status.is_open() {
            // Its step was closed with the run.
            runs::sweep::close::follow(tx, &[place]).await?;
        }
        Ok(communication)
    })
}

/// What follows for a message that a person had let out, and whose fate a person has told.
async fn resolved(tx: &Tx, viewer: &Viewer, run: run::Model, message: &Model) -> Result<()> {
    if message.status == CommunicationStatus::Approved {
        return send_queue::queue(tx, viewer, std::slice::from_ref(message)).await;
    }
    if let (CommunicationStatus::Sent, Some(id)) = (message.status, message.record_id) {
        crate::domain::audience::record::contacted(tx, &[id]).await?;
    }
    send_queue::came(tx, &viewer.actor(), &run, &[message]).await?;
    send_queue::in_flight(tx, run, -1).await?;
    Ok(())
}

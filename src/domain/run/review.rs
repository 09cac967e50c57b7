//! The review of messages by people: approve, reject, edit; and the judge of each action on a
//! message.

use async_graphql::Enum;
use entity::communication::{ActiveModel, CommunicationTransition, Model};
use entity::id::*;
use entity::run_record::{self, Outcome};
use entity::{Channel, RunStatus, StateMachine, run};
use sea_orm::{ActiveModelTrait, IntoActiveModel, Set};

use super::{must_find, must_lock, task};
use crate::domain::audience::record::erasure::hold_off;
use crate::domain::content::templating;
use crate::domain::message::communication as ledger;
use crate::domain::plan::run_template;
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};
use crate::transact;

/// An action of a person on a communication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "CommunicationAction")]
pub enum Action {
    /// Approve it for sending.
    Approve,
    /// Reject it: it is not sent.
    Reject,
    /// Change its subject or body before it is sent.
    Edit,
    /// Report the outcome of a message that is UNKNOWN.
    Resolve,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 4] = [Self::Approve, Self::Reject, Self::Edit, Self::Resolve];

    fn transition(self) -> CommunicationTransition {
        match self {
            Self::Approve => CommunicationTransition::Approve,
            Self::Reject => CommunicationTransition::Reject,
            Self::Edit => CommunicationTransition::Edit,
            Self::Resolve => CommunicationTransition::ResolveSent,
        }
    }
}

/// A message's run and review state, on which its allowed actions depend.
#[derive(Clone, Debug)]
pub struct MessageContext {
    run: run::Model,
    under_review: bool,
}

impl MessageContext {
    /// Builds the context from a message's run and its tasks.
    pub fn of(run: run::Model, tasks: &[entity::task::Model]) -> Self {
        let under_review = tasks.iter().any(|task| task.key == run_template::REVIEW_TASK && task.awaiting_approval > 0);
        Self { run, under_review }
    }
}

async fn context_of(tx: &Tx, viewer: &Viewer, communication: &Model) -> Result<MessageContext> {
    let run = must_find(tx.db(), viewer, communication.run_id).await?;
    Ok(MessageContext::of(run, &task::of_runs(tx.db(), viewer, &[communication.run_id]).await?))
}

/// Checks if an action is allowed now; the error says why not. The mutations use the same check.
pub fn check_allowed(communication: &Model, context: &MessageContext, action: Action) -> Result<()> {
    // An unknown outcome can be resolved in any status of the run.
    if action == Action::Resolve {
        return check_unknown(communication);
    }
    let transition = action.transition();
    if communication.status.next(transition).is_none() {
        return Err(Refusal::transition("communication", communication.status, transition).into());
    }
    if context.run.status != RunStatus::InProgress {
        let status = context.run.status;
        return Err(Refusal::conflict(format!(
            "messages can be reviewed only while their run is IN_PROGRESS; it is {status}"
        ))
        .into());
    }
    if !context.under_review {
        return Err(Refusal::conflict("messages can be reviewed only while their review awaits approval").into());
    }
    if communication.action_number > 0 {
        return Err(Refusal::conflict("a person released it from within a step: it has no review").into());
    }
    Ok(())
}

/// Checks that the outcome of a message is unknown, so that it can be resolved. Errors:
/// INVALID_TRANSITION.
pub(super) fn check_unknown(message: &Model) -> Result<()> {
    let act = CommunicationTransition::ResolveSent;
    if message.status.next(act).is_some() {
        return Ok(());
    }
    let text = format!("the message is {}: only a message that is UNKNOWN can be resolved", message.status);
    Err(Refusal { message: text, ..Refusal::transition("communication", message.status, act) }.into())
}

/// A reviewer's changes to a message.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    /// New subject.
    pub subject: Option<String>,
    /// New body.
    pub body: Option<String>,
}

/// Approves, rejects (with a reason) or edits a message. Errors: NOT_FOUND, CONFLICT,
/// INVALID_TRANSITION, BAD_USER_INPUT.
pub async fn review(
    db: &WriteContext,
    viewer: &Viewer,
    id: CommunicationId,
    expected: Option<i32>,
    action: Action,
    reason: Option<&str>,
    edit: &Edit,
) -> Result<Model> {
    let reason = reason.map(|reason| validate::text("reason", reason)).transpose()?;
    if action == Action::Reject && reason.as_deref().is_none_or(validate::is_blank) {
        return Err(Refusal::input("reason", "is required to reject a message").into());
    }
    let run_id = ledger::must_find(db.read(), viewer, id).await?.run_id;
    transact!(db, |tx| {
        let run = must_lock(tx, viewer, run_id, None).await?;
        let found = ledger::must_lock(tx, viewer, id, expected).await?;
        check_allowed(&found, &context_of(tx, viewer, &found).await?, action)?;
        let (from, revision, recipient_id) = (found.status, found.revision, found.run_record_id);
        let to = from.next(action.transition()).unwrap_or(from);
        let mut row = found.clone().into_active_model();
        row.status.set_if_not_equals(to);
        if action == Action::Edit {
            hold_off(tx, viewer, found.record_id).await?;
            edited(&mut row, &found, edit)?;
            row.edited_by = Set(Some(viewer.actor()));
        } else {
            row.reviewed_by = Set(Some(viewer.actor()));
            row.rejected_because = Set(reason.clone().filter(|_| action == Action::Reject));
        }
        let communication = ledger::save(tx, row, revision).await?;
        if action == Action::Reject {
            let why = reason.as_deref().unwrap_or_default();
            let skipped = run_record::ActiveModel {
                id: Set(recipient_id),
                outcome: Set(Some(Outcome::Skipped)),
                reason: Set(Some(format!("REJECTED: {why}"))),
                ..Default::default()
            };
            skipped.update(tx.db()).await?;
        }
        let kind = match action {
            Action::Approve => "communication.approved",
            Action::Reject => "communication.rejected",
            Action::Edit | Action::Resolve => "communication.edited",
        };
        ledger::emit(tx, viewer, &run, kind, &communication, from, reason.as_deref());
        Ok(communication)
    })
}

fn edited(row: &mut ActiveModel, found: &Model, edit: &Edit) -> Result<()> {
    if edit.subject.is_none() && edit.body.is_none() {
        return Err(Refusal::input("body", "give a subject, a body, or both").into());
    }
    if let Some(subject) = &edit.subject {
        if found.channel != Channel::Email {
            return Err(Refusal::input("subject", "only messages over EMAIL have a subject").into());
        }
        let subject = templating::one_line(subject).map_err(|why| Refusal::input("subject", why))?;
        row.search = Set(ledger::search::folded(Some(&subject), &found.to_name));
        row.subject = Set(Some(subject));
    }
    if let Some(body) = &edit.body {
        if body.trim().is_empty() || body.len() > limits::RENDERED_BYTES {
            return Err(
                Refusal::input("body", format!("must not be blank, at most {} bytes", limits::RENDERED_BYTES)).into()
            );
        }
        row.body = Set(body.clone());
    }
    Ok(())
}

//! Handles, ignores, reopens and assigns replies: people's actions on the inbox.

use async_graphql::Enum;
use entity::id::*;
use entity::reply::{COLUMN, Model, ReplyTransition};
use entity::{ReplyStatus, StateMachine};
use sea_orm::{ColumnTrait, Condition, IntoActiveModel, Set};
use serde_json::json;

use crate::domain::message::reply::{must_find, must_lock, save, status};
use crate::kernel::db::WriteContext;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
use crate::transact;

/// An action on a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "ReplyAction")]
pub enum Action {
    /// Mark it as handled.
    Handle,
    /// Mark it as one that needs no answer.
    Ignore,
    /// Open it again after it was handled or ignored.
    Reopen,
    /// Assign it to a member, or to nobody.
    Assign,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 4] = [Self::Handle, Self::Ignore, Self::Reopen, Self::Assign];

    /// The transition; none for an action that leaves the status.
    fn transition(self) -> Option<ReplyTransition> {
        match self {
            Self::Handle => Some(ReplyTransition::Handle),
            Self::Ignore => Some(ReplyTransition::Ignore),
            Self::Reopen => Some(ReplyTransition::Reopen),
            Self::Assign => None,
        }
    }
}

/// Checks if an action is allowed now; the error says why not. The mutations use the same check.
pub fn check_allowed(found: &Model, action: Action) -> Result<()> {
    match action.transition() {
        Some(transition) => match found.status.next(transition) {
            Some(_) => Ok(()),
            None => Err(Refusal::transition("reply", found.status, transition).into()),
        },
        None if found.status == ReplyStatus::Open => Ok(()),
        None => Err(Refusal::conflict(format!("the reply is {}: reopen it to assign it", found.status)).into()),
    }
}

/// Handles, ignores or reopens a reply and the follow-up that was created for it, also after its run
/// has ended. Errors: NOT_FOUND, CONFLICT, INVALID_TRANSITION; BAD_USER_INPUT for a long note.
pub async fn change_status(
    db: &WriteContext,
    viewer: &Viewer,
    id: ReplyId,
    expected: Option<i32>,
    transition: ReplyTransition,
    note: Option<&str>,
) -> Result<Model> {
    let note = note.map(|note| validate::text("note", note)).transpose()?.filter(|note| !note.trim().is_empty());
    let action = match transition {
        ReplyTransition::Handle => Action::Handle,
        ReplyTransition::Ignore => Action::Ignore,
        ReplyTransition::Reopen => Action::Reopen,
    };
    let run_id = must_find(db.read(), viewer, id).await?.run_id;
    transact!(db, |tx| {
        let run = super::must_lock(tx, viewer, run_id, None).await?;
        let found = must_lock(tx, viewer, id, expected).await?;
        check_allowed(&found, action)?;
        let this = Condition::all().add(COLUMN.id.eq(id));
        let changed = status::change(tx, &viewer.actor(), &run, this, transition, note.as_deref()).await?;
        tx.set_result(id);
        let lost = || Refusal::conflict("the reply has been changed by another request");
        Ok(changed.into_iter().next().ok_or_else(lost)?)
    })
}

/// Assigns an open reply to a member; `None` lets anybody handle it. Errors: NOT_FOUND; CONFLICT for
/// a reply that is not open.
pub async fn assign(
    db: &WriteContext,
    viewer: &Viewer,
    id: ReplyId,
    expected: Option<i32>,
    member: Option<MemberId>,
) -> Result<Model> {
    let run_id = must_find(db.read(), viewer, id).await?.run_id;
    transact!(db, |tx| {
        let run = super::must_lock(tx, viewer, run_id, None).await?;
        // Locked, so that the member can't be deleted meanwhile; members come before replies.
        let name = match member {
            Some(id) => Some(crate::domain::people::member::must_lock(tx, viewer, id, None).await?.name),
            None => None,
        };
        let found = must_lock(tx, viewer, id, expected).await?;
        check_allowed(&found, Action::Assign)?;
        tx.set_result(id);
        let (before, revision) = (found.assignee_id, found.revision);
        if before == member {
            return Ok(found);
        }
        let mut row = found.into_active_model();
        row.assignee_id = Set(member);
        let found = save(tx, row, revision).await?;
        let payload = json!({ "memberId": member, "memberName": name, "formerMemberId": before });
        status::emit(tx, &viewer.actor(), "reply.assigned", &run, &found, payload);
        Ok(found)
    })
}

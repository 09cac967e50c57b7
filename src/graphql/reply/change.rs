//! Mutations of replies: record, handle, ignore, reopen, assign.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::reply::ReplyTransition;

use super::Reply;
use crate::domain::message::reply as noun;
use crate::domain::run::handle_reply;
use crate::domain::run::incoming_reply::{self, IncomingReply};
use crate::graphql::viewer;
use crate::kernel::error::Refusal;
use crate::kernel::validate;

/// A reply as it arrived.
#[derive(InputObject)]
pub struct RecordReplyInput {
    /// Id of the answered message; null if `messageId` or `references` identify it.
    communication_id: Option<ID>,
    /// The email's In-Reply-To header as received: one Message-ID or several, with or without angle
    /// brackets, folded or not. The last one that belongs to a message of this org is used. At most
    /// 65,536 bytes. Null if `communicationId` is given.
    message_id: Option<String>,
    /// The email's References header as received, used if `messageId` identifies no message of this
    /// org. At most 65,536 bytes.
    references: Option<String>,
    /// The reply's id in the external system; a reply with the same id is recorded only once.
    external_id: Option<String>,
    /// The subject, stored in full with line breaks replaced by spaces; at most 2,000 characters.
    subject: Option<String>,
    /// The text.
    body: String,
    /// Time of arrival; now by default.
    received_at: Option<DateTime<Utc>>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Identifies the reply to tick off.
#[derive(InputObject)]
pub struct HandleReplyInput {
    /// Id of the reply.
    id: ID,
    /// Note on what was done, or why nothing is; at most 10,000 characters. Null: none.
    note: Option<String>,
    /// Expected revision: rejected with CONFLICT if the reply has changed since. Null: not checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Identifies the reply to open again.
#[derive(InputObject)]
pub struct ReopenReplyInput {
    /// Id of the reply.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the reply has changed since. Null: not checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The member who is to handle a reply.
#[derive(InputObject)]
pub struct AssignReplyInput {
    /// Id of the reply.
    id: ID,
    /// Id of the member; required. Null: anybody may handle it.
    assignee_id: MaybeUndefined<ID>,
    /// Expected revision: rejected with CONFLICT if the reply has changed since. Null: not checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The recorded or changed reply.
#[derive(SimpleObject)]
pub struct ReplyPayload {
    /// The reply.
    reply: Reply,
}

/// Mutations for replies.
#[derive(Default)]
pub struct ReplyMutation;

#[Object]
impl ReplyMutation {
    /// Records a reply: stops its record's open work in an interruptible phase and creates the step
    /// that handles the reply; if a campaign's message has no such step, it creates a follow-up.
    /// Rejected with NOT_FOUND, BAD_USER_INPUT, or CONFLICT for a message that was never sent, or
    /// if `externalId` belongs to a reply to another message.
    async fn record_reply(&self, ctx: &Context<'_>, input: RecordReplyInput) -> Result<ReplyPayload> {
        let incoming = IncomingReply {
            communication_id: input.communication_id.map(|id| validate::id("communicationId", &id)).transpose()?,
            message_id: input.message_id,
            references: input.references,
            external_id: input.external_id,
            subject: input.subject,
            body: input.body,
            received_at: input.received_at.map(|at| chrono::SubsecRound::trunc_subsecs(at, 6)),
        };
        let reply = idempotent!(ctx, input.idempotency_key, |db| incoming_reply::record(db, viewer(ctx), &incoming));
        Ok(ReplyPayload { reply: Reply(reply) })
    }

    /// Marks a reply as handled, and completes the follow-up that was created for it. The step that
    /// handles it is left as it is. Rejected with NOT_FOUND, CONFLICT, or INVALID_TRANSITION if the
    /// reply is not open.
    async fn handle_reply(&self, ctx: &Context<'_>, input: HandleReplyInput) -> Result<ReplyPayload> {
        change(ctx, input, ReplyTransition::Handle).await
    }

    /// Marks a reply as one with which there is nothing to do, and cancels the follow-up that was
    /// created for it. Rejected as `handleReply`.
    async fn ignore_reply(&self, ctx: &Context<'_>, input: HandleReplyInput) -> Result<ReplyPayload> {
        change(ctx, input, ReplyTransition::Ignore).await
    }

    /// Opens a reply again that was handled or ignored, and the follow-up that was created for it.
    /// Rejected with NOT_FOUND, CONFLICT, or INVALID_TRANSITION if the reply is open.
    async fn reopen_reply(&self, ctx: &Context<'_>, input: ReopenReplyInput) -> Result<ReplyPayload> {
        let input = HandleReplyInput {
            id: input.id,
            note: None,
            expected_revision: input.expected_revision,
            idempotency_key: input.idempotency_key,
        };
        change(ctx, input, ReplyTransition::Reopen).await
    }

    /// Assigns an open reply to a member, or to nobody. Rejected with NOT_FOUND, or CONFLICT if the
    /// reply is not open.
    async fn assign_reply(&self, ctx: &Context<'_>, input: AssignReplyInput) -> Result<ReplyPayload> {
        let id = validate::id("id", &input.id)?;
        let member = match &input.assignee_id {
            MaybeUndefined::Value(id) => Some(validate::id("assigneeId", id)?),
            MaybeUndefined::Null => None,
            MaybeUndefined::Undefined => {
                let message = "is required; pass null to assign the reply to anybody who may";
                return Err(Refusal::input("assigneeId", message).into());
            }
        };
        let expected = input.expected_revision;
        let reply =
            idempotent!(ctx, input.idempotency_key, |db| handle_reply::assign(db, viewer(ctx), id, expected, member));
        Ok(ReplyPayload { reply: Reply(reply) })
    }
}

async fn change(ctx: &Context<'_>, input: HandleReplyInput, transition: ReplyTransition) -> Result<ReplyPayload> {
    let id = validate::id("id", &input.id)?;
    let (expected, note) = (input.expected_revision, input.note.as_deref());
    let reply = idempotent!(ctx, input.idempotency_key, |db| handle_reply::change_status(
        db,
        viewer(ctx),
        id,
        expected,
        transition,
        note
    ));
    Ok(ReplyPayload { reply: Reply(reply) })
}

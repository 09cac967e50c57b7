//! Replies: answers from records, with their query and mutation.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::Channel;

use super::communication::Communication;
use super::list::{List, Totals, args, list};
use super::loader::{load, must_load};
use super::record::Record;
use super::run::Run;
use super::{Actor, db, viewer};
use crate::domain::message::reply::{self as noun, Filter};
use crate::domain::run::incoming_reply::{self, IncomingReply};
use crate::graphql::counted::Counted;
use crate::graphql::selection::RowFields;
use crate::kernel::validate;

/// An answer to a message, linked to its communication, run and record.
pub struct Reply(pub entity::reply::Model);

impl RowFields for Reply {}

/// An answer to a message, linked to its communication, run and record.
#[Object]
impl Reply {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The message that it answers.
    async fn communication(&self, ctx: &Context<'_>) -> Result<Communication> {
        Ok(Communication(must_load(ctx, self.0.communication_id).await?))
    }

    /// The run of the answered message.
    async fn run(&self, ctx: &Context<'_>) -> Result<Run> {
        Ok(must_load(ctx, self.0.run_id).await?.into())
    }

    /// The record that replied; null for a test recipient without a sample record.
    async fn record(&self, ctx: &Context<'_>) -> Result<Option<Record>> {
        Ok(load(ctx, self.0.record_id).await?.map(Record))
    }

    /// The channel on which it arrived.
    async fn channel(&self) -> Channel {
        self.0.channel
    }

    /// The reply's id in the external system; null if none was given.
    async fn external_id(&self) -> Option<&str> {
        self.0.external_id.as_deref()
    }

    /// The subject; null if it has none.
    async fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// The text.
    async fn body(&self) -> Counted<&str> {
        Counted(&self.0.body)
    }

    /// Time of arrival.
    async fn received_at(&self) -> DateTime<Utc> {
        self.0.received_at
    }

    /// The actor that recorded it.
    async fn recorded_by(&self) -> Actor {
        self.0.recorded_by.clone().into()
    }
}

/// Query fields for replies.
#[derive(Default)]
pub struct ReplyQuery;

#[Object]
impl ReplyQuery {
    /// Replies of one run, of one campaign or of the whole org, newest first. Page with `first` and
    /// `after`, or `last` and `before`; page size 50 by default, at most 500.
    #[allow(clippy::too_many_arguments, reason = "each is an argument of the field")]
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn replies(
        &self,
        ctx: &Context<'_>,
        run_id: Option<ID>,
        campaign_id: Option<ID>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<Reply>> {
        let filter = Filter {
            run_id: run_id.map(|id| validate::id("runId", &id)).transpose()?,
            campaign_id: campaign_id.map(|id| validate::id("campaignId", &id)).transpose()?,
            record_id: None,
            communication_id: None,
        };
        let page = noun::page(db(ctx), viewer(ctx), filter, &args(first, after, last, before)).await?;
        Ok(list(page, Totals::Replies(filter), Reply))
    }
}

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

/// The recorded reply.
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
}

//! Replies.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::Channel;

use super::communication::Communication;
use super::list::{List, Totals, args, list};
use super::loader::{load, must_load};
use super::record::Record;
use super::run::Run;
use super::{Actor, db, viewer};
use crate::domain::message::reply::{self as noun, Filter, IncomingReply};
use crate::graphql::counted::Counted;
use crate::kernel::validate;

/// What came back, tied to its communication, run and record.
pub struct Reply(pub entity::reply::Model);

/// What came back, tied to its communication, run and record.
#[Object]
impl Reply {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// What it answers.
    async fn communication(&self, ctx: &Context<'_>) -> Result<Communication> {
        Ok(Communication(must_load(ctx, self.0.communication_id).await?))
    }

    /// The run that it is about.
    async fn run(&self, ctx: &Context<'_>) -> Result<Run> {
        Ok(must_load(ctx, self.0.run_id).await?.into())
    }

    /// Whose reply; null for a test recipient without a sample.
    async fn record(&self, ctx: &Context<'_>) -> Result<Option<Record>> {
        Ok(load(ctx, self.0.record_id).await?.map(Record))
    }

    /// The way it came.
    async fn channel(&self) -> Channel {
        self.0.channel
    }

    /// Its id where it came from; null where none was given.
    async fn external_id(&self) -> Option<&str> {
        self.0.external_id.as_deref()
    }

    /// The subject; null where it had none.
    async fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// The text.
    async fn body(&self) -> Counted<&str> {
        Counted(&self.0.body)
    }

    /// When it came.
    async fn received_at(&self) -> DateTime<Utc> {
        self.0.received_at
    }

    /// Who recorded it.
    async fn recorded_by(&self) -> Actor {
        self.0.recorded_by.clone().into()
    }
}

/// The noun's part of the query root.
#[derive(Default)]
pub struct ReplyQuery;

#[Object]
impl ReplyQuery {
    /// Replies, the newest first, of one run or campaign or of all. `first` after a cursor, or `last` before one.
    #[allow(clippy::too_many_arguments)]
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

/// A reply as it came.
#[derive(InputObject)]
pub struct RecordReplyInput {
    /// The message it answers; null where `messageId` or `references` name it.
    communication_id: Option<ID>,
    /// The mail's In-Reply-To header as it came: one Message-ID or several, with angle brackets or without, folded or not.
    /// The last one that is a message of this org is taken. At most 65,536 bytes. Null where `communicationId` is given.
    message_id: Option<String>,
    /// The mail's References header as it came, looked at where `messageId` names no message of this org. At most 65,536
    /// bytes.
    references: Option<String>,
    /// Its own id where it came from: the same one is recorded once.
    external_id: Option<String>,
    /// The subject, kept whole, line breaks made spaces; at most 2,000 characters.
    subject: Option<String>,
    /// The text.
    body: String,
    /// When it came; now unless said.
    received_at: Option<DateTime<Utc>>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What was recorded.
#[derive(SimpleObject)]
pub struct ReplyPayload {
    /// The reply.
    reply: Reply,
}

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct ReplyMutation;

#[Object]
impl ReplyMutation {
    /// Records a reply: stops what is still open for its record in an interruptible phase, and makes the step that
    /// handles it. Refused with NOT_FOUND, BAD_USER_INPUT, CONFLICT for a message that never went out.
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
        let reply = idempotent!(ctx, input.idempotency_key, |db| noun::record(db, viewer(ctx), &incoming));
        Ok(ReplyPayload { reply: Reply(reply) })
    }
}

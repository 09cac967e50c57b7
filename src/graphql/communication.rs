//! Communications: messages to records, and the reviewer's decisions on them.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::id::CommunicationId;
use entity::{Channel, CommunicationStatus};

use super::list::{CommunicationTotals, List, args, list};
use super::loader::{PartsOfRun, load, must_load};
use super::meeting::Meeting;
use super::record::Record;
use super::reply::{Reply, ReplyTotals, replies};
use super::run::Run;
use super::{Actor, AvailableAction, db, viewer};
use crate::domain::message::communication::{self as noun, Filter};
use crate::domain::message::reply::Filter as ReplyFilter;
use crate::domain::run::resolve::{Resolution, resolve};
use crate::domain::run::review::{Action, Edit, MessageContext, check_allowed, review};
use crate::graphql::counted::Counted;
use crate::graphql::selection::{Row, nodes_page, text};
use crate::kernel::page::Args;
use crate::kernel::validate;

/// One message to one record.
pub struct Communication(pub entity::communication::Model);

row_fields! {
    Communication, entity::communication, |row: 0|
    "id" [Id] => text(row.id),
    "channel" [Channel] => row.channel.to_value(),
    "toAddress" [ToAddress] => row.to_address.to_value(),
    "toName" [ToName] => row.to_name.to_value(),
    "subject" [Subject] => row.subject.to_value(),
    "status" [Status] => row.status.to_value(),
    "test" [Test] => row.test.to_value(),
    "segments" [Channel, Body] => segments(row).to_value(),
    "messageId" [MessageId] => row.message_id.to_value(),
    "rejectedBecause" [RejectedBecause] => row.rejected_because.to_value(),
    "error" [Error] => row.error.to_value(),
    "sentAt" [SentAt] => row.sent_at.to_value(),
    "calendar" [Calendar] => row.calendar.to_value(),
    "createdAt" [CreatedAt] => row.created_at.to_value(),
    "revision" [Revision] => row.revision.to_value(),
    resolved from:
    "sender" [Channel, MessageId],
    "run" [RunId],
    "record" [RecordId],
}

/// The name and address that mail goes out from.
#[derive(Clone, Debug, SimpleObject)]
pub struct Sender {
    /// The name that readers see; null if only the address is configured.
    pub name: Option<String>,
    /// The mail address.
    pub address: String,
}

/// One message to one record.
#[Object]
impl Communication {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The run that it belongs to.
    async fn run(&self, ctx: &Context<'_>) -> Result<Row<Run>> {
        Ok(Row(must_load(ctx, self.0.run_id).await?.into()))
    }

    /// The record that it is addressed to; null for a test recipient without a sample record.
    async fn record(&self, ctx: &Context<'_>) -> Result<Option<Row<Record>>> {
        Ok(load(ctx, self.0.record_id).await?.map(Record).map(Row))
    }

    /// The channel on which it is sent.
    async fn channel(&self) -> Channel {
        self.0.channel
    }

    /// The sender that it goes out from: the server's `--mail-from`. Null when none is known: for other
    /// channels than EMAIL, and for a message drafted while the server sent from another domain.
    async fn sender(&self, ctx: &Context<'_>) -> Option<Sender> {
        let sender = ctx.data_opt::<Sender>().filter(|_| self.0.channel == Channel::Email)?;
        let domain = |text: &str| text.rsplit('@').next().unwrap_or_default().to_owned();
        (domain(&self.0.message_id) == domain(&sender.address)).then(|| sender.clone())
    }

    /// The recipient's address: an email address or a telephone number.
    async fn to_address(&self) -> &str {
        &self.0.to_address
    }

    /// The recipient's name; empty if it is not known.
    async fn to_name(&self) -> &str {
        &self.0.to_name
    }

    /// The subject; null if the channel has none.
    async fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// The text.
    async fn body(&self) -> Counted<&str> {
        Counted(&self.0.body)
    }

    /// Current status.
    async fn status(&self) -> CommunicationStatus {
        self.0.status
    }

    /// True for a test message, which is sent to a test address only.
    async fn test(&self) -> bool {
        self.0.test
    }

    /// Number of parts in which the text is sent as SMS: of 160 characters of the GSM alphabet, or
    /// 70 if the text has others; 153 or 67 if there are several. Null for other channels.
    async fn segments(&self) -> Option<i32> {
        segments(&self.0)
    }

    /// The email's Message-ID, without angle brackets; never changes.
    async fn message_id(&self) -> &str {
        &self.0.message_id
    }

    /// The person who edited it; null if nobody did.
    async fn edited_by(&self) -> Option<Actor> {
        self.0.edited_by.clone().map(Actor::from)
    }

    /// The reviewer who approved or rejected this message; null if nobody did, also if it was
    /// approved together with others by approving the review.
    async fn reviewed_by(&self) -> Option<Actor> {
        self.0.reviewed_by.clone().map(Actor::from)
    }

    /// Reason given with the last rejection; null if the message was not rejected.
    async fn rejected_because(&self) -> Option<&str> {
        self.0.rejected_because.as_deref()
    }

    /// Reason why it was not sent or its outcome is unknown: the error of the upstream provider, a
    /// missing or duplicate address, a lost worker, or the statement of a person. Null if there is
    /// none.
    async fn error(&self) -> Option<&str> {
        self.0.error.as_deref()
    }

    /// Time at which the upstream provider accepted it; null before.
    async fn sent_at(&self) -> Option<DateTime<Utc>> {
        self.0.sent_at
    }

    /// The meeting that it is an invitation or update for; null for other messages.
    async fn meeting(&self, ctx: &Context<'_>) -> Result<Option<Meeting>> {
        Ok(load(ctx, self.0.meeting_id).await?.map(Meeting))
    }

    /// Calendar attachment as iCalendar (RFC 5545); null if it has none.
    async fn calendar(&self) -> Option<&str> {
        self.0.calendar.as_deref()
    }

    /// Time at which it was drafted.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// Incremented by every change except the one to the status SENDING; pass it back as
    /// `expectedRevision` to detect conflicts.
    async fn revision(&self) -> i32 {
        self.0.revision
    }

    /// Replies to it, newest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn replies(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<Reply, ReplyTotals>> {
        let filter =
            ReplyFilter { communication_ids: Some(vec![self.0.id.to_string().into()]), ..ReplyFilter::default() };
        Box::pin(replies(ctx, filter, None, args(first, after, None, None), false)).await
    }

    /// All actions on the message: allowed now, or blocked with the reason.
    #[graphql(complexity = "10 + child_complexity")]
    async fn available_actions(&self, ctx: &Context<'_>) -> Result<Vec<AvailableAction>> {
        let (run, parts) = (must_load(ctx, self.0.run_id).await?, must_load(ctx, PartsOfRun(self.0.run_id)).await?);
        let context = MessageContext::of(run, &parts.tasks);
        Action::ALL
            .into_iter()
            .map(|action| AvailableAction::of_verdict(action, check_allowed(&self.0, &context, action)))
            .collect()
    }
}

/// The number of parts of a message by SMS.
fn segments(row: &entity::communication::Model) -> Option<i32> {
    (row.channel == Channel::Sms).then(|| crate::domain::message::sms::segments(&row.body))
}

/// Returns one page of messages, in order of creation.
pub(in crate::graphql) async fn communications(
    ctx: &Context<'_>,
    filter: Filter,
    args: Args,
    alone: bool,
) -> Result<List<Communication, CommunicationTotals>> {
    let window = noun::window(db(ctx), viewer(ctx), &filter, args)?;
    Ok(list(nodes_page::<Communication, _>(ctx, window, alone).await?, CommunicationTotals(filter), Communication))
}

/// Query fields for messages.
#[derive(Default)]
pub struct CommunicationQuery;

#[Object]
impl CommunicationQuery {
    /// Returns the message with this id; null if the org has none.
    async fn communication(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Communication>> {
        let id = validate::id::<CommunicationId>("id", &id)?;
        Ok(Box::pin(noun::find(db(ctx).read(), viewer(ctx), id)).await?.map(Communication))
    }

    /// Messages that match the filter, in order of creation. Page with `first` and `after`, or
    /// `last` and `before`; page size 50 by default, at most 500.
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn communications(
        &self,
        ctx: &Context<'_>,
        filter: Option<Filter>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<Communication, CommunicationTotals>> {
        Box::pin(communications(ctx, filter.unwrap_or_default(), args(first, after, last, before), true)).await
    }
}

/// A reviewer's decision on a message.
#[derive(InputObject)]
pub struct CommunicationVerdictInput {
    /// Id of the message.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the message has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// Reason, stored in the event. Required by rejectCommunication, which stores it in
    /// `Communication.rejectedBecause`, too.
    reason: Option<String>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// New content for a message.
#[derive(InputObject)]
pub struct EditCommunicationInput {
    /// Id of the message.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the message has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// The new subject, a single line.
    subject: Option<String>,
    /// The new body.
    body: Option<String>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The outcome of a message with the status UNKNOWN.
#[derive(InputObject)]
pub struct ResolveCommunicationInput {
    /// Id of the message.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the message has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// The actual outcome.
    resolution: Resolution,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The changed message.
#[derive(SimpleObject)]
pub struct CommunicationPayload {
    /// The message after the change.
    communication: Communication,
}

/// Mutations for messages.
#[derive(Default)]
pub struct CommunicationMutation;

#[Object]
impl CommunicationMutation {
    /// Approves a message while its review awaits approval. It is sent once the review is approved.
    async fn approve_communication(
        &self,
        ctx: &Context<'_>,
        input: CommunicationVerdictInput,
    ) -> Result<CommunicationPayload> {
        judge(ctx, input, Action::Approve).await
    }

    /// Rejects a message, with a reason. Its record is skipped in the run.
    async fn reject_communication(
        &self,
        ctx: &Context<'_>,
        input: CommunicationVerdictInput,
    ) -> Result<CommunicationPayload> {
        judge(ctx, input, Action::Reject).await
    }

    /// Edits a message while its review awaits approval. An approved message becomes a draft again.
    async fn edit_communication(
        &self,
        ctx: &Context<'_>,
        input: EditCommunicationInput,
    ) -> Result<CommunicationPayload> {
        let id = validate::id("id", &input.id)?;
        let edit = Edit { subject: input.subject, body: input.body };
        let expected = input.expected_revision;
        let row = idempotent!(ctx, input.idempotency_key, |db| review(
            db,
            viewer(ctx),
            id,
            expected,
            Action::Edit,
            None,
            &edit
        ));
        Ok(CommunicationPayload { communication: Communication(row) })
    }

    /// Resolves a message with the status UNKNOWN: as sent, to be sent again, or as not sent.
    async fn resolve_communication(
        &self,
        ctx: &Context<'_>,
        input: ResolveCommunicationInput,
    ) -> Result<CommunicationPayload> {
        let id = validate::id("id", &input.id)?;
        let (expected, resolution) = (input.expected_revision, input.resolution);
        let row = idempotent!(ctx, input.idempotency_key, |db| resolve(db, viewer(ctx), id, expected, resolution));
        Ok(CommunicationPayload { communication: Communication(row) })
    }
}

async fn judge(ctx: &Context<'_>, input: CommunicationVerdictInput, action: Action) -> Result<CommunicationPayload> {
    let id = validate::id("id", &input.id)?;
    let (expected, edit) = (input.expected_revision, Edit::default());
    let reason = input.reason.as_deref();
    let row =
        idempotent!(ctx, input.idempotency_key, |db| review(db, viewer(ctx), id, expected, action, reason, &edit));
    Ok(CommunicationPayload { communication: Communication(row) })
}

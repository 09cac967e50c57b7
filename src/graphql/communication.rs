//! Communications: messages, and a reviewer's verdicts.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::id::CommunicationId;
use entity::{Channel, CommunicationStatus};

use super::list::{List, Totals, args, list};
use super::loader::{CampaignPartsOfRun, below, load, must_load};
use super::meeting::Meeting;
use super::record::Record;
use super::reply::Reply;
use super::run::Run;
use super::{Actor, AvailableAction, db, viewer};
use crate::domain::message::communication::{self as noun, Action, Edit, Filter, Resolution};
use crate::graphql::counted::Counted;
use crate::kernel::validate;

/// One message to one record.
pub struct Communication(pub entity::communication::Model);

/// One message to one record.
#[Object]
impl Communication {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The run that it is of.
    async fn run(&self, ctx: &Context<'_>) -> Result<Run> {
        Ok(must_load(ctx, self.0.run_id).await?.into())
    }

    /// The record that it is for; null for a test recipient without a sample.
    async fn record(&self, ctx: &Context<'_>) -> Result<Option<Record>> {
        Ok(load(ctx, self.0.record_id).await?.map(Record))
    }

    /// The way it goes.
    async fn channel(&self) -> Channel {
        self.0.channel
    }

    /// Where it goes.
    async fn to_address(&self) -> &str {
        &self.0.to_address
    }

    /// To whom; empty where the name is not known.
    async fn to_name(&self) -> &str {
        &self.0.to_name
    }

    /// The subject; null where the channel has none.
    async fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// The text.
    async fn body(&self) -> Counted<&str> {
        Counted(&self.0.body)
    }

    /// Where it stands.
    async fn status(&self) -> CommunicationStatus {
        self.0.status
    }

    /// Whether it is a test, which goes to a test address only.
    async fn test(&self) -> bool {
        self.0.test
    }

    /// The Message-ID, without angle brackets; fixed for good.
    async fn message_id(&self) -> &str {
        &self.0.message_id
    }

    /// Who changed it by hand; null where nobody did.
    async fn edited_by(&self) -> Option<Actor> {
        self.0.edited_by.clone().map(Actor::from)
    }

    /// Who gave a verdict on it; null where nobody did.
    async fn reviewed_by(&self) -> Option<Actor> {
        self.0.reviewed_by.clone().map(Actor::from)
    }

    /// Why it was rejected; null where it was not.
    async fn rejected_because(&self) -> Option<&str> {
        self.0.rejected_because.as_deref()
    }

    /// What the outside said when it refused; null where it did not.
    async fn error(&self) -> Option<&str> {
        self.0.error.as_deref()
    }

    /// When it was accepted by the outside; null before.
    async fn sent_at(&self) -> Option<DateTime<Utc>> {
        self.0.sent_at
    }

    /// The meeting that it is about; null for other messages.
    async fn meeting(&self, ctx: &Context<'_>) -> Result<Option<Meeting>> {
        Ok(load(ctx, self.0.meeting_id).await?.map(Meeting))
    }

    /// What goes with it for the calendar, as iCalendar (RFC 5545); null where nothing does.
    async fn calendar(&self) -> Option<&str> {
        self.0.calendar.as_deref()
    }

    /// When it was drafted.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// Counts its changes; pass it back as `expectedRevision`.
    async fn revision(&self) -> i32 {
        self.0.revision
    }

    /// What came back, the newest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn replies(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<List<Reply>> {
        let filter = crate::domain::message::reply::Filter {
            communication_id: Some(self.0.id),
            ..crate::domain::message::reply::Filter::default()
        };
        let window = crate::domain::message::reply::window(viewer(ctx), filter, args(first, after, None, None))?;
        let page = below(ctx, window, false).await?;
        Ok(list(page, Totals::Replies(filter), Reply))
    }

    /// What can be done with it now, and why not the rest.
    #[graphql(complexity = "10 + child_complexity")]
    async fn available_actions(&self, ctx: &Context<'_>) -> Result<Vec<AvailableAction>> {
        let (run, parts) =
            (must_load(ctx, self.0.run_id).await?, must_load(ctx, CampaignPartsOfRun(self.0.run_id)).await?);
        let around = noun::MessageContext::of(run, &parts.tasks);
        Action::ALL
            .into_iter()
            .map(|action| AvailableAction::judged(action, noun::check_allowed(&self.0, &around, action)))
            .collect()
    }
}

/// The noun's part of the query root.
#[derive(Default)]
pub struct CommunicationQuery;

#[Object]
impl CommunicationQuery {
    /// One by its id; null where the org has none with it.
    async fn communication(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Communication>> {
        let id = validate::id::<CommunicationId>("id", &id)?;
        Ok(Box::pin(noun::find(db(ctx).read(), viewer(ctx), id)).await?.map(Communication))
    }

    /// Messages by filter, in order of making. `first` after a cursor, or `last` before one; 50 unless said, at most
    /// 500.
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn communications(
        &self,
        ctx: &Context<'_>,
        filter: Option<Filter>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<Communication>> {
        let filter = filter.unwrap_or_default();
        let page = Box::pin(noun::page(db(ctx), viewer(ctx), &filter, &args(first, after, last, before))).await?;
        Ok(list(page, Totals::Communications(filter), Communication))
    }
}

/// A verdict on a message.
#[derive(InputObject)]
pub struct CommunicationVerdictInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// Why; needed to reject.
    reason: Option<String>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// Another text for a message.
#[derive(InputObject)]
pub struct EditCommunicationInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// Another subject, one line.
    subject: Option<String>,
    /// Another text.
    body: Option<String>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What became of a message whose fate is unknown.
#[derive(InputObject)]
pub struct ResolveCommunicationInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// What became of it.
    resolution: Resolution,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What was changed.
#[derive(SimpleObject)]
pub struct CommunicationPayload {
    /// As it is now.
    communication: Communication,
}

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct CommunicationMutation;

#[Object]
impl CommunicationMutation {
    /// Lets a message out, while its review awaits approval; it goes when the review is approved.
    async fn approve_communication(
        &self,
        ctx: &Context<'_>,
        input: CommunicationVerdictInput,
    ) -> Result<CommunicationPayload> {
        judge(ctx, input, Action::Approve).await
    }

    /// Holds a message back, with a reason; its record is left out of the run.
    async fn reject_communication(
        &self,
        ctx: &Context<'_>,
        input: CommunicationVerdictInput,
    ) -> Result<CommunicationPayload> {
        judge(ctx, input, Action::Reject).await
    }

    /// Changes a message, while its review awaits approval; an approved one becomes a draft again.
    async fn edit_communication(
        &self,
        ctx: &Context<'_>,
        input: EditCommunicationInput,
    ) -> Result<CommunicationPayload> {
        let id = validate::id("id", &input.id)?;
        let edit = Edit { subject: input.subject, body: input.body };
        let expected = input.expected_revision;
        let row = idempotent!(ctx, input.idempotency_key, |db| noun::judge(
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

    /// Settles an UNKNOWN message: it went out, is sent again, or is left unsent.
    async fn resolve_communication(
        &self,
        ctx: &Context<'_>,
        input: ResolveCommunicationInput,
    ) -> Result<CommunicationPayload> {
        let id = validate::id("id", &input.id)?;
        let (expected, resolution) = (input.expected_revision, input.resolution);
        let row =
            idempotent!(ctx, input.idempotency_key, |db| noun::resolve(db, viewer(ctx), id, expected, resolution));
        Ok(CommunicationPayload { communication: Communication(row) })
    }
}

async fn judge(ctx: &Context<'_>, input: CommunicationVerdictInput, action: Action) -> Result<CommunicationPayload> {
    let id = validate::id("id", &input.id)?;
    let (expected, edit) = (input.expected_revision, Edit::default());
    let reason = input.reason.as_deref();
    let row =
        idempotent!(ctx, input.idempotency_key, |db| noun::judge(db, viewer(ctx), id, expected, action, reason, &edit));
    Ok(CommunicationPayload { communication: Communication(row) })
}

//! Records.

pub mod timeline;

use async_graphql::{Context, Enum, ID, InputObject, Json, MaybeUndefined, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::id::RecordId;

use super::activity::{Activity, activities};
use super::communication::Communication;
use super::follow_up::{FollowUp, follow_ups};
use super::list::{List, Totals, args, list};
use super::loader::below;
use super::reply::Reply;
use super::{db, viewer};
use crate::domain::audience::record::filter::RecordFilter;
use crate::domain::audience::record::{self as noun, SortBy};
use crate::graphql::counted::Counted;
use crate::kernel::validate;

/// What work is done on: a lead, contact, partnership, order, ticket.
pub struct Record(pub entity::record::Model);

/// What work is done on: a lead, contact, partnership, order, ticket.
#[Object]
impl Record {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// What it is: `lead`, `contact`, `order` …
    async fn kind(&self) -> &str {
        &self.0.kind
    }

    /// Its id where it came from, unique per kind; null where it was made here without one.
    async fn external_id(&self) -> Option<&str> {
        self.0.external_id.as_deref()
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The mail address; null where none is known.
    async fn email(&self) -> Option<&str> {
        self.0.email.as_deref()
    }

    /// The telephone number, E.164; null where none is known.
    async fn phone(&self) -> Option<&str> {
        self.0.phone.as_deref()
    }

    /// The IANA time zone; null where none is known.
    async fn time_zone(&self) -> Option<&str> {
        self.0.time_zone.as_deref()
    }

    /// Where it stands in its pipeline; null where it is in none.
    async fn stage(&self) -> Option<&str> {
        self.0.stage.as_deref()
    }

    /// When it was last written to or called; null: never.
    async fn last_contacted_at(&self) -> Option<DateTime<Utc>> {
        self.0.last_contacted_at
    }

    /// How urgent it is, the greater the more: its attribute `priority`, and 0 where that is no number.
    async fn priority(&self) -> i32 {
        self.0.priority
    }

    /// When it last replied; null: never.
    async fn last_replied_at(&self) -> Option<DateTime<Utc>> {
        self.0.last_replied_at
    }

    /// What happened with it, in one order, the newest first: communications, replies, activities, stage changes, runs.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn timeline(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<timeline::TimelineEntry>> {
        Box::pin(timeline::timeline(ctx, self.0.id, first, after)).await
    }

    /// What was written to it, the newest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn communications(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<Communication>> {
        let filter = crate::domain::message::communication::Filter {
            record_ids: Some(vec![self.0.id.to_string().into()]),
            ..crate::domain::message::communication::Filter::default()
        };
        let window = crate::domain::message::communication::latest(
            db(ctx),
            viewer(ctx),
            &filter,
            args(first, after, None, None),
        )?;
        Ok(list(below(ctx, window, false).await?, Totals::Communications(filter), Communication))
    }

    /// What came back from it, the newest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn replies(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<List<Reply>> {
        let filter = crate::domain::message::reply::Filter {
            record_id: Some(self.0.id),
            ..crate::domain::message::reply::Filter::default()
        };
        let window = crate::domain::message::reply::window(viewer(ctx), filter, args(first, after, None, None))?;
        Ok(list(below(ctx, window, false).await?, Totals::Replies(filter), Reply))
    }

    /// What people did with it in guided work, the newest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn activities(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<List<Activity>> {
        let filter = crate::domain::message::activity::Filter {
            record_ids: Some(vec![self.0.id.to_string().into()]),
            ..crate::domain::message::activity::Filter::default()
        };
        Box::pin(activities(ctx, filter, args(first, after, None, None), false)).await
    }

    /// What is to be done about it, the newest first; the open ones unless said.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn follow_ups(
        &self,
        ctx: &Context<'_>,
        statuses: Option<Vec<entity::FollowUpStatus>>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<FollowUp>> {
        let filter = crate::domain::follow_up::Filter {
            record_ids: Some(vec![self.0.id.to_string().into()]),
            statuses: Some(statuses.unwrap_or_else(|| vec![entity::FollowUpStatus::Open])),
            ..crate::domain::follow_up::Filter::default()
        };
        Box::pin(follow_ups(ctx, filter, args(first, after, None, None), false)).await
    }

    /// When it asked to be left alone; null: it did not.
    async fn unsubscribed_at(&self) -> Option<DateTime<Utc>> {
        self.0.unsubscribed_at
    }

    /// Everything else that is known, a flat object.
    async fn attributes(&self) -> Counted<Json<serde_json::Value>> {
        Counted(Json(self.0.attributes.clone()))
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// When it was last changed.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }

    /// Counts its changes; pass it back as `expectedRevision`.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

/// From the least up, or from the greatest down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum Direction {
    /// From the least up.
    Asc,
    /// From the greatest down.
    Desc,
}

/// How records are sorted.
#[derive(InputObject)]
pub struct RecordOrder {
    /// By what.
    field: SortBy,
    /// In which direction.
    direction: Direction,
}

/// The noun's part of the query root.
#[derive(Default)]
pub struct RecordQuery;

#[Object]
impl RecordQuery {
    /// One by its id; null where the org has none with it.
    async fn record(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Record>> {
        Ok(Box::pin(noun::find(db(ctx).read(), viewer(ctx), validate::id::<RecordId>("id", &id)?)).await?.map(Record))
    }

    /// Records by filter, the newest first unless said. `first` after a cursor, or `last` before one; 50 unless said,
    /// at most 500.
    #[allow(clippy::too_many_arguments)]
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn records(
        &self,
        ctx: &Context<'_>,
        filter: Option<RecordFilter>,
        order_by: Option<RecordOrder>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<Record>> {
        let filter = filter.unwrap_or_default();
        let order = order_by.unwrap_or(RecordOrder { field: SortBy::CreatedAt, direction: Direction::Desc });
        let descending = order.direction == Direction::Desc;
        let page = Box::pin(noun::page(
            db(ctx),
            viewer(ctx),
            &filter,
            order.field,
            descending,
            &args(first, after, last, before),
        ))
        .await?;
        Ok(list(page, Totals::Records(Box::new(filter)), Record))
    }
}

/// What is to be made.
#[derive(InputObject)]
pub struct CreateRecordInput {
    /// What it is: `lead`, `contact` …
    kind: String,
    /// Its id where it came from, unique per kind.
    external_id: Option<String>,
    /// The name.
    name: String,
    /// The mail address.
    email: Option<String>,
    /// The telephone number, E.164.
    phone: Option<String>,
    /// The IANA time zone.
    time_zone: Option<String>,
    /// The stage.
    stage: Option<String>,
    /// When it was last contacted.
    last_contacted_at: Option<DateTime<Utc>>,
    /// Everything else, a flat object.
    attributes: Option<Json<serde_json::Value>>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What is to be changed: only what is given; null takes away.
#[derive(InputObject)]
pub struct UpdateRecordInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// Another name.
    name: Option<String>,
    /// Another mail address.
    email: MaybeUndefined<String>,
    /// Another telephone number.
    phone: MaybeUndefined<String>,
    /// Another time zone.
    time_zone: MaybeUndefined<String>,
    /// Another stage.
    stage: MaybeUndefined<String>,
    /// When it was last contacted.
    last_contacted_at: MaybeUndefined<DateTime<Utc>>,
    /// All attributes anew, a flat object.
    attributes: Option<Json<serde_json::Value>>,
    /// Whether it asks to be left alone.
    unsubscribed: Option<bool>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// Which records are to be left alone.
#[derive(InputObject)]
pub struct UnsubscribeRecordsInput {
    /// Those that this lets through now.
    filter: noun::filter::RecordFilter,
    /// Why; kept on their events.
    reason: Option<String>,
    /// Only counts them.
    dry_run: Option<bool>,
}

/// What was begun.
#[derive(SimpleObject)]
pub struct UnsubscribeRecordsPayload {
    /// How many records it is about: those that the filter lets through and that were still subscribed.
    count: u64,
}

/// What was made or changed.
#[derive(SimpleObject)]
pub struct RecordPayload {
    /// As it is now.
    record: Record,
}

deletion!(RecordDeletion: delete_record of RecordId);

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct RecordMutation;

#[Object]
impl RecordMutation {
    /// Makes one. Refused with BAD_USER_INPUT, or CONFLICT where there is one of this kind and external id.
    async fn create_record(&self, ctx: &Context<'_>, input: CreateRecordInput) -> Result<RecordPayload> {
        let fields = noun::Fields {
            kind: Some(input.kind),
            external_id: input.external_id,
            name: Some(input.name),
            email: input.email.map(Some),
            phone: input.phone.map(Some),
            time_zone: input.time_zone.map(Some),
            stage: input.stage.map(Some),
            last_contacted_at: input.last_contacted_at.map(Some),
            attributes: input.attributes.map(|attributes| attributes.0),
            unsubscribed: None,
        };
        Ok(RecordPayload {
            record: Record(idempotent!(ctx, input.idempotency_key, |db| noun::create(db, viewer(ctx), &fields))),
        })
    }

    /// Changes what is given. Refused with NOT_FOUND, CONFLICT, BAD_USER_INPUT.
    async fn update_record(&self, ctx: &Context<'_>, input: UpdateRecordInput) -> Result<RecordPayload> {
        let id = validate::id::<RecordId>("id", &input.id)?;
        let fields = noun::Fields {
            name: input.name,
            email: given(&input.email),
            phone: given(&input.phone),
            time_zone: given(&input.time_zone),
            stage: given(&input.stage),
            last_contacted_at: given(&input.last_contacted_at),
            attributes: input.attributes.map(|attributes| attributes.0),
            unsubscribed: input.unsubscribed,
            ..noun::Fields::default()
        };
        let changed = idempotent!(ctx, input.idempotency_key, |db| noun::update(
            db,
            viewer(ctx),
            id,
            input.expected_revision,
            &fields
        ));
        Ok(RecordPayload { record: Record(changed) })
    }

    /// Unsubscribes all records that a filter lets through. From the answer on nothing more is sent to them; the rows,
    /// their events and what is open for them in runs follow. Again is the same: who has unsubscribed is not counted.
    async fn unsubscribe_records(
        &self,
        ctx: &Context<'_>,
        input: UnsubscribeRecordsInput,
    ) -> Result<UnsubscribeRecordsPayload> {
        let dry_run = input.dry_run.unwrap_or(false);
        let reason = input.reason.as_deref();
        let begun = Box::pin(noun::unsubscribe::unsubscribe(
            &super::idempotent::keyed(ctx, None)?,
            viewer(ctx),
            &input.filter,
            reason,
            dry_run,
        ))
        .await?;
        Ok(UnsubscribeRecordsPayload { count: begun.count })
    }
}

/// `None`: not given; `Some(None)`: null.
pub(super) fn given<T: Clone>(value: &MaybeUndefined<T>) -> Option<Option<T>> {
    value.as_opt_ref().map(|value| value.cloned())
}

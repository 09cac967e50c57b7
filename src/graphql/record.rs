//! Records: the objects of the work, and their mutations.

pub mod erase;
pub mod link;
pub mod list;
mod row_fields;
pub mod timeline;

use async_graphql::{Context, Enum, ID, InputObject, Json, MaybeUndefined, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::id::RecordId;

use super::activity::{Activity, activities};
use super::communication::Communication;
use super::follow_up::{FollowUp, follow_ups};
use super::list::{CommunicationTotals, List, args, list};
use super::loader::nested_page;
use super::reply::{Reply, ReplyTotals, replies};
use super::{db, viewer};
use crate::domain::audience::record as noun;
use crate::domain::audience::record::link::{LinkDirection, LinksOf};
use crate::domain::message::reply::Filter as ReplyFilter;
use crate::graphql::counted::Counted;
use crate::kernel::validate;
use link::RecordLink;

/// The object of the work: a lead, contact, partnership, order or ticket.
pub struct Record(pub entity::record::Model);

/// The object of the work: a lead, contact, partnership, order or ticket.
#[Object]
impl Record {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The kind of record: `lead`, `contact`, `order` …
    async fn kind(&self) -> &str {
        &self.0.kind
    }

    /// The record's id in the external system, unique per kind; null if it has none.
    async fn external_id(&self) -> Option<&str> {
        self.0.external_id.as_deref()
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The email address; null if it is not known.
    async fn email(&self) -> Option<&str> {
        self.0.email.as_deref()
    }

    /// The telephone number in E.164 format; null if it is not known.
    async fn phone(&self) -> Option<&str> {
        self.0.phone.as_deref()
    }

    /// The IANA time zone; null if it is not known.
    async fn time_zone(&self) -> Option<&str> {
        self.0.time_zone.as_deref()
    }

    /// The record's stage in the pipeline of its kind; null if it has none.
    async fn stage(&self) -> Option<&str> {
        self.0.stage.as_deref()
    }

    /// Time of the last message or call to it; null if there was none.
    async fn last_contacted_at(&self) -> Option<DateTime<Utc>> {
        self.0.last_contacted_at
    }

    /// Priority, higher is more urgent: its attribute `priority` if that is a number or a numeric
    /// string, else 0.
    async fn priority(&self) -> i32 {
        self.0.priority
    }

    /// Time of its last reply; null if it never replied.
    async fn last_replied_at(&self) -> Option<DateTime<Utc>> {
        self.0.last_replied_at
    }

    /// The record's history, newest first: communications, replies, activities, stage changes and
    /// runs.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn timeline(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<timeline::TimelineEntry>> {
        Box::pin(timeline::timeline(ctx, self.0.id, first, after)).await
    }

    /// Messages addressed to it, newest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn communications(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<Communication, CommunicationTotals>> {
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
        Ok(list(nested_page(ctx, window, false).await?, CommunicationTotals(filter), Communication))
    }

    /// Replies from it, newest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn replies(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<Reply, ReplyTotals>> {
        let filter = ReplyFilter { record_ids: Some(vec![self.0.id.to_string().into()]), ..ReplyFilter::default() };
        Box::pin(replies(ctx, filter, None, args(first, after, None, None), false)).await
    }

    /// Activities about it, newest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn activities(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<List<Activity>> {
        let filter = crate::domain::message::activity::Filter {
            record_ids: Some(vec![self.0.id.to_string().into()]),
            ..crate::domain::message::activity::Filter::default()
        };
        Box::pin(activities(ctx, filter, args(first, after, None, None), false)).await
    }

    /// Follow-ups about it, newest first; the open ones by default.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn follow_ups(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only follow-ups in these statuses. Null: the open ones.")] statuses: Option<
            Vec<entity::FollowUpStatus>,
        >,
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

    /// Links with other records, newest first; empty if there is none. `records` finds the linked
    /// records themselves, by `linkedFrom` and `linkedTo`.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn links(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "FROM: links that go from the record; TO: links that lead to it. Null: FROM.")]
        direction: Option<LinkDirection>,
        #[graphql(desc = "Only links with one of these roles. Null: with any role.")] roles: Option<Vec<String>>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<RecordLink>> {
        let of = LinksOf { record_id: self.0.id, direction: direction.unwrap_or(LinkDirection::From), roles };
        Box::pin(link::links(ctx, of, args(first, after, None, None))).await
    }

    /// Time at which it unsubscribed; null if it is subscribed.
    async fn unsubscribed_at(&self) -> Option<DateTime<Utc>> {
        self.0.unsubscribed_at
    }

    /// Time at which `eraseRecord` emptied it; null if it was not erased. From then on its name is
    /// `[erased]`, it has no addresses, attributes or external id, and nothing is sent to it.
    async fn erased_at(&self) -> Option<DateTime<Utc>> {
        self.0.erased_at
    }

    /// Time at which messages, replies, activities, events and all else about it were empty, too;
    /// null while that is in progress, and if it was not erased.
    async fn erasure_completed_at(&self) -> Option<DateTime<Utc>> {
        self.0.erasure_completed_at
    }

    /// Custom attributes, as a flat object.
    async fn attributes(&self) -> Counted<Json<serde_json::Value>> {
        Counted(Json(self.0.attributes.clone()))
    }

    /// Creation time.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// Time of the last change.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }

    /// Incremented by every change except those of `lastContactedAt` and `lastRepliedAt`; pass it
    /// back as `expectedRevision` to detect conflicts.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

/// A sort direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum Direction {
    /// Ascending: smallest first.
    Asc,
    /// Descending: largest first.
    Desc,
}

/// Fields of a new record.
#[derive(InputObject)]
pub struct CreateRecordInput {
    /// The kind of record: `lead`, `contact` …
    kind: String,
    /// The record's id in the external system, unique per kind.
    external_id: Option<String>,
    /// The name.
    name: String,
    /// The email address.
    email: Option<String>,
    /// The telephone number in E.164 format.
    phone: Option<String>,
    /// The IANA time zone.
    time_zone: Option<String>,
    /// The stage in its pipeline.
    stage: Option<String>,
    /// Time of the last contact.
    last_contacted_at: Option<DateTime<Utc>>,
    /// Custom attributes, as a flat object.
    attributes: Option<Json<serde_json::Value>>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Changes to a record. Omitted fields stay as they are; null clears `email`, `phone`, `timeZone`,
/// `stage` and `lastContactedAt`, and leaves others as they are.
#[derive(InputObject)]
pub struct UpdateRecordInput {
    /// Id of the record.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the record has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// The new name.
    name: Option<String>,
    /// The new email address.
    email: MaybeUndefined<String>,
    /// The new telephone number.
    phone: MaybeUndefined<String>,
    /// The new time zone.
    time_zone: MaybeUndefined<String>,
    /// The new stage.
    stage: MaybeUndefined<String>,
    /// Time of the last contact.
    last_contacted_at: MaybeUndefined<DateTime<Utc>>,
    /// The new attributes, a flat object that replaces all current ones.
    attributes: Option<Json<serde_json::Value>>,
    /// True to unsubscribe the record, false to subscribe it again.
    unsubscribed: Option<bool>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Selects the records to unsubscribe.
#[derive(InputObject)]
pub struct UnsubscribeRecordsInput {
    /// Selects the records that match now.
    filter: noun::filter::RecordFilter,
    /// Reason; stored in their events.
    reason: Option<String>,
    /// True to only count the matching records.
    dry_run: Option<bool>,
}

/// The number of records to unsubscribe.
#[derive(SimpleObject)]
pub struct UnsubscribeRecordsPayload {
    /// Number of records that match the filter and were still subscribed.
    count: u64,
}

/// The created or changed record.
#[derive(SimpleObject)]
pub struct RecordPayload {
    /// The record after the change.
    record: Record,
}

deletion!(RecordDeletion: delete_record of RecordId);

/// Mutations for records.
#[derive(Default)]
pub struct RecordMutation;

#[Object]
impl RecordMutation {
    /// Creates a record. Rejected with BAD_USER_INPUT, or with CONFLICT if the kind already has
    /// this external id.
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

    /// Updates the given fields. Rejected with NOT_FOUND, CONFLICT or BAD_USER_INPUT.
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
        let changed = idempotent!(ctx, input.idempotency_key, |db| crate::domain::run::record_change::update(
            db,
            viewer(ctx),
            id,
            input.expected_revision,
            &fields
        ));
        Ok(RecordPayload { record: Record(changed) })
    }

    /// Unsubscribes all records that match a filter. Nothing is sent to them any more once the
    /// mutation returns; their rows, events and open work in runs are updated in the background.
    /// Records that have already unsubscribed are not counted.
    async fn unsubscribe_records(
        &self,
        ctx: &Context<'_>,
        input: UnsubscribeRecordsInput,
    ) -> Result<UnsubscribeRecordsPayload> {
        let dry_run = input.dry_run.unwrap_or(false);
        let reason = input.reason.as_deref();
        let result = Box::pin(noun::unsubscribe::unsubscribe(
            &super::idempotent::keyed(ctx, None)?,
            viewer(ctx),
            &input.filter,
            reason,
            dry_run,
        ))
        .await?;
        Ok(UnsubscribeRecordsPayload { count: result.count })
    }
}

/// `None`: not given; `Some(None)`: null.
pub(super) fn given<T: Clone>(value: &MaybeUndefined<T>) -> Option<Option<T>> {
    value.as_opt_ref().map(|value| value.cloned())
}

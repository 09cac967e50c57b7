//! Segments: the object, its queries, its preview and its mutations.

use async_graphql::Json;
use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use entity::id::SegmentId;

use super::campaign::Campaign;
use super::campaign::list::{CampaignOrder, campaigns};
use super::list::{List, args};
use super::loader::nested_count;
use super::record::Record;
use super::record::list::{RecordOrder, records, resolved};
use super::{db, viewer};
use crate::domain::audience::record::filter::RecordFilter;
use crate::domain::audience::segment as noun;
use crate::domain::plan::campaign::list::Filter as CampaignFilter;
use crate::graphql::counted::Counted;
use crate::graphql::selection::RowFields;
use crate::kernel::validate;

/// A saved audience: a filter over records, or a fixed list.
pub struct Segment(pub entity::segment::Model);

impl RowFields for Segment {}

/// A saved audience: a filter over records, or a fixed list.
#[Object]
impl Segment {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The filter as it was entered; null for a fixed list.
    async fn filter(&self) -> Option<Counted<Json<serde_json::Value>>> {
        self.0.filter.clone().map(Json).map(Counted)
    }

    /// Current number of records in the segment; computed only when selected.
    async fn record_count(&self, ctx: &Context<'_>) -> Result<u64> {
        Ok(nested_count(ctx, noun::window(db(ctx), &self.0)?).await?)
    }

    /// The campaigns whose audience it is now, newest first by default; empty if it is none's.
    /// `filter.segmentIds` is ignored. Page with `first` and `after`, or `last` and `before`.
    #[allow(clippy::too_many_arguments, reason = "each is an argument of the field")]
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn campaigns(
        &self,
        ctx: &Context<'_>,
        filter: Option<CampaignFilter>,
        order_by: Option<CampaignOrder>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<Campaign>> {
        let mut filter = filter.unwrap_or_default();
        filter.segment_ids = Some(vec![self.0.id.to_string().into()]);
        Box::pin(campaigns(ctx, filter, order_by, args(first, after, last, before), false)).await
    }

    /// The records that are in it now, newest first by default; empty if there is none.
    /// `filter.segmentIds` is ignored. Page with `first` and `after`, or `last` and `before`.
    #[allow(clippy::too_many_arguments, reason = "each is an argument of the field")]
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
        let mut filter = filter.unwrap_or_default();
        filter.segment_ids = Some(vec![self.0.id.to_string().into()]);
        Box::pin(records(ctx, filter, order_by, args(first, after, last, before), false)).await
    }

    /// Creation time.
    async fn created_at(&self) -> chrono::DateTime<chrono::Utc> {
        self.0.created_at
    }

    /// Time of the last change.
    async fn updated_at(&self) -> chrono::DateTime<chrono::Utc> {
        self.0.updated_at
    }

    /// Incremented by every change; pass it back as `expectedRevision` to detect conflicts.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

definition!(SegmentQuery: segment, segments of Segment, SegmentId, Segments);

/// The records that a filter matches.
#[derive(SimpleObject)]
pub struct SegmentPreview {
    /// Number of records that match now.
    count: u64,
    /// The first ten matching records, in order of creation.
    sample: Vec<Record>,
}

/// Query field for the preview of a filter.
#[derive(Default)]
pub struct SegmentPreviewQuery;

#[Object]
impl SegmentPreviewQuery {
    /// Counts and samples the records that a filter matches, without saving it. Rejected with
    /// BAD_USER_INPUT, naming the path in the filter.
    async fn preview_segment(&self, ctx: &Context<'_>, filter: RecordFilter) -> Result<SegmentPreview> {
        let filter = Box::pin(resolved(ctx, filter)).await?;
        let count = Box::pin(crate::domain::audience::record::count(db(ctx), viewer(ctx), &filter)).await?;
        let sample = Box::pin(crate::domain::audience::record::sample(db(ctx), viewer(ctx), &filter, 10)).await?;
        Ok(SegmentPreview { count, sample: sample.into_iter().map(Record).collect() })
    }
}

/// Fields of a new segment.
#[derive(InputObject)]
pub struct CreateSegmentInput {
    /// The name.
    name: String,
    /// A filter over records. Give either this or `recordIds`.
    filter: Option<RecordFilter>,
    /// A fixed list of at most 10,000 records. Give either this or `filter`.
    record_ids: Option<Vec<ID>>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Changes to a segment. Omitted fields stay as they are.
#[derive(InputObject)]
pub struct UpdateSegmentInput {
    /// Id of the segment.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the segment has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// The new name.
    name: Option<String>,
    /// The new filter; replaces the current filter or list.
    filter: Option<RecordFilter>,
    /// The new list of records; replaces the current filter or list.
    record_ids: Option<Vec<ID>>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The created or changed segment.
#[derive(SimpleObject)]
pub struct SegmentPayload {
    /// The segment after the change.
    segment: Segment,
}

deletion!(SegmentDeletion: delete_segment of SegmentId);

/// Mutations for segments.
#[derive(Default)]
pub struct SegmentMutation;

#[Object]
impl SegmentMutation {
    /// Creates a segment. Rejected with BAD_USER_INPUT, naming the field.
    async fn create_segment(&self, ctx: &Context<'_>, input: CreateSegmentInput) -> Result<SegmentPayload> {
        let fields =
            noun::Fields { name: Some(input.name), filter: input.filter, record_ids: listed(input.record_ids)? };
        Ok(SegmentPayload {
            segment: Segment(idempotent!(ctx, input.idempotency_key, |db| noun::create(db, viewer(ctx), &fields))),
        })
    }

    /// Updates the given fields. Rejected with NOT_FOUND, CONFLICT or BAD_USER_INPUT.
    async fn update_segment(&self, ctx: &Context<'_>, input: UpdateSegmentInput) -> Result<SegmentPayload> {
        let id = validate::id::<SegmentId>("id", &input.id)?;
        let fields = noun::Fields { name: input.name, filter: input.filter, record_ids: listed(input.record_ids)? };
        let changed = idempotent!(ctx, input.idempotency_key, |db| noun::update(
            db,
            viewer(ctx),
            id,
            input.expected_revision,
            &fields
        ));
        Ok(SegmentPayload { segment: Segment(changed) })
    }
}

fn listed(ids: Option<Vec<ID>>) -> Result<Option<Vec<entity::id::RecordId>>> {
    let ids = ids.map(|ids| {
        ids.iter().map(|id| validate::id("recordIds", id)).collect::<crate::kernel::error::Result<Vec<_>>>()
    });
    Ok(ids.transpose()?)
}

//! Segments.

use async_graphql::Json;
use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use entity::id::SegmentId;

use super::loader::count_below;
use super::record::Record;
use super::{db, viewer};
use crate::domain::audience::record::filter::RecordFilter;
use crate::domain::audience::segment as noun;
use crate::graphql::counted::Counted;
use crate::kernel::validate;

/// A saved audience: a filter over records, or a fixed list.
pub struct Segment(pub entity::segment::Model);

/// A saved audience: a filter over records, or a fixed list.
#[Object]
impl Segment {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The filter, as it was given; null for a fixed list.
    async fn filter(&self) -> Option<Counted<Json<serde_json::Value>>> {
        self.0.filter.clone().map(Json).map(Counted)
    }

    /// How many records it has now; counted only when selected.
    async fn record_count(&self, ctx: &Context<'_>) -> Result<u64> {
        Ok(count_below(ctx, noun::window(db(ctx), &self.0)?).await?)
    }

    /// When it was made.
    async fn created_at(&self) -> chrono::DateTime<chrono::Utc> {
        self.0.created_at
    }

    /// When it was last changed.
    async fn updated_at(&self) -> chrono::DateTime<chrono::Utc> {
        self.0.updated_at
    }

    /// Counts its changes; pass it back as `expectedRevision`.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

definition!(SegmentQuery: segment, segments of Segment, SegmentId, Segments);

/// What a filter comes to.
#[derive(SimpleObject)]
pub struct SegmentPreview {
    /// How many records it lets through now.
    count: u64,
    /// The first ten of them, in order of making.
    sample: Vec<Record>,
}

/// The preview's part of the query root.
#[derive(Default)]
pub struct SegmentPreviewQuery;

#[Object]
impl SegmentPreviewQuery {
    /// What a filter comes to, before it is saved. Refused with BAD_USER_INPUT, naming the path in the filter.
    async fn preview_segment(&self, ctx: &Context<'_>, filter: RecordFilter) -> Result<SegmentPreview> {
        let count = Box::pin(crate::domain::audience::record::count(db(ctx), viewer(ctx), &filter)).await?;
        let sample = Box::pin(crate::domain::audience::record::sample(db(ctx), viewer(ctx), &filter, 10)).await?;
        Ok(SegmentPreview { count, sample: sample.into_iter().map(Record).collect() })
    }
}

/// What is to be made.
#[derive(InputObject)]
pub struct CreateSegmentInput {
    /// The name.
    name: String,
    /// A filter over records; or else `recordIds`.
    filter: Option<RecordFilter>,
    /// A fixed list, at most 10,000; or else `filter`.
    record_ids: Option<Vec<ID>>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What is to be changed: only what is given.
#[derive(InputObject)]
pub struct UpdateSegmentInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// Another name.
    name: Option<String>,
    /// Another filter, in place of filter or list.
    filter: Option<RecordFilter>,
    /// Another list, in place of filter or list.
    record_ids: Option<Vec<ID>>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What was made or changed.
#[derive(SimpleObject)]
pub struct SegmentPayload {
    /// As it is now.
    segment: Segment,
}

deletion!(SegmentDeletion: delete_segment of SegmentId);

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct SegmentMutation;

#[Object]
impl SegmentMutation {
    /// Makes one. Refused with BAD_USER_INPUT, naming the field.
    async fn create_segment(&self, ctx: &Context<'_>, input: CreateSegmentInput) -> Result<SegmentPayload> {
        let fields =
            noun::Fields { name: Some(input.name), filter: input.filter, record_ids: listed(input.record_ids)? };
        Ok(SegmentPayload {
            segment: Segment(idempotent!(ctx, input.idempotency_key, |db| noun::create(db, viewer(ctx), &fields))),
        })
    }

    /// Changes what is given. Refused with NOT_FOUND, CONFLICT, BAD_USER_INPUT.
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

//! Query fields for records: one by id, and the list; also as a list below segments.

use async_graphql::{Context, ID, InputObject, Object, Result};
use entity::id::RecordId;
use futures_util::future::try_join_all;

use super::{Direction, Record};
use crate::domain::audience::record::filter::{RecordFilter, ResolvedFilter};
use crate::domain::audience::record::{self as noun, SortBy};
use crate::graphql::list::{List, Totals, args, list};
use crate::graphql::loader::load;
use crate::graphql::selection::nodes_page;
use crate::graphql::{db, viewer};
use crate::kernel::page::Args;
use crate::kernel::validate;

/// Sort order of records.
#[derive(InputObject, Clone, Copy)]
pub struct RecordOrder {
    /// The field to sort by.
    field: SortBy,
    /// The sort direction.
    direction: Direction,
}

/// Reads the segments that a filter names, together with those of other filters of the response.
pub(in crate::graphql) async fn resolved(
    ctx: &Context<'_>,
    filter: RecordFilter,
) -> crate::kernel::error::Result<ResolvedFilter> {
    let named = filter.named_segments();
    let segments = try_join_all(named.into_iter().map(|id| load(ctx, Some(id)))).await?;
    Ok(ResolvedFilter::new(filter, segments.into_iter().flatten()))
}

/// Returns one page of records.
pub(in crate::graphql) async fn records(
    ctx: &Context<'_>,
    filter: RecordFilter,
    order: Option<RecordOrder>,
    args: Args,
    alone: bool,
) -> Result<List<Record>> {
    let order = order.unwrap_or(RecordOrder { field: SortBy::CreatedAt, direction: Direction::Desc });
    let descending = order.direction == Direction::Desc;
    let filter = resolved(ctx, filter).await?;
    let window = noun::window(db(ctx), viewer(ctx), &filter, order.field, descending, args)?;
    let page = nodes_page::<Record, _>(ctx, window, alone).await?;
    Ok(list(page, Totals::Records(Box::new(filter)), Record))
}

/// Query fields for records.
#[derive(Default)]
pub struct RecordQuery;

#[Object]
impl RecordQuery {
    /// Returns the record with this id; null if the org has none.
    async fn record(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Record>> {
        Ok(Box::pin(noun::find(db(ctx).read(), viewer(ctx), validate::id::<RecordId>("id", &id)?)).await?.map(Record))
    }

    /// Records that match the filter, newest first by default. Page with `first` and `after`, or
    /// `last` and `before`; page size 50 by default, at most 500.
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
        Box::pin(records(ctx, filter.unwrap_or_default(), order_by, args(first, after, last, before), true)).await
    }
}

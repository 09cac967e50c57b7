//! Query fields for campaigns: one by id, and the list; also as a list below what campaigns use.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use entity::id::CampaignId;

use super::Campaign;
use crate::domain::plan::campaign as noun;
use crate::domain::plan::campaign::list::{Filter, SortBy};
use crate::graphql::counted::Counted;
use crate::graphql::list::{List, Totals, args, list};
use crate::graphql::record::Direction;
use crate::graphql::selection::nodes_page;
use crate::graphql::{db, viewer};
use crate::kernel::page::Args;
use crate::kernel::validate;

/// Sort order of campaigns.
#[derive(InputObject, Clone, Copy)]
pub struct CampaignOrder {
    /// The field to sort by.
    field: SortBy,
    /// The sort direction.
    direction: Direction,
}

impl CampaignOrder {
    /// The sort field, and true for descending; newest first by default.
    pub(in crate::graphql) fn of(given: Option<Self>) -> (SortBy, bool) {
        let order = given.unwrap_or(Self { field: SortBy::CreatedAt, direction: Direction::Desc });
        (order.field, order.direction == Direction::Desc)
    }
}

/// Returns one page of campaigns.
pub(in crate::graphql) async fn campaigns(
    ctx: &Context<'_>,
    filter: Filter,
    order: Option<CampaignOrder>,
    args: Args,
    alone: bool,
) -> Result<List<Campaign>> {
    let (by, descending) = CampaignOrder::of(order);
    let window = noun::list::window(db(ctx), viewer(ctx), &filter, by, descending, args)?;
    let page = nodes_page::<Campaign, _>(ctx, window, alone).await?;
    Ok(list(page, Totals::Campaigns(Box::new(filter)), Campaign::from))
}

/// A tag in use.
#[derive(SimpleObject)]
pub struct CampaignTag {
    /// The tag.
    tag: String,
    /// Number of campaigns that have it, archived ones included.
    campaigns: i64,
}

/// Query fields for campaigns.
#[derive(Default)]
pub struct CampaignQuery;

#[Object]
impl CampaignQuery {
    /// Returns the campaign with this id; null if the org has none.
    async fn campaign(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Campaign>> {
        Ok(Box::pin(noun::find(db(ctx).read(), viewer(ctx), validate::id::<CampaignId>("id", &id)?))
            .await?
            .map(Campaign::from))
    }

    /// The tags of the org's campaigns, the most used first, at most 500.
    #[graphql(complexity = "50 + child_complexity")]
    async fn campaign_tags(&self, ctx: &Context<'_>) -> Result<Counted<Vec<CampaignTag>>> {
        let all = Box::pin(noun::tags::in_use(db(ctx).read(), viewer(ctx))).await?;
        Ok(Counted(all.into_iter().map(|(tag, campaigns)| CampaignTag { tag, campaigns }).collect()))
    }

    /// Campaigns that match the filter, newest first by default. Page with `first` and `after`, or
    /// `last` and `before`; page size 50 by default, at most 500.
    #[allow(clippy::too_many_arguments, reason = "each is an argument of the field")]
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn campaigns(
        &self,
        ctx: &Context<'_>,
        filter: Option<Filter>,
        order_by: Option<CampaignOrder>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<Campaign>> {
        Box::pin(campaigns(ctx, filter.unwrap_or_default(), order_by, args(first, after, last, before), true)).await
    }
}

//! The list of schedules, with its filter and order.

use async_graphql::{Context, ID, InputObject, Result};
use entity::id::CampaignId;

use super::Schedule;
use crate::domain::plan::schedule::list::{Filter, SortBy, window};
use crate::graphql::list::{List, Totals, list};
use crate::graphql::loader::nested_page;
use crate::graphql::record::Direction;
use crate::graphql::{db, viewer};
use crate::kernel::error::Refusal;
use crate::kernel::page::Args;
use crate::kernel::validate;

/// Sort order of schedules.
#[derive(InputObject, Clone, Copy)]
pub struct ScheduleOrder {
    /// The field to sort by.
    field: SortBy,
    /// The sort direction.
    direction: Direction,
}

/// Returns one page of schedules.
pub(super) async fn schedules(
    ctx: &Context<'_>,
    campaign_id: Option<ID>,
    mut filter: Filter,
    order: Option<ScheduleOrder>,
    args: Args,
) -> Result<List<Schedule>> {
    if let Some(id) = campaign_id {
        validate::id::<CampaignId>("campaignId", &id)?;
        if filter.campaign_ids.replace(vec![id]).is_some() {
            let message = "give it or `filter.campaignIds`, not both";
            return Err(Refusal::input("campaignId", message).into());
        }
    }
    let order = order.unwrap_or(ScheduleOrder { field: SortBy::CreatedAt, direction: Direction::Desc });
    let descending = order.direction == Direction::Desc;
    let window = window(db(ctx), viewer(ctx), &filter, order.field, descending, args)?;
    let page = nested_page(ctx, window, true).await?;
    Ok(list(page, Totals::FilteredSchedules(Box::new(filter)), Schedule))
}

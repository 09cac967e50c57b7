//! Campaigns as a live list.

use async_graphql::{Context, ID, Result};
use entity::id::CampaignId;
use entity::{CampaignStatus, campaign, event};
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{Noun, Touch, noun_of};
use crate::domain::plan::campaign as noun;
use crate::domain::plan::campaign::list::{Filter, SortBy};
use crate::graphql::campaign::Campaign;
use crate::graphql::campaign::list::CampaignOrder;
use crate::graphql::stream::list::change::StatusTotals;
use crate::kernel::db::Db;
use crate::kernel::error;
use crate::kernel::page::{Args, Window};
use crate::kernel::viewer::Viewer;

/// The list of `campaigns`.
pub struct Campaigns {
    filter: Filter,
    by: SortBy,
    descending: bool,
    args: Args,
}

impl Campaigns {
    /// The list with a filter and an order.
    pub fn new(filter: Filter, order: Option<CampaignOrder>, args: Args) -> Self {
        let (by, descending) = CampaignOrder::of(order);
        Self { filter, by, descending, args }
    }
}

impl Noun for Campaigns {
    type Entity = campaign::Entity;
    type Node = Campaign;
    type Totals = StatusTotals<CampaignStatus>;
    const CHANGE: &'static str = "CampaignListChange";

    fn window(&self, db: &Db, viewer: &Viewer) -> error::Result<Window<Self::Entity>> {
        noun::list::window(db, viewer, &self.filter, self.by, self.descending, self.args.clone())
    }

    fn facets(&self, db: &Db, viewer: &Viewer) -> error::Result<Option<Window<Self::Entity>>> {
        if self.filter.statuses.is_none() {
            return Ok(None);
        }
        let filter = Filter { statuses: None, ..self.filter.clone() };
        noun::list::window(db, viewer, &filter, self.by, self.descending, self.args.clone()).map(Some)
    }

    /// A campaign shows its current run and its phase, and its schedules. The event of its deletion
    /// does not carry its id in the column.
    fn touch(&self, event: &event::Model) -> Touch {
        match (noun_of(event), event.campaign_id) {
            ("campaign", Some(id)) => Touch::Place(id.0),
            ("campaign", None) => Touch::Anything,
            ("run" | "phase" | "schedule", Some(id)) => Touch::Content(id.0),
            _ => Touch::Nothing,
        }
    }

    fn status() -> Option<campaign::Column> {
        Some(campaign::Column::Status)
    }

    fn id(id: Uuid) -> ID {
        CampaignId(id).to_string().into()
    }

    fn id_of(row: &campaign::Model) -> Uuid {
        row.id.0
    }

    fn find<'a>(db: &'a Db, viewer: &'a Viewer, ids: &'a [Uuid]) -> BoxFuture<'a, error::Result<Vec<campaign::Model>>> {
        let ids: Vec<CampaignId> = ids.iter().copied().map(CampaignId).collect();
        Box::pin(async move { noun::find_all(db.read(), viewer, &ids).await })
    }

    fn nodes<'a>(_: &'a Context<'_>, rows: Vec<campaign::Model>) -> BoxFuture<'a, Result<Vec<Campaign>>> {
        Box::pin(async move { Ok(rows.into_iter().map(Campaign::from).collect()) })
    }
}

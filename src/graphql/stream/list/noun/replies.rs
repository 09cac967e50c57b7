//! Replies as a live list.

use async_graphql::{Context, ID, Result};
use entity::id::{CampaignId, RecordId, ReplyId, RunId};
use entity::{ReplyStatus, event, reply};
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{Noun, Touch, excludes, noun_of};
use crate::domain::message::reply::{self as noun, Filter, SortBy};
use crate::graphql::reply::{Reply, ReplyOrder};
use crate::graphql::stream::list::change::StatusTotals;
use crate::graphql::stream::payload_value;
use crate::kernel::db::Db;
use crate::kernel::page::{Args, Window};
use crate::kernel::viewer::Viewer;
use crate::kernel::{error, validate};

/// The list of `replies`.
pub struct Replies {
    filter: Filter,
    by: SortBy,
    descending: bool,
    args: Args,
    runs: Option<Vec<RunId>>,
    campaigns: Option<Vec<CampaignId>>,
    records: Option<Vec<RecordId>>,
}

impl Replies {
    /// The list with a filter and an order. Errors: BAD_USER_INPUT.
    pub fn new(filter: Filter, order: Option<ReplyOrder>, args: Args) -> error::Result<Self> {
        let (by, descending) = ReplyOrder::of(order);
        let runs = filter.run_ids.as_ref().map(|ids| validate::ids(ids, "filter", "runIds")).transpose()?;
        let campaigns = filter.campaign_ids.as_ref();
        let campaigns = campaigns.map(|ids| validate::ids(ids, "filter", "campaignIds")).transpose()?;
        let records = filter.record_ids.as_ref().map(|ids| validate::ids(ids, "filter", "recordIds")).transpose()?;
        Ok(Self { filter, by, descending, args, runs, campaigns, records })
    }
}

impl Noun for Replies {
    type Entity = reply::Entity;
    type Node = Reply;
    type Totals = StatusTotals<ReplyStatus>;
    const CHANGE: &'static str = "ReplyListChange";

    fn window(&self, db: &Db, viewer: &Viewer) -> error::Result<Window<Self::Entity>> {
        noun::window(db, viewer, &self.filter, self.by, self.descending, self.args.clone())
    }

    fn facets(&self, db: &Db, viewer: &Viewer) -> error::Result<Option<Window<Self::Entity>>> {
        if self.filter.statuses.is_none() {
            return Ok(None);
        }
        let filter = Filter { statuses: None, ..self.filter.clone() };
        noun::window(db, viewer, &filter, self.by, self.descending, self.args.clone()).map(Some)
    }

    /// A follow-up is stored with the reply that it is created for, and its events follow the reply's.
    fn touch(&self, event: &event::Model) -> Touch {
        let is_elsewhere = excludes(&self.runs, event.run_id)
            || excludes(&self.campaigns, event.campaign_id)
            || excludes(&self.records, event.record_id);
        if is_elsewhere || !matches!(noun_of(event), "reply" | "follow_up") {
            return Touch::Nothing;
        }
        match payload_value::<ReplyId>(event, "replyId") {
            Some(id) => Touch::Place(id.0),
            None if noun_of(event) == "reply" => Touch::Anything,
            None => Touch::Nothing,
        }
    }

    fn status() -> Option<reply::Column> {
        Some(reply::Column::Status)
    }

    fn id(id: Uuid) -> ID {
        ReplyId(id).to_string().into()
    }

    fn id_of(row: &reply::Model) -> Uuid {
        row.id.0
    }

    fn find<'a>(db: &'a Db, viewer: &'a Viewer, ids: &'a [Uuid]) -> BoxFuture<'a, error::Result<Vec<reply::Model>>> {
        let ids: Vec<ReplyId> = ids.iter().copied().map(ReplyId).collect();
        Box::pin(async move { noun::find_all(db.read(), viewer, &ids).await })
    }

    fn nodes<'a>(_: &'a Context<'_>, rows: Vec<reply::Model>) -> BoxFuture<'a, Result<Vec<Reply>>> {
        Box::pin(async move { Ok(rows.into_iter().map(Reply).collect()) })
    }
}

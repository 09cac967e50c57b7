//! Communications as a live list.

use async_graphql::{Context, ID, Result};
use entity::id::{CampaignId, CommunicationId, RecordId, RunId};
use entity::{CommunicationStatus, communication, event};
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{Noun, Touch, excludes, noun_of};
use crate::domain::message::communication::{self as noun, Filter};
use crate::graphql::communication::Communication;
use crate::graphql::stream::list::change::StatusTotals;
use crate::graphql::stream::payload_value;
use crate::kernel::db::Db;
use crate::kernel::page::{Args, Window};
use crate::kernel::viewer::Viewer;
use crate::kernel::{error, validate};

/// The list of `communications`.
pub struct Communications {
    filter: Filter,
    args: Args,
    runs: Option<Vec<RunId>>,
    campaigns: Option<Vec<CampaignId>>,
    records: Option<Vec<RecordId>>,
}

impl Communications {
    /// The list with a filter. Errors: BAD_USER_INPUT.
    pub fn new(filter: Filter, args: Args) -> error::Result<Self> {
        let runs = filter.run_ids.as_ref().map(|ids| validate::ids(ids, "filter", "runIds")).transpose()?;
        let campaigns = filter.campaign_ids.as_ref();
        let campaigns = campaigns.map(|ids| validate::ids(ids, "filter", "campaignIds")).transpose()?;
        let records = filter.record_ids.as_ref().map(|ids| validate::ids(ids, "filter", "recordIds")).transpose()?;
        Ok(Self { filter, args, runs, campaigns, records })
    }
}

impl Noun for Communications {
    type Entity = communication::Entity;
    type Node = Communication;
    type Totals = StatusTotals<CommunicationStatus>;
    const CHANGE: &'static str = "CommunicationListChange";

    fn window(&self, db: &Db, viewer: &Viewer) -> error::Result<Window<Self::Entity>> {
        noun::window(db, viewer, &self.filter, self.args.clone())
    }

    fn facets(&self, db: &Db, viewer: &Viewer) -> error::Result<Option<Window<Self::Entity>>> {
        if self.filter.statuses.is_none() {
            return Ok(None);
        }
        let filter = Filter { statuses: None, ..self.filter.clone() };
        noun::window(db, viewer, &filter, self.args.clone()).map(Some)
    }

    fn touch(&self, event: &event::Model) -> Touch {
        let noun = noun_of(event);
        let is_about_one = noun == "communication" || noun == "reply";
        let is_elsewhere = excludes(&self.runs, event.run_id)
            || excludes(&self.campaigns, event.campaign_id)
            || excludes(&self.records, event.record_id);
        if !is_about_one || is_elsewhere {
            return Touch::Nothing;
        }
        match payload_value::<CommunicationId>(event, "communicationId") {
            Some(id) if noun == "communication" => Touch::Place(id.0),
            Some(id) => Touch::Content(id.0),
            None => Touch::Anything,
        }
    }

    fn status() -> Option<communication::Column> {
        Some(communication::Column::Status)
    }

    fn id(id: Uuid) -> ID {
        CommunicationId(id).to_string().into()
    }

    fn id_of(row: &communication::Model) -> Uuid {
        row.id.0
    }

    fn find<'a>(
        db: &'a Db,
        viewer: &'a Viewer,
        ids: &'a [Uuid],
    ) -> BoxFuture<'a, error::Result<Vec<communication::Model>>> {
        let ids: Vec<CommunicationId> = ids.iter().copied().map(CommunicationId).collect();
        Box::pin(async move { noun::find_all(db.read(), viewer, &ids).await })
    }

    fn nodes<'a>(_: &'a Context<'_>, rows: Vec<communication::Model>) -> BoxFuture<'a, Result<Vec<Communication>>> {
        Box::pin(async move { Ok(rows.into_iter().map(Communication).collect()) })
    }
}

//! Runs as a live list.

use async_graphql::{Context, ID, Result};
use entity::id::{CampaignId, RunId};
use entity::{RunStatus, event, run};
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{Noun, Touch, excludes, noun_of};
use crate::domain::run as noun;
use crate::domain::run::list::{RunFilter, SortBy};
use crate::graphql::run::Run;
use crate::graphql::run::list::RunOrder;
use crate::graphql::stream::list::change::StatusTotals;
use crate::kernel::db::Db;
use crate::kernel::page::{Args, Window};
use crate::kernel::viewer::Viewer;
use crate::kernel::{error, validate};

/// The list of `runs`.
pub struct Runs {
    filter: RunFilter,
    by: SortBy,
    descending: bool,
    args: Args,
    ids: Option<Vec<RunId>>,
    campaigns: Option<Vec<CampaignId>>,
    /// True if the filter has a condition on recipients, which other events than the run's change.
    by_recipient: bool,
}

impl Runs {
    /// The list with a filter and an order. Errors: BAD_USER_INPUT.
    pub fn new(filter: RunFilter, order: Option<RunOrder>, args: Args) -> error::Result<Self> {
        let (by, descending) = RunOrder::of(order);
        let ids = filter.ids.as_ref().map(|ids| validate::ids(ids, "filter", "ids")).transpose()?;
        let campaigns = filter.campaign_ids.as_ref();
        let campaigns = campaigns.map(|ids| validate::ids(ids, "filter", "campaignIds")).transpose()?;
        let by_recipient = names_recipients(&filter);
        Ok(Self { filter, by, descending, args, ids, campaigns, by_recipient })
    }
}

fn names_recipients(filter: &RunFilter) -> bool {
    filter.record_ids.is_some()
        || filter.not.as_ref().is_some_and(|not| names_recipients(not))
        || filter.or.iter().flatten().any(names_recipients)
}

impl Noun for Runs {
    type Entity = run::Entity;
    type Node = Run;
    type Totals = StatusTotals<RunStatus>;
    const CHANGE: &'static str = "RunListChange";

    fn window(&self, db: &Db, viewer: &Viewer) -> error::Result<Window<Self::Entity>> {
        noun::list::window(db, viewer, &self.filter, self.by, self.descending, self.args.clone())
    }

    fn facets(&self, db: &Db, viewer: &Viewer) -> error::Result<Option<Window<Self::Entity>>> {
        if self.filter.statuses.is_none() {
            return Ok(None);
        }
        let filter = RunFilter { statuses: None, ..self.filter.clone() };
        noun::list::window(db, viewer, &filter, self.by, self.descending, self.args.clone()).map(Some)
    }

    /// The events of its steps change a run's progress, not its place.
    fn touch(&self, event: &event::Model) -> Touch {
        match event.run_id {
            None => Touch::Nothing,
            _ if excludes(&self.ids, event.run_id) || excludes(&self.campaigns, event.campaign_id) => Touch::Nothing,
            Some(run) if self.by_recipient || noun_of(event) == "run" => Touch::Place(run.0),
            Some(run) => Touch::Content(run.0),
        }
    }

    fn status() -> Option<run::Column> {
        Some(run::Column::Status)
    }

    fn id(id: Uuid) -> ID {
        RunId(id).to_string().into()
    }

    fn id_of(row: &run::Model) -> Uuid {
        row.id.0
    }

    fn find<'a>(db: &'a Db, viewer: &'a Viewer, ids: &'a [Uuid]) -> BoxFuture<'a, error::Result<Vec<run::Model>>> {
        let ids: Vec<RunId> = ids.iter().copied().map(RunId).collect();
        Box::pin(async move { noun::find_all(db.read(), viewer, &ids).await })
    }

    fn nodes<'a>(ctx: &'a Context<'_>, rows: Vec<run::Model>) -> BoxFuture<'a, Result<Vec<Run>>> {
        Box::pin(async move { Run::fetch(ctx, rows, &[ctx.look_ahead()]).await })
    }
}

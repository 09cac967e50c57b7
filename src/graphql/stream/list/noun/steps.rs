//! Steps as a live list: the work list.

use async_graphql::{Context, ID, Result};
use entity::id::{CampaignId, RunId, StepId, TaskId};
use entity::{StepStatus, event, step};
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{Noun, Touch, excludes, noun_of};
use crate::domain::run::step::list::Sort;
use crate::domain::run::step::{self as noun, StepFilter};
use crate::graphql::step::Step;
use crate::graphql::step::list::StepOrder;
use crate::graphql::stream::list::change::StatusTotals;
use crate::kernel::db::Db;
use crate::kernel::page::{Args, Window};
use crate::kernel::viewer::Viewer;
use crate::kernel::{error, validate};

/// The list of `steps`.
pub struct Steps {
    filter: StepFilter,
    sort: Sort,
    args: Args,
    campaigns: Option<Vec<CampaignId>>,
    runs: Option<Vec<RunId>>,
    tasks: Option<Vec<TaskId>>,
}

impl Steps {
    /// The list with a filter and an order. Errors: BAD_USER_INPUT.
    pub fn new(filter: StepFilter, order: Option<StepOrder>, args: Args) -> error::Result<Self> {
        let campaigns = filter.campaign_ids.as_ref();
        let campaigns = campaigns.map(|ids| validate::ids(ids, "filter", "campaignIds")).transpose()?;
        let runs = filter.run_ids.as_ref().map(|ids| validate::ids(ids, "filter", "runIds")).transpose()?;
        let tasks = filter.task_ids.as_ref().map(|ids| validate::ids(ids, "filter", "taskIds")).transpose()?;
        Ok(Self { filter, sort: StepOrder::of(order), args, campaigns, runs, tasks })
    }
}

impl Noun for Steps {
    type Entity = step::Entity;
    type Node = Step;
    type Totals = StatusTotals<StepStatus>;
    const CHANGE: &'static str = "StepListChange";

    fn window(&self, db: &Db, viewer: &Viewer) -> error::Result<Window<Self::Entity>> {
        noun::window(db, viewer, &self.filter, self.sort, self.args.clone(), db.now())
    }

    fn facets(&self, db: &Db, viewer: &Viewer) -> error::Result<Option<Window<Self::Entity>>> {
        if self.filter.statuses.is_none() {
            return Ok(None);
        }
        let filter = StepFilter { statuses: None, ..self.filter.clone() };
        noun::window(db, viewer, &filter, self.sort, self.args.clone(), db.now()).map(Some)
    }

    /// Steps are created PENDING and get their due time without an event of their own, together with
    /// events of their run, phase or task (`task.steps_created` in a fan-out), or of other steps; a reply
    /// marks steps as interrupted. While a campaign is paused, no step of it can be begun.
    fn touch(&self, event: &event::Model) -> Touch {
        match (noun_of(event), event.step_id) {
            _ if excludes(&self.campaigns, event.campaign_id) => Touch::Nothing,
            ("campaign", _) if self.filter.ready.is_some() => match event.kind.as_str() {
                "campaign.paused" | "campaign.resumed" => Touch::Anything,
                _ => Touch::Nothing,
            },
            _ if excludes(&self.runs, event.run_id) => Touch::Nothing,
            ("step" | "task", _) if excludes(&self.tasks, event.task_id) => Touch::Nothing,
            ("step", Some(id)) => Touch::Place(id.0),
            ("run" | "phase" | "task" | "reply", _) => Touch::Anything,
            (_, Some(id)) => Touch::Content(id.0),
            _ => Touch::Nothing,
        }
    }

    fn depends_on_time(&self) -> bool {
        self.filter.depends_on_time()
    }

    fn status() -> Option<step::Column> {
        Some(step::Column::Status)
    }

    fn id(id: Uuid) -> ID {
        StepId(id).to_string().into()
    }

    fn id_of(row: &step::Model) -> Uuid {
        row.id.0
    }

    fn find<'a>(db: &'a Db, viewer: &'a Viewer, ids: &'a [Uuid]) -> BoxFuture<'a, error::Result<Vec<step::Model>>> {
        let ids: Vec<StepId> = ids.iter().copied().map(StepId).collect();
        Box::pin(async move { noun::find_all(db.read(), viewer, &ids).await })
    }

    fn nodes<'a>(_: &'a Context<'_>, rows: Vec<step::Model>) -> BoxFuture<'a, Result<Vec<Step>>> {
        Box::pin(async move { Ok(rows.into_iter().map(Step).collect()) })
    }
}

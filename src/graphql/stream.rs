//! Subscriptions: filtered streams of the durable log, after a cursor or from now on. Each item
//! carries the cursor to resume from.

pub mod activity;
pub mod bulk_action;
pub mod list;
mod progress;
mod run_progress;
mod scope;

use std::sync::Arc;

use async_graphql::{
    Context, ID, InputObject, MergedSubscription, Object, Result, Subscription as GraphqlSubscription,
};
use chrono::{DateTime, Utc};
use entity::id::*;
use entity::{Channel, Executor, RunStatus, RunType, StepStatus};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;

use super::event::Event;
use super::run::Run;
use super::run::progress::RunProgress;
use super::shared_rows::load;
use super::step::Step;
use super::worker::{self, WorkQueued};
use super::{Actor, db, viewer};
use crate::domain::run as runs;
use crate::kernel::event::{self as log, EventSelector, Filter};
use crate::kernel::validate;
pub use scope::LogScope;

/// The relation of a subscription's items to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Each item stands for itself, and all are delivered.
    Events,
    /// The newest item replaces all earlier ones.
    Newest,
    /// Items change a list, from a snapshot of the same execution on.
    List,
}

impl StreamKind {
    /// The kind of a root field's stream.
    pub fn of(field: &str) -> Self {
        match field {
            "runProgress" | "bulkActionProgress" => Self::Newest,
            _ if list::FIELDS.contains(&field) => Self::List,
            _ => Self::Events,
        }
    }
}

/// A change of a run's status.
pub struct RunStatusChange(Arc<entity::event::Model>);

pub(super) fn payload_value<T: DeserializeOwned>(event: &entity::event::Model, key: &str) -> Option<T> {
    event.payload.field(key).and_then(|value| serde_json::from_value(value).ok())
}

/// A change of a run's status.
#[Object]
impl RunStatusChange {
    /// Position in the log; pass it as `after` to resume after this change.
    async fn cursor(&self) -> String {
        log::cursor(self.0.org_id, self.0.position)
    }

    /// Id of the run; always set.
    async fn run_id(&self) -> Option<ID> {
        self.0.run_id.map(|id| id.to_string().into())
    }

    /// The run in its current state, which may be later than this change; null if it no longer
    /// exists.
    async fn run(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
        Ok(load(ctx, self.0.run_id).await?.map(Run::from))
    }

    /// The run's name.
    async fn name(&self) -> Option<String> {
        payload_value(&self.0, "name")
    }

    /// The campaign's name; empty for guided work.
    async fn campaign_name(&self) -> Option<String> {
        payload_value(&self.0, "campaignName")
    }

    /// Previous status; null if the run was created with this change.
    async fn from(&self) -> Option<RunStatus> {
        payload_value(&self.0, "from")
    }

    /// New status.
    async fn to(&self) -> Option<RunStatus> {
        payload_value(&self.0, "to")
    }

    /// The actor that caused the change.
    async fn actor(&self) -> Actor {
        self.0.actor.clone().into()
    }

    /// Reason for the change; null if none was given.
    async fn reason(&self) -> Option<String> {
        payload_value(&self.0, "reason")
    }

    /// Time of the change.
    async fn at(&self) -> DateTime<Utc> {
        self.0.at
    }
}

/// A change of a step's status, or another event of the step, for which `to` is null.
pub struct StepStatusChange(Arc<entity::event::Model>);

/// A change of a step's status, or another event of the step, for which `to` is null.
#[Object]
impl StepStatusChange {
    /// Position in the log; pass it as `after` to resume after this change.
    async fn cursor(&self) -> String {
        log::cursor(self.0.org_id, self.0.position)
    }

    /// Id of the step; always set.
    async fn step_id(&self) -> Option<ID> {
        self.0.step_id.map(|id| id.to_string().into())
    }

    /// The step in its current state, which may be later than this change; null if it no longer
    /// exists.
    async fn step(&self, ctx: &Context<'_>) -> Result<Option<Step>> {
        Ok(load(ctx, self.0.step_id).await?.map(Step))
    }

    /// Id of the step's run; always set.
    async fn run_id(&self) -> Option<ID> {
        self.0.run_id.map(|id| id.to_string().into())
    }

    /// Id of the record that the step is about; null if there is none.
    async fn record_id(&self) -> Option<ID> {
        self.0.record_id.map(|id| id.to_string().into())
    }

    /// The step's name.
    async fn name(&self) -> Option<String> {
        payload_value(&self.0, "name")
    }

    /// Type of work, as in `Step.type`.
    #[graphql(name = "type")]
    async fn kind(&self) -> Option<String> {
        payload_value(&self.0, "type")
    }

    /// Previous status; PENDING if the step was created with this change, null as for `to`.
    async fn from(&self) -> Option<StepStatus> {
        payload_value(&self.0, "from")
    }

    /// New status; null for an event without a change of status, e.g. an assignment.
    async fn to(&self) -> Option<StepStatus> {
        payload_value(&self.0, "to")
    }

    /// The actor that caused the change.
    async fn actor(&self) -> Actor {
        self.0.actor.clone().into()
    }

    /// Reason for the change; null if none was given.
    async fn reason(&self) -> Option<String> {
        payload_value(&self.0, "reason")
    }

    /// Time of the change.
    async fn at(&self) -> DateTime<Utc> {
        self.0.at
    }
}

/// Filter for changes of runs; all given conditions must match. Evaluated on the event alone, not
/// on the run's current state.
#[derive(InputObject, Default)]
pub struct RunEventFilter {
    /// Ids of runs.
    ids: Option<Vec<ID>>,
    /// Ids of campaigns of the runs.
    campaign_ids: Option<Vec<ID>>,
    /// Channels of the runs.
    channels: Option<Vec<Channel>>,
    /// Types of the runs.
    types: Option<Vec<RunType>>,
    /// New statuses.
    to: Option<Vec<RunStatus>>,
}

/// Filter for changes of steps; all given conditions must match. Evaluated on the event alone, not
/// on the step's current state.
#[derive(InputObject, Default)]
pub struct StepEventFilter {
    /// Ids of runs of the steps.
    run_ids: Option<Vec<ID>>,
    /// Ids of tasks of the steps.
    task_ids: Option<Vec<ID>>,
    /// Types of the steps.
    types: Option<Vec<String>>,
    /// Executors of the steps.
    assigned_to: Option<Vec<Executor>>,
    /// New statuses.
    to: Option<Vec<StepStatus>>,
}

/// Live streams. Items come in commit order; an item's cursor, passed as `after`, resumes after it.
#[derive(MergedSubscription, Default)]
pub struct Subscription(LogSubscription, list::ListSubscription, bulk_action::BulkActionSubscription);

/// Subscriptions to the log's events and to the progress of runs.
#[derive(Default)]
#[doc(hidden)]
pub struct LogSubscription;

#[GraphqlSubscription]
impl LogSubscription {
    /// Changes of runs' statuses, in commit order; after the cursor `after`, or from now on.
    async fn run_status_changed(
        &self,
        ctx: &Context<'_>,
        filter: Option<RunEventFilter>,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<RunStatusChange>> + use<>> {
        let filter = filter.unwrap_or_default();
        let runs: Option<Vec<RunId>> = filter.ids.map(|ids| validate::ids(&ids, "filter", "ids")).transpose()?;
        let campaigns: Option<Vec<CampaignId>> =
            filter.campaign_ids.map(|ids| validate::ids(&ids, "filter", "campaignIds")).transpose()?;
        let which = EventSelector { runs, campaigns, ..EventSelector::default() };
        let matches = move |event: &entity::event::Model| {
            event.kind.starts_with("run.")
                && payload_value::<RunStatus>(event, "to").is_some()
                && which.matches(event)
                && one_of(&filter.channels, payload_value(event, "channel"))
                && one_of(&filter.types, payload_value(event, "type"))
                && one_of(&filter.to, payload_value(event, "to"))
        };
        Ok(feed(ctx, after, matches).await?.map(|event| event.map(RunStatusChange)))
    }

    /// Changes of steps' statuses, and other events of steps, with `to: null`: assignments,
    /// approvals after which more are needed, steps that are overdue, steps added to guided work. In
    /// commit order; after the cursor `after`, or from now on.
    async fn step_status_changed(
        &self,
        ctx: &Context<'_>,
        run_id: Option<ID>,
        filter: Option<StepEventFilter>,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<StepStatusChange>> + use<>> {
        let filter = filter.unwrap_or_default();
        let run: Option<RunId> = run_id.map(|id| validate::id("runId", &id)).transpose()?;
        let runs: Option<Vec<RunId>> = filter.run_ids.map(|ids| validate::ids(&ids, "filter", "runIds")).transpose()?;
        let tasks: Option<Vec<TaskId>> =
            filter.task_ids.map(|ids| validate::ids(&ids, "filter", "taskIds")).transpose()?;
        let which = EventSelector { runs, ..EventSelector::default() };
        let matches = move |event: &entity::event::Model| {
            event.kind.starts_with("step.")
                && which.matches(event)
                && run.is_none_or(|run| event.run_id == Some(run))
                && one_of(&tasks, event.task_id)
                && one_of(&filter.types, payload_value(event, "type"))
                && one_of(&filter.assigned_to, payload_value(event, "assignedTo"))
                && one_of(&filter.to, payload_value(event, "to"))
        };
        Ok(feed(ctx, after, matches).await?.map(|event| event.map(StepStatusChange)))
    }

    /// Progress of a run: immediately, then after its events at most a few times per second, always
    /// including the last one; ends with the run. With `after`, the first item is sent once there
    /// is an event after that cursor.
    async fn run_progress(
        &self,
        ctx: &Context<'_>,
        run_id: ID,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<RunProgress>> + use<>> {
        run_progress::follow(ctx, validate::id("runId", &run_id)?, after).await
    }

    /// Activities in a run, in commit order; after the cursor `after`, or from now on. Rejected
    /// with NOT_FOUND for an unknown run.
    async fn run_activity(
        &self,
        ctx: &Context<'_>,
        run_id: ID,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<activity::RunActivity>> + use<>> {
        let run = runs::must_find(db(ctx).read(), viewer(ctx), validate::id("runId", &run_id)?).await?.id;
        let matches =
            move |event: &entity::event::Model| event.kind == "activity.recorded" && event.run_id == Some(run);
        Ok(feed(ctx, after, matches).await?.map(|event| event.map(activity::RunActivity)))
    }

    /// Steps that are queued for the API key's agent; without an agent's key, for any agent or
    /// function. Claim steps when an item arrives, and now and then without one: steps that were
    /// queued before the subscription are not reported.
    async fn work_queued(
        &self,
        ctx: &Context<'_>,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<WorkQueued>> + use<>> {
        worker::queued(ctx, after).await
    }

    /// Events of the durable log, in commit order; after the cursor `after`, or from now on.
    async fn events(
        &self,
        ctx: &Context<'_>,
        filter: Option<Filter>,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<Event>> + use<>> {
        let which = EventSelector::of(&filter.unwrap_or_default())?;
        let viewer = viewer(ctx).clone();
        Ok(feed(ctx, after, move |event| which.matches(event) && crate::kernel::event::may_see(&viewer, &event.kind))
            .await?
            .map(|event| event.map(|event| Event((*event).clone()))))
    }
}

fn one_of<T: PartialEq>(of: &Option<Vec<T>>, found: Option<T>) -> bool {
    of.as_ref().is_none_or(|of| found.is_some_and(|found| of.contains(&found)))
}

/// Returns the start position, the scope, and the batches of the log from there to the scope's end.
async fn begin(ctx: &Context<'_>, after: Option<String>) -> Result<(i64, LogScope, Batches)> {
    let scope = ctx.data_opt::<LogScope>().cloned().unwrap_or_default();
    let position = match (scope.0.from, after) {
        (Some(position), _) => position,
        (None, Some(cursor)) => log::cursor::resume(db(ctx), viewer(ctx), "after", &cursor).await?,
        (None, None) => log::head(db(ctx), viewer(ctx)).await?,
    };
    scope.set(position);
    let batches = log::follow(db(ctx).clone(), viewer(ctx).clone(), position).boxed();
    let until = scope.0.until;
    let bounded = futures_util::stream::unfold((batches, position), move |(mut batches, at)| async move {
        if at >= until {
            return None;
        }
        let mut batch = batches.next().await?;
        let mut at = at;
        if let Ok(events) = &mut batch {
            at = events.last().map_or(at, |event| event.position);
            events.retain(|event| event.position <= until);
        }
        Some((batch, (batches, at)))
    });
    Ok((position, scope, bounded.boxed()))
}

/// The log in batches.
type Batches = BoxStream<'static, crate::kernel::error::Result<Vec<Arc<entity::event::Model>>>>;

pub(super) async fn feed(
    ctx: &Context<'_>,
    after: Option<String>,
    matches: impl Fn(&entity::event::Model) -> bool + Send + 'static,
) -> Result<BoxStream<'static, Result<Arc<entity::event::Model>>>> {
    let (_, scope, batches) = begin(ctx, after).await?;
    let events = batches.flat_map(move |batch| {
        let items: Vec<Result<Arc<entity::event::Model>>> = match batch {
            Ok(events) => events.into_iter().filter(|event| matches(event)).map(Ok).collect(),
            Err(err) => vec![Err(err.into())],
        };
        futures_util::stream::iter(items)
    });
    // The next item is requested only when this one has been delivered.
    Ok(events.inspect(move |event| event.iter().for_each(|event| scope.set(event.position))).boxed())
}

//! The subscriptions: the log from a cursor on, or from now, filtered. Each item carries the cursor to resume from.

pub mod activity;
mod progress;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_graphql::{Context, ID, InputObject, Object, Result, Subscription as GraphqlSubscription};
use chrono::{DateTime, Utc};
use entity::id::*;
use entity::{Channel, Executor, RunStatus, RunType, StepStatus};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;

use super::event::Event;
use super::loader::load;
use super::run::Run;
use super::run::progress::RunProgress;
use super::step::Step;
use super::worker::{self, WorkQueued};
use super::{Actor, db, viewer};
use crate::domain::run as runs;
use crate::kernel::event::{self as log, EventSelector, Filter};
use crate::kernel::validate;

/// The subscriptions whose newest item stands for all before it.
pub const COALESCED: [&str; 1] = ["runProgress"];

/// Which part of the log a subscription is to tell of, where whoever carries its items away says so; and how far it has
/// come: items are asked for one at a time, so that where one can't be delivered, the one before it is where to resume.
#[derive(Clone, Debug, Default)]
pub struct LogScope(Arc<Span>);

#[derive(Debug)]
struct Span {
    from: Option<i64>,
    until: i64,
    now: AtomicI64,
    before: AtomicI64,
}

impl Default for Span {
    fn default() -> Self {
        Self { from: None, until: i64::MAX, now: AtomicI64::new(-1), before: AtomicI64::new(-1) }
    }
}

impl LogScope {
    /// From behind a position, whatever `after` says; to its end, where that is given.
    pub fn between(from: i64, until: Option<i64>) -> Self {
        Self(Arc::new(Span { from: Some(from), until: until.unwrap_or(i64::MAX), ..Span::default() }))
    }

    fn set(&self, position: i64) {
        let before = self.0.now.swap(position, Ordering::Relaxed);
        self.0.before.store(before, Ordering::Relaxed);
    }

    /// The position of the newest item, or of the beginning; none before that.
    pub fn now(&self) -> Option<i64> {
        Some(self.0.now.load(Ordering::Relaxed)).filter(|position| *position >= 0)
    }

    /// The position of the item before the newest, or of the beginning; none before there was an item.
    pub fn before(&self) -> Option<i64> {
        Some(self.0.before.load(Ordering::Relaxed)).filter(|position| *position >= 0)
    }
}

/// A run changed its status.
pub struct RunStatusChange(Arc<entity::event::Model>);

fn told<T: DeserializeOwned>(event: &entity::event::Model, key: &str) -> Option<T> {
    event.payload.get(key).and_then(|value| serde_json::from_value(value.clone()).ok())
}

/// A run changed its status.
#[Object]
impl RunStatusChange {
    /// Where it stands in the log; pass it as `after` to resume behind it.
    async fn cursor(&self) -> String {
        log::cursor(self.0.org_id, self.0.position)
    }

    /// Which run.
    async fn run_id(&self) -> Option<ID> {
        self.0.run_id.map(|id| id.to_string().into())
    }

    /// The run as it is now, which may be later than this change; null where it is gone.
    async fn run(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
        Ok(load(ctx, self.0.run_id).await?.map(Run::from))
    }

    /// The run's name.
    async fn name(&self) -> Option<String> {
        told(&self.0, "name")
    }

    /// The campaign's name.
    async fn campaign_name(&self) -> Option<String> {
        told(&self.0, "campaignName")
    }

    /// What it was; null where it was made with this.
    async fn from(&self) -> Option<RunStatus> {
        told(&self.0, "from")
    }

    /// What it became.
    async fn to(&self) -> Option<RunStatus> {
        told(&self.0, "to")
    }

    /// Who did it.
    async fn actor(&self) -> Actor {
        self.0.actor.clone().into()
    }

    /// Why; null where nothing was said.
    async fn reason(&self) -> Option<String> {
        told(&self.0, "reason")
    }

    /// When.
    async fn at(&self) -> DateTime<Utc> {
        self.0.at
    }
}

/// A step changed its status.
pub struct StepStatusChange(Arc<entity::event::Model>);

/// A step changed its status.
#[Object]
impl StepStatusChange {
    /// Where it stands in the log; pass it as `after` to resume behind it.
    async fn cursor(&self) -> String {
        log::cursor(self.0.org_id, self.0.position)
    }

    /// Which step.
    async fn step_id(&self) -> Option<ID> {
        self.0.step_id.map(|id| id.to_string().into())
    }

    /// The step as it is now, which may be later than this change; null where it is gone.
    async fn step(&self, ctx: &Context<'_>) -> Result<Option<Step>> {
        Ok(load(ctx, self.0.step_id).await?.map(Step))
    }

    /// The run that it is of.
    async fn run_id(&self) -> Option<ID> {
        self.0.run_id.map(|id| id.to_string().into())
    }

    /// The record that it is about; null where it is about none.
    async fn record_id(&self) -> Option<ID> {
        self.0.record_id.map(|id| id.to_string().into())
    }

    /// The step's name.
    async fn name(&self) -> Option<String> {
        told(&self.0, "name")
    }

    /// Which work it is.
    #[graphql(name = "type")]
    async fn kind(&self) -> Option<String> {
        told(&self.0, "type")
    }

    /// What it was; PENDING where it was made with this.
    async fn from(&self) -> Option<StepStatus> {
        told(&self.0, "from")
    }

    /// What it became.
    async fn to(&self) -> Option<StepStatus> {
        told(&self.0, "to")
    }

    /// Who did it.
    async fn actor(&self) -> Actor {
        self.0.actor.clone().into()
    }

    /// Why; null where nothing was said.
    async fn reason(&self) -> Option<String> {
        told(&self.0, "reason")
    }

    /// When.
    async fn at(&self) -> DateTime<Utc> {
        self.0.at
    }
}

/// Which runs' changes; all that is given must hold. Judged on the change alone.
#[derive(InputObject, Default)]
pub struct RunEventFilter {
    /// Of one of these runs.
    ids: Option<Vec<ID>>,
    /// Of runs of one of these campaigns.
    campaign_ids: Option<Vec<ID>>,
    /// Over one of these channels.
    channels: Option<Vec<Channel>>,
    /// Of runs of one of these types.
    types: Option<Vec<RunType>>,
    /// To one of these statuses.
    to: Option<Vec<RunStatus>>,
}

/// Which steps' changes; all that is given must hold. Judged on the change alone.
#[derive(InputObject, Default)]
pub struct StepEventFilter {
    /// Of steps of one of these runs.
    run_ids: Option<Vec<ID>>,
    /// Of steps of one of these tasks.
    task_ids: Option<Vec<ID>>,
    /// Of steps of one of these types.
    types: Option<Vec<String>>,
    /// Of steps to be done by one of these.
    assigned_to: Option<Vec<Executor>>,
    /// To one of these statuses.
    to: Option<Vec<StepStatus>>,
}

/// The live feeds.
pub struct Subscription;

/// The live feeds.
#[GraphqlSubscription]
impl Subscription {
    /// Every change of a run's status, in commit order; from behind `after`, or from now on.
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
        let lets = move |event: &entity::event::Model| {
            event.kind.starts_with("run.")
                && told::<RunStatus>(event, "to").is_some()
                && which.lets(event)
                && one_of(&filter.channels, told(event, "channel"))
                && one_of(&filter.types, told(event, "type"))
                && one_of(&filter.to, told(event, "to"))
        };
        Ok(feed(ctx, after, lets).await?.map(|event| event.map(RunStatusChange)))
    }

    /// Every change of a step's status, in commit order; from behind `after`, or from now on.
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
        let lets = move |event: &entity::event::Model| {
            event.kind.starts_with("step.")
                && which.lets(event)
                && run.is_none_or(|run| event.run_id == Some(run))
                && one_of(&tasks, event.task_id)
                && one_of(&filter.types, told(event, "type"))
                && one_of(&filter.assigned_to, told(event, "assignedTo"))
                && one_of(&filter.to, told(event, "to"))
        };
        Ok(feed(ctx, after, lets).await?.map(|event| event.map(StepStatusChange)))
    }

    /// How far a run has come: at once, then with its events, at most a few times a second, and the last one always;
    /// ends with the run. With `after`, the first comes once there is something behind that cursor.
    async fn run_progress(
        &self,
        ctx: &Context<'_>,
        run_id: ID,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<RunProgress>> + use<>> {
        progress::follow(ctx, validate::id("runId", &run_id)?, after).await
    }

    /// What people do in a run of guided work, in commit order; from behind `after`, or from now on. NOT_FOUND where there
    /// is no such run.
    async fn run_activity(
        &self,
        ctx: &Context<'_>,
        run_id: ID,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<activity::RunActivity>> + use<>> {
        let run = runs::must_find(db(ctx).read(), viewer(ctx), validate::id("runId", &run_id)?).await?.id;
        let lets = move |event: &entity::event::Model| event.kind == "activity.recorded" && event.run_id == Some(run);
        Ok(feed(ctx, after, lets).await?.map(|event| event.map(activity::RunActivity)))
    }

    /// Steps that come into the queue for an agent, the key's own; where there is none, for any agent or function. Claim when
    /// one comes, and now and then without: what waited before is not told again.
    async fn work_queued(
        &self,
        ctx: &Context<'_>,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<WorkQueued>> + use<>> {
        worker::queued(ctx, after).await
    }

    /// The durable log, in commit order; from behind `after`, or from now on.
    async fn events(
        &self,
        ctx: &Context<'_>,
        filter: Option<Filter>,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<Event>> + use<>> {
        let which = EventSelector::of(&filter.unwrap_or_default())?;
        let viewer = viewer(ctx).clone();
        Ok(feed(ctx, after, move |event| which.lets(event) && crate::kernel::event::may_see(&viewer, &event.kind))
            .await?
            .map(|event| event.map(|event| Event((*event).clone()))))
    }
}

fn one_of<T: PartialEq>(of: &Option<Vec<T>>, found: Option<T>) -> bool {
    of.as_ref().is_none_or(|of| found.is_some_and(|found| of.contains(&found)))
}

/// Where it begins, and the log from there on, to where it ends.
async fn begin(ctx: &Context<'_>, after: Option<String>) -> Result<(i64, LogScope, Batches)> {
    let place = ctx.data_opt::<LogScope>().cloned().unwrap_or_default();
    let position = match (place.0.from, after) {
        (Some(position), _) => position,
        (None, Some(cursor)) => log::cursor::resume(db(ctx), viewer(ctx), "after", &cursor).await?,
        (None, None) => log::head(db(ctx), viewer(ctx)).await?,
    };
    place.set(position);
    let batches = log::follow(db(ctx).clone(), viewer(ctx).clone(), position).boxed();
    let until = place.0.until;
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
    Ok((position, place, bounded.boxed()))
}

/// The log in pieces.
type Batches = BoxStream<'static, crate::kernel::error::Result<Vec<Arc<entity::event::Model>>>>;

pub(super) async fn feed(
    ctx: &Context<'_>,
    after: Option<String>,
    lets: impl Fn(&entity::event::Model) -> bool + Send + 'static,
) -> Result<BoxStream<'static, Result<Arc<entity::event::Model>>>> {
    let (_, place, batches) = begin(ctx, after).await?;
    let events = batches.flat_map(move |batch| {
        let items: Vec<Result<Arc<entity::event::Model>>> = match batch {
            Ok(events) => events.into_iter().filter(|event| lets(event)).map(Ok).collect(),
            Err(err) => vec![Err(err.into())],
        };
        futures_util::stream::iter(items)
    });
    // One at a time: the next is asked for when this one has been carried away.
    Ok(events.inspect(move |event| event.iter().for_each(|event| place.set(event.position))).boxed())
}

//! Runs: the list, the detail, launches, and what people do with them; their phases and tasks.

pub mod audience;
pub mod instructions;
pub mod launch;
pub mod phase;
pub mod progress;

use async_graphql::{Context, ID, InputObject, Json, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::id::RunId;
use entity::run::RunAct;
use entity::{Channel, PhaseStatus, RunStatus, RunType};

use super::campaign::Campaign;
use super::communication::Communication;
use super::event::{Events, events};
use super::list::{List, RunTotals, Totals, args, list};
use super::loader::{PartsOf, load, must_load};
use super::record::Direction;
use super::reply::Reply;
use super::schedule::Schedule;
use super::step::Step;
use super::{Actor, AvailableAction, db, viewer};
use crate::campaign::preflight::Preflight;
use crate::input;
use crate::instructions::{Instructions, Parts};
use crate::page::Args;
use crate::run::findings::Finding;
use crate::run::list::{By, RunFilter};
use crate::run::step::StepFilter;
use crate::run::waiting::{Constraint, rate_until, waiting_for};
use crate::run::{self as noun, Action};
use audience::RunRecord;
use instructions::{FieldChange, RunInstructions};
use phase::Phase;
use progress::RunProgress;

/// One execution of a campaign.
pub struct Run(pub entity::run::Model);

/// One execution of a campaign.
#[Object]
impl Run {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// Its own name; the campaign's, unless one was given at launch.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// How it came to be.
    #[graphql(name = "type")]
    async fn run_type(&self) -> RunType {
        self.0.run_type
    }

    /// Where it stands.
    async fn status(&self) -> RunStatus {
        self.0.status
    }

    /// The way to its records.
    async fn channel(&self) -> Channel {
        self.0.channel
    }

    /// The plan that it executes.
    async fn campaign(&self, ctx: &Context<'_>) -> Result<Campaign> {
        Ok(Campaign(must_load(ctx, self.0.campaign_id).await?))
    }

    /// The plan's version that it executes.
    async fn campaign_version(&self) -> i32 {
        self.0.campaign_version
    }

    /// The schedule that it is an occurrence of; null where it was launched by a person.
    async fn schedule(&self, ctx: &Context<'_>) -> Result<Option<Schedule>> {
        Ok(load(ctx, self.0.schedule_id).await?.map(Schedule))
    }

    /// When it is to be queued; null where it was launched at once.
    async fn scheduled_for(&self) -> Option<DateTime<Utc>> {
        self.0.scheduled_for
    }

    /// When it was let in; null before.
    async fn queued_at(&self) -> Option<DateTime<Utc>> {
        self.0.queued_at
    }

    /// When the engine began it; null before.
    async fn started_at(&self) -> Option<DateTime<Utc>> {
        self.0.started_at
    }

    /// When it ended; null before.
    async fn ended_at(&self) -> Option<DateTime<Utc>> {
        self.0.ended_at
    }

    /// What it was told, as it was then; null while it is only scheduled.
    async fn instructions(&self) -> Option<RunInstructions> {
        crate::run::launch::instructions(&self.0).map(RunInstructions)
    }

    /// What has changed in the campaign and its parts since; empty while it is only scheduled.
    async fn drift(&self, ctx: &Context<'_>) -> Result<Vec<FieldChange>> {
        let Some(told) = crate::run::launch::instructions(&self.0) else { return Ok(Vec::new()) };
        let campaign = must_load(ctx, self.0.campaign_id).await?;
        let now = Instructions::of(&Parts::of(db(ctx).read(), viewer(ctx), campaign).await?);
        let each = told.drift(&now)?.into_iter();
        Ok(each.map(|(field, then, now)| FieldChange { field, then: Json(then), now: Json(now) }).collect())
    }

    /// The report that it was launched with, or that failed it when it fell due; null where none was kept.
    async fn preflight(&self) -> Option<Preflight> {
        self.0.preflight.clone().and_then(|report| serde_json::from_value(report).ok())
    }

    /// Its phases, in order; empty before it begins.
    async fn phases(&self, ctx: &Context<'_>) -> Result<Vec<Phase>> {
        Ok(must_load(ctx, PartsOf(self.0.id)).await?.phases.into_iter().map(Phase).collect())
    }

    /// The phase at work; null before it begins and after its end.
    async fn current_phase(&self, ctx: &Context<'_>) -> Result<Option<Phase>> {
        let phases = must_load(ctx, PartsOf(self.0.id)).await?.phases;
        Ok(phases.into_iter().find(|phase| phase.status == PhaseStatus::Active).map(Phase))
    }

    /// Its steps, in order of making.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn steps(
        &self,
        ctx: &Context<'_>,
        filter: Option<StepFilter>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<Step>> {
        let mut filter = filter.unwrap_or_default();
        filter.run_ids = Some(vec![self.0.id.to_string().into()]);
        super::step::steps(ctx, filter, args(first, after, None, None)).await
    }

    /// How far it has come.
    async fn progress(&self, ctx: &Context<'_>) -> Result<RunProgress> {
        RunProgress::of(ctx, &self.0).await
    }

    /// How many places its audience has, with those left out; grows until the audience has been taken in.
    async fn audience_count(&self) -> i64 {
        self.0.audience_count
    }

    /// Its audience, place by place, in the order in which it was taken in.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn records(
        &self,
        ctx: &Context<'_>,
        filter: Option<crate::run::audience::Filter>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<RunRecord>> {
        let filter = filter.unwrap_or_default();
        let page =
            noun::audience::page(db(ctx), viewer(ctx), self.0.id, &filter, &args(first, after, None, None)).await?;
        Ok(list(page, Totals::Audience(self.0.id, filter), RunRecord))
    }

    /// Why it behaved as it did, in plain answers; empty where all went as one would think.
    #[graphql(complexity = "20 + child_complexity")]
    async fn findings(&self, ctx: &Context<'_>) -> Result<Vec<Finding>> {
        Ok(noun::findings::findings(db(ctx), viewer(ctx), &self.0).await?)
    }

    /// Its messages, in order of making.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn communications(
        &self,
        ctx: &Context<'_>,
        statuses: Option<Vec<entity::CommunicationStatus>>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<Communication>> {
        let filter = crate::communication::Filter {
            run_ids: Some(vec![self.0.id.to_string().into()]),
            statuses,
            ..crate::communication::Filter::default()
        };
        let page = crate::communication::page(db(ctx), viewer(ctx), &filter, &args(first, after, None, None)).await?;
        Ok(list(page, Totals::Communications(filter), Communication))
    }

    /// What came back, the newest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn replies(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<List<Reply>> {
        let filter = crate::reply::Filter { run_id: Some(self.0.id), ..crate::reply::Filter::default() };
        let page = crate::reply::page(db(ctx), viewer(ctx), filter, &args(first, after, None, None)).await?;
        Ok(list(page, Totals::Replies(filter), Reply))
    }

    /// Its history from the log, oldest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn events(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<Events> {
        let which = crate::event::Which { runs: Some(vec![self.0.id]), ..crate::event::Which::default() };
        events(ctx, &which, args(first, after, None, None)).await
    }

    /// What came of it, in a sentence; null before its summary.
    async fn outcome(&self) -> Option<&str> {
        self.0.outcome.as_deref()
    }

    /// Why it failed or was cancelled; null where it was not.
    async fn failure(&self) -> Option<&str> {
        self.0.failure.as_deref()
    }

    /// Why it does not move by itself just now; empty where it moves, or has ended.
    async fn waiting_for(&self, ctx: &Context<'_>) -> Result<Vec<Constraint>> {
        let campaign = must_load(ctx, self.0.campaign_id).await?;
        let parts = must_load(ctx, PartsOf(self.0.id)).await?;
        let rate = rate_until(db(ctx), self.0.channel).await?;
        Ok(waiting_for(&self.0, &campaign, &parts.phases, &parts.tasks, rate))
    }

    /// What can be done with it now, and why not the rest.
    async fn available_actions(&self, ctx: &Context<'_>) -> Result<Vec<AvailableAction>> {
        let campaign = must_load(ctx, self.0.campaign_id).await?.status;
        let judged = |action| AvailableAction::judged(action, noun::may(&self.0, campaign, action));
        Action::ALL.into_iter().map(judged).collect()
    }

    /// Who launched it.
    async fn created_by(&self) -> Actor {
        self.0.created_by.clone().into()
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// Counts the changes that a person would name; pass it back as `expectedRevision`.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

/// How runs are sorted.
#[derive(InputObject, Clone, Copy)]
pub struct RunOrder {
    /// By what.
    field: By,
    /// In which direction.
    direction: Direction,
}

/// One page of runs.
pub(super) async fn runs(
    ctx: &Context<'_>,
    filter: RunFilter,
    order: Option<RunOrder>,
    args: Args,
) -> Result<List<Run, RunTotals>> {
    let order = order.unwrap_or(RunOrder { field: By::CreatedAt, direction: Direction::Desc });
    let descending = order.direction == Direction::Desc;
    let page = noun::list::page(db(ctx), viewer(ctx), &filter, order.field, descending, &args).await?;
    Ok(list(page, RunTotals(filter), Run))
}

/// The noun's part of the query root.
#[derive(Default)]
pub struct RunQuery;

#[Object]
impl RunQuery {
    /// One by its id; null where the org has none with it.
    async fn run(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Run>> {
        Ok(noun::find(db(ctx).read(), viewer(ctx), input::id::<RunId>("id", &id)?).await?.map(Run))
    }

    /// Runs by filter, the newest first unless said. `first` after a cursor, or `last` before one; 50 unless said, at
    /// most 500.
    #[allow(clippy::too_many_arguments)]
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn runs(
        &self,
        ctx: &Context<'_>,
        filter: Option<RunFilter>,
        order_by: Option<RunOrder>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<Run, RunTotals>> {
        runs(ctx, filter.unwrap_or_default(), order_by, args(first, after, last, before)).await
    }
}

/// Which run is to take a step.
#[derive(InputObject)]
pub struct RunActInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// Why; kept where it is given.
    reason: Option<String>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// A scheduled run's new time.
#[derive(InputObject)]
pub struct RescheduleRunInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// The new time, in the future.
    at: DateTime<Utc>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What was changed.
#[derive(SimpleObject)]
pub struct RunPayload {
    /// As it is now.
    run: Run,
}

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct RunMutation;

#[Object]
impl RunMutation {
    /// Moves a scheduled run to another time in the future.
    async fn reschedule_run(&self, ctx: &Context<'_>, input: RescheduleRunInput) -> Result<RunPayload> {
        let (id, at) = (input::id("id", &input.id)?, chrono::SubsecRound::trunc_subsecs(input.at, 6));
        let expected = input.expected_revision;
        let run = once!(ctx, input.idempotency_key, |db| noun::reschedule(db, viewer(ctx), id, expected, at));
        Ok(RunPayload { run: Run(run) })
    }

    /// In progress → paused: nothing of it is claimed, started or sent; what is in hand settles.
    async fn pause_run(&self, ctx: &Context<'_>, input: RunActInput) -> Result<RunPayload> {
        let id = input::id("id", &input.id)?;
        let expected = input.expected_revision;
        let run = once!(ctx, input.idempotency_key, |db| noun::hold(db, viewer(ctx), id, expected, RunAct::Pause));
        Ok(RunPayload { run: Run(run) })
    }

    /// Paused → in progress.
    async fn resume_run(&self, ctx: &Context<'_>, input: RunActInput) -> Result<RunPayload> {
        let id = input::id("id", &input.id)?;
        let expected = input.expected_revision;
        let run = once!(ctx, input.idempotency_key, |db| noun::hold(db, viewer(ctx), id, expected, RunAct::Resume));
        Ok(RunPayload { run: Run(run) })
    }

    /// Failed → in progress: the failed steps of its failed phase are done again, what had gone through stays. Refused
    /// with CONFLICT for a run that failed before it began, or whose campaign has ended.
    async fn retry_run(&self, ctx: &Context<'_>, input: RunActInput) -> Result<RunPayload> {
        let (id, expected) = (input::id("id", &input.id)?, input.expected_revision);
        let run = once!(ctx, input.idempotency_key, |db| noun::retry::retry(db, viewer(ctx), id, expected));
        Ok(RunPayload { run: Run(run) })
    }

    /// Looks again at where a run stands: a scheduled one gets its preflight of now, one at work is derived anew from its
    /// steps and moved as far as it goes. What was right stays as it is.
    async fn refresh_run(&self, ctx: &Context<'_>, input: RunActInput) -> Result<RunPayload> {
        let (id, expected) = (input::id("id", &input.id)?, input.expected_revision);
        let run = once!(ctx, input.idempotency_key, |db| noun::refresh::refresh(db, viewer(ctx), id, expected));
        Ok(RunPayload { run: Run(run) })
    }

    /// Calls a run off: nothing of it starts from now on, and its open steps are skipped. Twice is once.
    async fn cancel_run(&self, ctx: &Context<'_>, input: RunActInput) -> Result<RunPayload> {
        let id = input::id("id", &input.id)?;
        let (expected, reason) = (input.expected_revision, input.reason.as_deref());
        let run = once!(ctx, input.idempotency_key, |db| noun::cancel(db, viewer(ctx), id, expected, reason));
        Ok(RunPayload { run: Run(run) })
    }
}

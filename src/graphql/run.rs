//! Runs: the object, lists, launches, mutations, phases and tasks.

mod assignee;
pub mod audience;
pub mod change;
mod fetch;
mod findings;
pub mod guided;
pub mod instructions;
pub mod launch;
mod linked;
pub mod list;
pub mod mend;
pub mod note;
pub mod phase;
pub mod progress;
mod row_fields;
pub mod summary;
pub mod waiting;

use std::sync::Arc;

use async_graphql::{Context, ID, Object, Result};
use chrono::{DateTime, Utc};
use entity::run::RunFailure;
use entity::{Channel, PhaseStatus, RunStatus, RunType};

use super::activity::{Activity, activities};
use super::campaign::Campaign;
use super::communication::{Communication, communications};
use super::event::{Events, events};
use super::list::{CommunicationTotals, List, Totals, args, list};
use super::loader::{RunParts, SnapshotOfRun, UnreachedOfRun, load, must_load, nested_page};
use super::record::Record;
use super::reply::{Reply, ReplyTotals, replies};
use super::run_template::RunTemplate;
use super::schedule::Schedule;
use super::step::Step;
use super::step::list::{StepOrder, sorted};
use super::{Actor, AvailableAction, db, viewer};
use crate::domain::message::activity::Filter as ActivityFilter;
use crate::domain::message::communication::Filter as MessageFilter;
use crate::domain::message::reply::Filter as ReplyFilter;
use crate::domain::plan::campaign::preflight::Preflight;
use crate::domain::run as noun;
use crate::domain::run::findings::Finding;
use crate::domain::run::note::NotesOf;
use crate::domain::run::permissions::{Action, CampaignFacts, RunContext, check_allowed};
use crate::domain::run::step::StepFilter;
use crate::graphql::counted::{self, Counted};
use crate::graphql::selection::Row;
use crate::kernel::event::EventSelector;
use audience::RunRecord;
use findings::FindingsOfRun;
pub use instructions::FieldChange;
use instructions::RunInstructions;
use note::{RunNote, notes};
use phase::Phase;
use progress::RunProgress;
use summary::{RunSummary, SummaryOf};
use waiting::Constraint;

/// One execution of a campaign, or a person's guided work.
pub struct Run {
    row: entity::run::Model,
    fetched: Fetched,
}

/// Data fetched together with the run; the rest is loaded when it is selected.
#[derive(Clone, Default)]
struct Fetched {
    campaign: Option<Arc<entity::campaign::Model>>,
    parts: Option<Arc<RunParts>>,
    /// Set when this is the only run of the response: its lists are read directly, not batched.
    alone: bool,
}

impl From<entity::run::Model> for Run {
    fn from(row: entity::run::Model) -> Self {
        Self { row, fetched: Fetched::default() }
    }
}

/// One execution of a campaign, or a person's guided work.
#[Object]
impl Run {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.row.id.to_string().into()
    }

    /// The name given at launch, or since by `updateRun`; the campaign's name by default.
    async fn name(&self) -> &str {
        &self.row.name
    }

    /// Type of run: a test, a launch, a scheduled run or guided work.
    #[graphql(name = "type")]
    async fn run_type(&self) -> RunType {
        self.row.run_type
    }

    /// Current status.
    async fn status(&self) -> RunStatus {
        self.row.status
    }

    /// The channel on which its messages are sent.
    async fn channel(&self) -> Channel {
        self.row.channel
    }

    /// The campaign that it executes; null for guided work.
    async fn campaign(&self, ctx: &Context<'_>) -> Result<Option<Row<Campaign>>> {
        Ok(self.plan(ctx).await?.map(Campaign).map(Row))
    }

    /// The version of the campaign that it executes; while it is only scheduled, the version at the
    /// time of scheduling. Null for guided work.
    async fn campaign_version(&self) -> Option<i32> {
        self.row.campaign_id.map(|_| self.row.campaign_version)
    }

    /// Template that guided work was started from; null if it was started without one, and for runs
    /// of campaigns.
    async fn run_template(&self, ctx: &Context<'_>) -> Result<Option<RunTemplate>> {
        Ok(load(ctx, self.row.run_template_id).await?.map(RunTemplate))
    }

    /// Free text for readers; empty if none was given.
    async fn description(&self) -> &str {
        &self.row.description
    }

    /// Number of messages in flight that people sent from within a step: released, being sent, or
    /// with an unknown outcome. The messages of a campaign's own steps are not among them.
    async fn messages_on_way(&self) -> i64 {
        self.row.in_flight
    }

    /// The schedule that started it; null if a person launched it.
    async fn schedule(&self, ctx: &Context<'_>) -> Result<Option<Schedule>> {
        Ok(load(ctx, self.row.schedule_id).await?.map(Schedule))
    }

    /// Time at which it is due to be queued; null if it was launched immediately.
    async fn scheduled_for(&self) -> Option<DateTime<Utc>> {
        self.row.scheduled_for
    }

    /// Time of its schedule's pattern that it stands for: also the past one that it makes up for
    /// (`backfillSchedule`). Null for a run without a schedule, or started by `triggerSchedule`.
    async fn occurrence_at(&self) -> Option<DateTime<Utc>> {
        self.row.occurrence_at.or(self.row.backfill_for)
    }

    /// Time at which it was queued; null before.
    async fn queued_at(&self) -> Option<DateTime<Utc>> {
        self.row.queued_at
    }

    /// Time at which the engine started it; null before.
    async fn started_at(&self) -> Option<DateTime<Utc>> {
        self.row.started_at
    }

    /// Time at which it ended; null before.
    async fn ended_at(&self) -> Option<DateTime<Utc>> {
        self.row.ended_at
    }

    /// Snapshot of the goal, writer, reviewer and template that it started with; null while it is
    /// only scheduled, and for guided work.
    async fn instructions(&self, ctx: &Context<'_>) -> Result<Option<RunInstructions>> {
        let snapshot = must_load(ctx, SnapshotOfRun(self.row.id)).await?;
        Ok(noun::snapshot::instructions(&snapshot).map(RunInstructions))
    }

    /// The structure that it started with and keeps, but for the steps that were added to guided work
    /// and their order; while it is only scheduled, the structure at the time of scheduling, replaced
    /// when it is queued.
    async fn definition(&self, ctx: &Context<'_>) -> Result<Counted<entity::Definition>> {
        Ok(Counted(must_load(ctx, SnapshotOfRun(self.row.id)).await?.definition))
    }

    /// Changes to the campaign, its parts and its structure since the run started; empty while it
    /// is only scheduled.
    async fn drift(&self, ctx: &Context<'_>) -> Result<Counted<Vec<FieldChange>>> {
        let snapshot = must_load(ctx, SnapshotOfRun(self.row.id)).await?;
        Ok(Counted(instructions::drift(ctx, &snapshot, self.plan(ctx).await?).await?))
    }

    /// The preflight report of its launch, or the one that failed it when it was due; null if none
    /// was stored.
    async fn preflight(&self, ctx: &Context<'_>) -> Result<Option<Preflight>> {
        let snapshot = must_load(ctx, SnapshotOfRun(self.row.id)).await?;
        Ok(snapshot.preflight.and_then(|report| serde_json::from_value(report).ok()))
    }

    /// The phases, in order; empty before it starts.
    async fn phases(&self, ctx: &Context<'_>) -> Result<Counted<Vec<Phase>>> {
        counted::list(ctx, self.parts(ctx).await?.phases.iter().cloned().map(Phase).collect())
    }

    /// The active phase; null before its start and after its end.
    async fn current_phase(&self, ctx: &Context<'_>) -> Result<Option<Phase>> {
        let parts = self.parts(ctx).await?;
        Ok(parts.phases.iter().find(|phase| phase.status == PhaseStatus::Active).cloned().map(Phase))
    }

    /// The steps, oldest first by default (`Task.steps`: by place); `filter.runIds` is ignored. Page
    /// with `first` and `after`, or `last` and `before`.
    #[allow(clippy::too_many_arguments, reason = "each is an argument of the field")]
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn steps(
        &self,
        ctx: &Context<'_>,
        filter: Option<StepFilter>,
        order_by: Option<StepOrder>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<Step>> {
        let filter = StepFilter { run_ids: Some(self.ids()), ..filter.unwrap_or_default() };
        let (sort, args) = (StepOrder::of(order_by), args(first, after, last, before));
        Box::pin(sorted(ctx, filter, sort, args, self.fetched.alone)).await
    }

    /// Progress: counts, rate and estimated end.
    async fn progress(&self, ctx: &Context<'_>) -> Result<RunProgress> {
        let definition = must_load(ctx, SnapshotOfRun(self.row.id)).await?.definition;
        Ok(RunProgress::of(ctx, &self.row, &*self.parts(ctx).await?, &definition))
    }

    /// Number of recipients in its audience, including skipped ones; grows until the whole audience
    /// is enrolled.
    async fn audience_count(&self) -> i64 {
        self.row.audience_count
    }

    /// The recipients of its audience, in order of enrolment.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn records(
        &self,
        ctx: &Context<'_>,
        filter: Option<crate::domain::run::recipients::Filter>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<RunRecord>> {
        let filter = filter.unwrap_or_default();
        let page = nested_page(
            ctx,
            noun::recipients::window(db(ctx), viewer(ctx), self.row.id, &filter, args(first, after, None, None))?,
            self.fetched.alone,
        )
        .await?;
        Ok(list(page, Totals::Audience(self.row.id, filter), RunRecord))
    }

    /// The records that it was started with (`linkedRecordIds` of `startGuidedRun` and
    /// `scheduleGuidedRun`), newest first; empty if it was started without any, and for runs of
    /// campaigns. Records deleted since are left out.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn linked_records(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<Record>> {
        Box::pin(self.linked(ctx, args(first, after, None, None))).await
    }

    /// Explanations of its behaviour in plain language; empty if there is nothing unusual.
    async fn findings(&self, ctx: &Context<'_>) -> Result<Counted<Vec<Finding>>> {
        counted::list(ctx, load(ctx, Some(FindingsOfRun(self.row.id))).await?.unwrap_or_default())
    }

    /// The messages, in order of creation.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn communications(
        &self,
        ctx: &Context<'_>,
        statuses: Option<Vec<entity::CommunicationStatus>>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<Communication, CommunicationTotals>> {
        let filter = MessageFilter { run_ids: Some(self.ids()), statuses, ..MessageFilter::default() };
        Box::pin(communications(ctx, filter, args(first, after, None, None), self.fetched.alone)).await
    }

    /// Replies to its messages, newest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn replies(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<Reply, ReplyTotals>> {
        let filter = ReplyFilter { run_ids: Some(self.ids()), ..ReplyFilter::default() };
        Box::pin(replies(ctx, filter, None, args(first, after, None, None), self.fetched.alone)).await
    }

    /// Activities in the run, newest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn activities(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<List<Activity>> {
        let filter = ActivityFilter { run_ids: Some(self.ids()), ..ActivityFilter::default() };
        Box::pin(activities(ctx, filter, args(first, after, None, None), self.fetched.alone)).await
    }

    /// Notes about it, newest first, whatever they belong to; empty if there is none.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn notes(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<List<RunNote>> {
        let of = NotesOf::Run(self.row.id);
        Box::pin(notes(ctx, of, args(first, after, None, None), self.fetched.alone)).await
    }

    /// Numbers of actions in guided work, per step and in total; null for runs of campaigns.
    async fn summary(&self, ctx: &Context<'_>) -> Result<Option<RunSummary>> {
        if self.row.run_type != RunType::Guided {
            return Ok(None);
        }
        let (parts, found) = (self.parts(ctx).await?, must_load(ctx, SummaryOf(self.row.id)).await?);
        Ok(Some(RunSummary::of(&parts.tasks, &found)))
    }

    /// The run's events from the durable log, oldest first; from the newest
    /// backwards with `last` and `before`.
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn events(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<Events> {
        let which = EventSelector { runs: Some(vec![self.row.id]), ..EventSelector::default() };
        Box::pin(events(ctx, which, args(first, after, last, before), self.fetched.alone)).await
    }

    /// The outcome in a sentence, from its `summarise` step; for guided work, the text given at
    /// completion, or by `updateRunOutcome` since. Null before, and if there is neither.
    async fn outcome(&self) -> Option<&str> {
        self.row.outcome.as_deref()
    }

    /// The run that it repeats; null if it repeats none.
    async fn parent(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
        Ok(load(ctx, self.row.parent_id).await?.map(Run::from))
    }

    /// Reason for its failure or cancellation, for people; null if there was none.
    async fn failure(&self) -> Option<&str> {
        self.row.failure.as_deref()
    }

    /// Code of the failure or cancellation, for programs; null while it is open, and if it is
    /// completed.
    async fn failure_code(&self) -> Option<RunFailure> {
        RunFailure::of(self.row.status, self.row.started_at.is_some())
    }

    /// Reasons for which it can't proceed by itself now, and SWEEP while a large change is under way;
    /// empty if it proceeds or has ended.
    async fn waiting_for(&self, ctx: &Context<'_>) -> Result<Vec<Constraint>> {
        self.waiting(ctx).await
    }

    /// All actions on the run: allowed now, or blocked with the reason.
    async fn available_actions(&self, ctx: &Context<'_>) -> Result<Vec<AvailableAction>> {
        let campaign = self.plan(ctx).await?.as_deref().map(CampaignFacts::of);
        let parts = self.parts(ctx).await?;
        let unreached =
            if self.row.status.is_open() { None } else { load(ctx, Some(UnreachedOfRun(self.row.id))).await? };
        let context = RunContext::of(campaign, &parts.tasks, unreached);
        Action::ALL
            .into_iter()
            .map(|action| AvailableAction::of_verdict(action, check_allowed(&self.row, &context, action)))
            .collect()
    }

    /// The actor that launched it.
    async fn created_by(&self) -> Actor {
        self.row.created_by.clone().into()
    }

    /// Creation time.
    async fn created_at(&self) -> DateTime<Utc> {
        self.row.created_at
    }

    /// Incremented by the changes that matter to people; pass it back as `expectedRevision` to
    /// detect conflicts.
    async fn revision(&self) -> i32 {
        self.row.revision
    }
}

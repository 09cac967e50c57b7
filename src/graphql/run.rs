//! Runs: the list, the detail, launches, and what people do with them; their phases and tasks.

pub mod audience;
pub mod change;
mod fetch;
pub mod guided;
pub mod instructions;
pub mod launch;
pub mod list;
pub mod phase;
pub mod progress;
pub mod summary;
pub mod waiting;

use std::sync::Arc;

use async_graphql::{Context, ID, Object, Result};
use chrono::{DateTime, Utc};
use entity::run::RunFailure;
use entity::{Channel, PhaseStatus, RunStatus, RunType};

use super::activity::{Activity, activities};
use super::campaign::Campaign;
use super::communication::Communication;
use super::event::{Events, events};
use super::list::{List, Totals, args, list};
use super::loader::{Channels, RunParts, SnapshotOfRun, StepWaitsOfRun, UnreachedOfRun, below, load, must_load};
use super::reply::Reply;
use super::run_template::RunTemplate;
use super::schedule::Schedule;
use super::step::Step;
use super::{Actor, AvailableAction, db, viewer};
use crate::domain::plan::campaign::preflight::Preflight;
use crate::domain::plan::campaign_snapshot::{CampaignParts, Instructions};
use crate::domain::run::findings::Finding;
use crate::domain::run::step::StepFilter;
use crate::domain::run::waiting::{WaitContext, reasons};
use crate::domain::run::{self as noun, Action};
use crate::graphql::counted::Counted;
use audience::RunRecord;
pub use instructions::FieldChange;
use instructions::RunInstructions;
use phase::Phase;
use progress::RunProgress;
use summary::{RunSummary, SummaryOf};
use waiting::Constraint;

/// One execution of a campaign.
pub struct Run {
    row: entity::run::Model,
    fetched: Fetched,
}

/// What was fetched together with the runs of a list, or the one that was asked for; the rest is loaded when it is asked.
#[derive(Clone, Default)]
struct Fetched {
    campaign: Option<Arc<entity::campaign::Model>>,
    parts: Option<Arc<RunParts>>,
    /// There is no other beside it: what is below it is asked for at once, and not collected.
    alone: bool,
}

impl From<entity::run::Model> for Run {
    fn from(row: entity::run::Model) -> Self {
        Self { row, fetched: Fetched::default() }
    }
}

/// One execution of a campaign.
#[Object]
impl Run {
    /// The id.
    pub async fn id(&self) -> ID {
        self.row.id.to_string().into()
    }

    /// Its own name; the campaign's, unless one was given at launch.
    async fn name(&self) -> &str {
        &self.row.name
    }

    /// How it came to be.
    #[graphql(name = "type")]
    async fn run_type(&self) -> RunType {
        self.row.run_type
    }

    /// Where it stands.
    async fn status(&self) -> RunStatus {
        self.row.status
    }

    /// The way to its records.
    async fn channel(&self) -> Channel {
        self.row.channel
    }

    /// The plan that it executes; null for guided work, which has none.
    async fn campaign(&self, ctx: &Context<'_>) -> Result<Option<Campaign>> {
        Ok(self.plan(ctx).await?.map(Campaign))
    }

    /// The plan's version that it executes; null for guided work.
    async fn campaign_version(&self) -> Option<i32> {
        self.row.campaign_id.map(|_| self.row.campaign_version)
    }

    /// The template that guided work was begun from; null for what was put together by hand, and for runs of campaigns.
    async fn run_template(&self, ctx: &Context<'_>) -> Result<Option<RunTemplate>> {
        Ok(load(ctx, self.row.run_template_id).await?.map(RunTemplate))
    }

    /// For its readers; empty where nothing was said.
    async fn description(&self) -> &str {
        &self.row.description
    }

    /// Messages of guided work whose fate is open: let out, being sent, or unknown. 0 for runs of campaigns.
    async fn messages_in_flight(&self) -> i64 {
        self.row.on_way
    }

    /// The schedule that it is an occurrence of; null where it was launched by a person.
    async fn schedule(&self, ctx: &Context<'_>) -> Result<Option<Schedule>> {
        Ok(load(ctx, self.row.schedule_id).await?.map(Schedule))
    }

    /// When it is to be queued; null where it was launched at once.
    async fn scheduled_for(&self) -> Option<DateTime<Utc>> {
        self.row.scheduled_for
    }

    /// When it was let in; null before.
    async fn queued_at(&self) -> Option<DateTime<Utc>> {
        self.row.queued_at
    }

    /// When the engine began it; null before.
    async fn started_at(&self) -> Option<DateTime<Utc>> {
        self.row.started_at
    }

    /// When it ended; null before.
    async fn ended_at(&self) -> Option<DateTime<Utc>> {
        self.row.ended_at
    }

    /// What it was told, as it was then; null while it is only scheduled.
    async fn instructions(&self, ctx: &Context<'_>) -> Result<Option<RunInstructions>> {
        let told = must_load(ctx, SnapshotOfRun(self.row.id)).await?;
        Ok(noun::snapshot::instructions(&told).map(RunInstructions))
    }

    /// The structure that it started with, which it keeps; of one that is only scheduled, as it would be now.
    async fn definition(&self, ctx: &Context<'_>) -> Result<Counted<entity::Definition>> {
        Ok(Counted(must_load(ctx, SnapshotOfRun(self.row.id)).await?.definition))
    }

    /// What has changed in the campaign, its parts and its structure since; empty while it is only scheduled.
    async fn drift(&self, ctx: &Context<'_>) -> Result<Counted<Vec<FieldChange>>> {
        let told = must_load(ctx, SnapshotOfRun(self.row.id)).await?;
        let kept = told.definition.clone();
        let Some(told) = noun::snapshot::instructions(&told) else { return Ok(Counted(Vec::new())) };
        let Some(campaign) = self.plan(ctx).await? else { return Ok(Counted(Vec::new())) };
        let campaign = campaign.as_ref().clone();
        let parts = Box::pin(CampaignParts::of(db(ctx).read(), viewer(ctx), campaign)).await?;
        let mut all = told.drift(&Instructions::of(&parts))?;
        if kept != parts.resolved.definition {
            let (then, now) = (serde_json::json!(kept), serde_json::json!(parts.resolved.definition));
            all.push(("definition".to_owned(), then, now));
        }
        Ok(Counted(all.into_iter().map(FieldChange::from).collect()))
    }

    /// The report that it was launched with, or that failed it when it fell due; null where none was kept.
    async fn preflight(&self, ctx: &Context<'_>) -> Result<Option<Preflight>> {
        let told = must_load(ctx, SnapshotOfRun(self.row.id)).await?;
        Ok(told.preflight.and_then(|report| serde_json::from_value(report).ok()))
    }

    /// Its phases, in order; empty before it begins.
    async fn phases(&self, ctx: &Context<'_>) -> Result<Counted<Vec<Phase>>> {
        Ok(Counted(self.parts(ctx).await?.phases.iter().cloned().map(Phase).collect()))
    }

    /// The phase at work; null before it begins and after its end.
    async fn current_phase(&self, ctx: &Context<'_>) -> Result<Option<Phase>> {
        let parts = self.parts(ctx).await?;
        Ok(parts.phases.iter().find(|phase| phase.status == PhaseStatus::Active).cloned().map(Phase))
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
        filter.run_ids = Some(vec![self.row.id.to_string().into()]);
        Box::pin(super::step::steps(ctx, filter, args(first, after, None, None), self.fetched.alone)).await
    }

    /// How far it has come.
    async fn progress(&self, ctx: &Context<'_>) -> Result<RunProgress> {
        let definition = must_load(ctx, SnapshotOfRun(self.row.id)).await?.definition;
        Ok(RunProgress::of(ctx, &self.row, &*self.parts(ctx).await?, &definition))
    }

    /// How many places its audience has, with those left out; grows until the audience has been taken in.
    async fn audience_count(&self) -> i64 {
        self.row.audience_count
    }

    /// Its audience, place by place, in the order in which it was taken in.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn records(
        &self,
        ctx: &Context<'_>,
        filter: Option<crate::domain::run::recipients::Filter>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<RunRecord>> {
        let filter = filter.unwrap_or_default();
        let page = below(
            ctx,
            noun::recipients::window(db(ctx), viewer(ctx), self.row.id, &filter, args(first, after, None, None))?,
            self.fetched.alone,
        )
        .await?;
        Ok(list(page, Totals::Audience(self.row.id, filter), RunRecord))
    }

    /// Why it behaved as it did, in plain answers; empty where all went as one would think.
    #[graphql(complexity = "20 + child_complexity")]
    async fn findings(&self, ctx: &Context<'_>) -> Result<Vec<Finding>> {
        Ok(Box::pin(noun::findings::findings(db(ctx), viewer(ctx), &self.row)).await?)
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
        let filter = crate::domain::message::communication::Filter {
            run_ids: Some(vec![self.row.id.to_string().into()]),
            statuses,
            ..crate::domain::message::communication::Filter::default()
        };
        let window = crate::domain::message::communication::window(
            db(ctx),
            viewer(ctx),
            &filter,
            args(first, after, None, None),
        )?;
        let page = below(ctx, window, self.fetched.alone).await?;
        Ok(list(page, Totals::Communications(filter), Communication))
    }

    /// What came back, the newest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn replies(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<List<Reply>> {
        let filter = crate::domain::message::reply::Filter {
            run_id: Some(self.row.id),
            ..crate::domain::message::reply::Filter::default()
        };
        let window = crate::domain::message::reply::window(viewer(ctx), filter, args(first, after, None, None))?;
        let page = below(ctx, window, self.fetched.alone).await?;
        Ok(list(page, Totals::Replies(filter), Reply))
    }

    /// What was done in guided work, the newest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn activities(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<List<Activity>> {
        let filter = crate::domain::message::activity::Filter {
            run_ids: Some(vec![self.row.id.to_string().into()]),
            ..crate::domain::message::activity::Filter::default()
        };
        Box::pin(activities(ctx, filter, args(first, after, None, None), self.fetched.alone)).await
    }

    /// What was done in guided work, in numbers, per step and in all; null for runs of campaigns.
    async fn summary(&self, ctx: &Context<'_>) -> Result<Option<RunSummary>> {
        if self.row.run_type != RunType::Guided {
            return Ok(None);
        }
        let (parts, found) = (self.parts(ctx).await?, must_load(ctx, SummaryOf(self.row.id)).await?);
        Ok(Some(RunSummary::of(&parts.tasks, &found)))
    }

    /// Its history from the log, oldest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn events(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<Events> {
        let which = crate::kernel::event::EventSelector {
            runs: Some(vec![self.row.id]),
            ..crate::kernel::event::EventSelector::default()
        };
        Box::pin(events(ctx, which, args(first, after, None, None), self.fetched.alone)).await
    }

    /// What came of it, in a sentence; null before its summary.
    async fn outcome(&self) -> Option<&str> {
        self.row.outcome.as_deref()
    }

    /// The run that it repeats; null where it repeats none.
    async fn parent(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
        Ok(load(ctx, self.row.parent_id).await?.map(Run::from))
    }

    /// Why it failed or was cancelled; null where it was not.
    async fn failure(&self) -> Option<&str> {
        self.row.failure.as_deref()
    }

    /// The same as a code, for programs; null while it is open, and once it is completed.
    async fn failure_code(&self) -> Option<RunFailure> {
        RunFailure::of(self.row.status, self.row.started_at.is_some())
    }

    /// Why it does not move by itself just now; empty where it moves, or has ended.
    async fn waiting_for(&self, ctx: &Context<'_>) -> Result<Vec<Constraint>> {
        if !self.row.status.is_open() {
            return Ok(Vec::new());
        }
        let (campaign, parts) = (self.plan(ctx).await?, self.parts(ctx).await?);
        let (channels, found) = (must_load(ctx, Channels).await?, must_load(ctx, StepWaitsOfRun(self.row.id)).await?);
        let definition = must_load(ctx, SnapshotOfRun(self.row.id)).await?.definition;
        let waiting = self.row.schedule_id.filter(|_| self.row.status == RunStatus::Scheduled);
        let schedule: Option<entity::schedule::Model> = load(ctx, waiting).await?;
        let around = WaitContext {
            schedule: schedule.as_ref(),
            run: &self.row,
            campaign: campaign.as_deref(),
            phases: &parts.phases,
            tasks: &parts.tasks,
            definition: &definition,
            channel: channels.get(&Channel::Email),
            found: &found,
        };
        Ok(reasons(&around).into_iter().map(Constraint).collect())
    }

    /// What can be done with it now, and why not the rest.
    async fn available_actions(&self, ctx: &Context<'_>) -> Result<Vec<AvailableAction>> {
        let campaign = self.plan(ctx).await?.map(|campaign| campaign.status);
        let parts = self.parts(ctx).await?;
        let may = |action| {
            noun::check_allowed(&self.row, campaign, action)?;
            if action == Action::Complete { noun::guided::is_through(&self.row, &parts.tasks) } else { Ok(()) }
        };
        let judged =
            if self.row.status.is_open() { None } else { load(ctx, Some(UnreachedOfRun(self.row.id))).await? };
        let mut all = Vec::new();
        for action in Action::ALL {
            let judged = may(action).and_then(|()| match (action, &judged) {
                (Action::Retry, Some(judged)) => Ok(judged.retry.clone().map(|_| ())?),
                (Action::RepeatFailed, Some(judged)) => Ok(judged.repeat.clone()?),
                _ => Ok(()),
            });
            all.push(AvailableAction::judged(action, judged)?);
        }
        Ok(all)
    }

    /// Who launched it.
    async fn created_by(&self) -> Actor {
        self.row.created_by.clone().into()
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime<Utc> {
        self.row.created_at
    }

    /// Counts the changes that a person would name; pass it back as `expectedRevision`.
    async fn revision(&self) -> i32 {
        self.row.revision
    }
}

//! Campaigns: the reusable plan and its lifecycle.

pub mod change;
mod latest;
pub mod list;
pub mod preview;

use std::sync::Arc;

use async_graphql::{Context, ID, Json, Object, Result};
use chrono::{DateTime, Utc};
use entity::{CampaignStatus, Channel};

use super::communication::{Communication, communications};
use super::event::{Events, events};
use super::goal::Goal;
use super::list::{CommunicationTotals, List, RunTotals, Totals, args, list};
use super::loader::{BuiltIn, PartsOfRun, TagsOfCampaign, load, must_load, nested_page};
use super::message_template::MessageTemplate;
use super::record::Record;
use super::reply::{Reply, ReplyTotals, replies};
use super::reviewer::Reviewer;
use super::run::FieldChange;
use super::run::Run;
use super::run::list::RunOrder;
use super::run::note::{RunNote, notes};
use super::run::phase::Phase;
use super::run_template::{ResolvedDefinition, RunTemplate};
use super::schedule::Schedule;
use super::segment::Segment;
use super::version::CampaignVersion;
use super::writer::Writer;
use super::{Actor, AvailableAction, db, viewer};
use crate::domain::message::reply::Filter as ReplyFilter;
use crate::domain::plan::campaign as noun;
use crate::domain::plan::campaign::preflight::{self, LaunchAction, Preflight, PreflightContext};
use crate::domain::plan::campaign::transition::Action;
use crate::domain::plan::campaign_snapshot::CampaignParts;
use crate::domain::run::list::RunFilter;
use crate::domain::run::note::NotesOf;
use crate::graphql::counted::Counted;
use crate::graphql::selection::text;

/// A reusable plan: goal, writer, reviewer, message template, audience and channel. Its executions
/// are runs.
pub struct Campaign(pub Arc<entity::campaign::Model>);

row_fields! {
    Campaign, entity::campaign, |row: 0|
    "id" [Id] => text(row.id),
    "name" [Name] => row.name.to_value(),
    "description" [Description] => row.description.to_value(),
    "channel" [Channel] => row.channel.to_value(),
    "status" [Status] => row.status.to_value(),
    "active" [Status] => (row.status == CampaignStatus::Active).into(),
    "version" [Version] => row.version.to_value(),
    "rejectedBecause" [RejectedBecause] => row.rejected_because.to_value(),
    "approvedAt" [ApprovedAt] => row.approved_at.to_value(),
    "approvedVersion" [ApprovedVersion] => row.approved_version.to_value(),
    "startedAt" [StartedAt] => row.started_at.to_value(),
    "completedAt" [CompletedAt] => row.completed_at.to_value(),
    "createdAt" [CreatedAt] => row.created_at.to_value(),
    "updatedAt" [UpdatedAt] => row.updated_at.to_value(),
    "revision" [Revision] => row.revision.to_value(),
    "archivedAt" [ArchivedAt] => row.archived_at.to_value(),
    resolved from:
    "tags" [Id],
    "lastRun" [Id],
    "nextFireAt" [Id, Status],
}

impl From<entity::campaign::Model> for Campaign {
    fn from(row: entity::campaign::Model) -> Self {
        Self(Arc::new(row))
    }
}

/// A reusable plan: goal, writer, reviewer, message template, audience and channel. Its executions
/// are runs.
#[Object]
impl Campaign {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Free text for readers; empty if none was given.
    async fn description(&self) -> &str {
        &self.0.description
    }

    /// The channel on which its messages are sent.
    async fn channel(&self) -> Channel {
        self.0.channel
    }

    /// Current status.
    async fn status(&self) -> CampaignStatus {
        self.0.status
    }

    /// True if it may run now: its status is ACTIVE.
    async fn active(&self) -> bool {
        self.0.status == CampaignStatus::Active
    }

    /// The campaign's purpose; null if none is chosen.
    async fn goal(&self, ctx: &Context<'_>) -> Result<Option<Goal>> {
        Ok(load(ctx, self.0.goal_id).await?.map(Goal))
    }

    /// The source of its content; null if none is chosen.
    async fn writer(&self, ctx: &Context<'_>) -> Result<Option<Writer>> {
        Ok(load(ctx, self.0.writer_id).await?.map(Writer))
    }

    /// The reviewer who approves its content; null if none is chosen.
    async fn reviewer(&self, ctx: &Context<'_>) -> Result<Option<Reviewer>> {
        Ok(load(ctx, self.0.reviewer_id).await?.map(Reviewer))
    }

    /// The template that its messages are rendered from; null if none is chosen.
    async fn message_template(&self, ctx: &Context<'_>) -> Result<Option<MessageTemplate>> {
        Ok(load(ctx, self.0.message_template_id).await?.map(MessageTemplate))
    }

    /// The campaign's audience; null if none is chosen, or if a single record is chosen instead.
    async fn segment(&self, ctx: &Context<'_>) -> Result<Option<Segment>> {
        Ok(load(ctx, self.0.segment_id).await?.map(Segment))
    }

    /// The single record chosen as audience instead of a segment; null if none is.
    async fn record(&self, ctx: &Context<'_>) -> Result<Option<Record>> {
        Ok(load(ctx, self.0.record_id).await?.map(Record))
    }

    /// Template for the structure of its runs: the chosen one, or the platform's for its channel.
    async fn run_template(&self, ctx: &Context<'_>) -> Result<RunTemplate> {
        match self.0.run_template_id {
            Some(id) => Ok(RunTemplate(must_load(ctx, id).await?)),
            None => {
                let key = crate::domain::plan::run_template::built_in::outreach_key(self.0.channel);
                Ok(RunTemplate(must_load(ctx, BuiltIn(key)).await?))
            }
        }
    }

    /// The campaign's changes to the template's structure, in order.
    async fn overrides(&self) -> Counted<Vec<entity::definition::Override>> {
        Counted(self.0.overrides.0.clone())
    }

    /// The structure that its next run starts with: the layers of platform, org and campaign
    /// combined.
    #[graphql(complexity = "50 + child_complexity")]
    async fn resolved_definition(&self, ctx: &Context<'_>) -> Result<Counted<ResolvedDefinition>> {
        let parts = Box::pin(CampaignParts::of(db(ctx).read(), viewer(ctx), self.0.as_ref().clone())).await?;
        Box::pin(ResolvedDefinition::of(ctx, entity::TemplateKind::Campaign, parts.resolved)).await.map(Counted)
    }

    /// Instructions for the writer, in addition to the writer's own; empty if none were given.
    async fn instructions(&self) -> Counted<&str> {
        Counted(&self.0.instructions)
    }

    /// Values for placeholders, as a flat object.
    async fn variables(&self) -> Counted<Json<serde_json::Value>> {
        Counted(Json(self.0.variables.clone()))
    }

    /// Version number, incremented by every edit. A run keeps the version that it started with.
    async fn version(&self) -> i32 {
        self.0.version
    }

    /// Reason for the last rejection; null if it was not rejected, or was submitted again.
    async fn rejected_because(&self) -> Option<&str> {
        self.0.rejected_because.as_deref()
    }

    /// The actor that approved it; null before approval.
    async fn approved_by(&self) -> Option<Actor> {
        self.0.approved_by.clone().map(Actor::from)
    }

    /// Time of approval; null before.
    async fn approved_at(&self) -> Option<DateTime<Utc>> {
        self.0.approved_at
    }

    /// The last approved version; null before the first approval.
    async fn approved_version(&self) -> Option<i32> {
        self.0.approved_version
    }

    /// Time at which it first became ACTIVE, with its first approval; null before.
    async fn started_at(&self) -> Option<DateTime<Utc>> {
        self.0.started_at
    }

    /// Time of its end: at which it became COMPLETED, FAILED or CANCELLED. Null before, and again
    /// once a retry of its run has reopened it.
    async fn completed_at(&self) -> Option<DateTime<Utc>> {
        self.0.completed_at
    }

    /// Relevant changes since the last approval: to the campaign's own fields except name and
    /// description, and to the content of its parts. While there are any, RUN and SCHEDULE fail
    /// their preflight (APPROVED_VERSION) until `approveCampaign`. Empty before the first approval.
    #[graphql(complexity = "20 + child_complexity")]
    async fn changed_since_approval(&self, ctx: &Context<'_>) -> Result<Counted<Vec<FieldChange>>> {
        let parts = Box::pin(CampaignParts::of(db(ctx).read(), viewer(ctx), self.0.as_ref().clone())).await?;
        let changed = Box::pin(noun::approval::changed(db(ctx).read(), viewer(ctx), &parts)).await?;
        Ok(Counted(changed.into_iter().map(FieldChange::from).collect()))
    }

    /// Tags, in the order of their code points.
    async fn tags(&self, ctx: &Context<'_>) -> Result<Counted<Vec<String>>> {
        Ok(Counted(load(ctx, Some(TagsOfCampaign(self.0.id))).await?.unwrap_or_default()))
    }

    /// Time at which it was archived; null if it is not.
    async fn archived_at(&self) -> Option<DateTime<Utc>> {
        self.0.archived_at
    }

    /// The actor that archived it; null if it is not archived.
    async fn archived_by(&self) -> Option<Actor> {
        self.0.archived_by.clone().map(Actor::from)
    }

    /// The actor that created it.
    async fn created_by(&self) -> Actor {
        self.0.created_by.clone().into()
    }

    /// Creation time.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// Time of the last change.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }

    /// Incremented by every change; pass it back as `expectedRevision` to detect conflicts.
    async fn revision(&self) -> i32 {
        self.0.revision
    }

    /// The versions, newest first, each with its author, time and changes.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn versions(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<CampaignVersion>> {
        let window = noun::version::window(viewer(ctx), self.0.id, args(first, after, None, None))?;
        let page = nested_page(ctx, window, false).await?;
        Ok(list(page, Totals::Versions(self.0.id), CampaignVersion))
    }

    /// Checks whether an action is possible now and lists every reason against it. Checks that
    /// depend on the launch's input are not made here.
    #[graphql(complexity = "50 + child_complexity")]
    async fn preflight(&self, ctx: &Context<'_>, action: LaunchAction) -> Result<Preflight> {
        let parts = Box::pin(CampaignParts::of(db(ctx).read(), viewer(ctx), self.0.as_ref().clone())).await?;
        Ok(Box::pin(preflight::preflight(db(ctx), viewer(ctx), &parts, action, PreflightContext::default())).await?)
    }

    /// All actions on the campaign: allowed now, or blocked with the reason.
    #[graphql(complexity = "50 + child_complexity")]
    async fn available_actions(&self, ctx: &Context<'_>) -> Result<Vec<AvailableAction>> {
        let mut all = Vec::new();
        for action in Action::ALL {
            let verdict = Box::pin(noun::transition::check_allowed(db(ctx), viewer(ctx), &self.0, action)).await;
            all.push(AvailableAction::of_verdict(action, verdict)?);
        }
        Ok(all)
    }

    /// The campaign's runs, newest first by default; `filter.campaignIds` is ignored. Page with
    /// `first` and `after`, or `last` and `before`.
    #[allow(clippy::too_many_arguments, reason = "each is an argument of the field")]
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
        let mut filter = filter.unwrap_or_default();
        filter.campaign_ids = Some(vec![self.0.id.to_string().into()]);
        Box::pin(super::run::list::runs(ctx, filter, order_by, args(first, after, last, before), false)).await
    }

    /// The run created last among those that are queued, in progress or paused, including test
    /// runs; null if there is none. Scheduled runs do not count.
    async fn current_run(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
        Ok(self.open_run(ctx).await?.map(Run::from))
    }

    /// The run that began last, open or ended, without test runs; null if none has begun.
    async fn last_run(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
        Ok(self.last_begun(ctx).await?.map(Run::from))
    }

    /// The earliest `nextAt` of its active schedules; null if it has none, and unless it is ACTIVE.
    async fn next_fire_at(&self, ctx: &Context<'_>) -> Result<Option<DateTime<Utc>>> {
        self.next_fire(ctx).await
    }

    /// The messages of its runs, in order of creation.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn communications(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<Communication, CommunicationTotals>> {
        let filter = crate::domain::message::communication::Filter {
            campaign_ids: Some(vec![self.0.id.to_string().into()]),
            ..crate::domain::message::communication::Filter::default()
        };
        Box::pin(communications(ctx, filter, args(first, after, None, None), false)).await
    }

    /// Replies to its messages, newest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn replies(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<Reply, ReplyTotals>> {
        let filter = ReplyFilter { campaign_ids: Some(vec![self.0.id.to_string().into()]), ..ReplyFilter::default() };
        Box::pin(replies(ctx, filter, None, args(first, after, None, None), false)).await
    }

    /// Notes about its runs that belong to the campaign, newest first: what to do in another way next
    /// time. Empty if there is none.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn notes(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<List<RunNote>> {
        Box::pin(notes(ctx, NotesOf::Campaign(self.0.id), args(first, after, None, None), false)).await
    }

    /// The active phase of the latest open run; null if there is none.
    async fn current_phase(&self, ctx: &Context<'_>) -> Result<Option<Phase>> {
        let Some(run) = self.open_run(ctx).await? else { return Ok(None) };
        let parts = must_load(ctx, PartsOfRun(run.id)).await?;
        Ok(parts.phases.iter().find(|phase| phase.status == entity::PhaseStatus::Active).cloned().map(Phase))
    }

    /// The campaign's events and those of its runs from the durable log, oldest first; from the newest
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
        let which = crate::kernel::event::EventSelector {
            campaigns: Some(vec![self.0.id]),
            ..crate::kernel::event::EventSelector::default()
        };
        Box::pin(events(ctx, which, args(first, after, last, before), false)).await
    }

    /// The schedules that start its runs, newest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn schedules(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<List<Schedule>> {
        let of = Some(self.0.id);
        let window = crate::domain::plan::schedule::window(viewer(ctx), of, args(first, after, None, None))?;
        let page = nested_page(ctx, window, false).await?;
        Ok(list(page, Totals::Schedules(of), Schedule))
    }
}

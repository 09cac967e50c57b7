//! Campaigns: the plan and its life.

pub mod change;
pub mod preview;

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Json, Object, Result};
use chrono::{DateTime, Utc};
use entity::id::CampaignId;
use entity::{CampaignStatus, Channel};

use super::communication::Communication;
use super::event::{Events, events};
use super::goal::Goal;
use super::list::{List, RunTotals, Totals, args, list};
use super::loader::{BuiltIn, CampaignPartsOfRun, below, load, must_load};
use super::message_template::MessageTemplate;
use super::record::{Direction, Record};
use super::reply::Reply;
use super::reviewer::Reviewer;
use super::run::FieldChange;
use super::run::Run;
use super::run::list::RunOrder;
use super::run::phase::Phase;
use super::run_template::{ResolvedDefinition, RunTemplate};
use super::schedule::Schedule;
use super::segment::Segment;
use super::version::CampaignVersion;
use super::writer::Writer;
use super::{Actor, AvailableAction, db, viewer};
use crate::domain::plan::campaign::preflight::{self, LaunchAction, Preflight, PreflightContext};
use crate::domain::plan::campaign::transition::Action;
use crate::domain::plan::campaign::{self as noun, Filter, SortBy};
use crate::domain::plan::campaign_snapshot::CampaignParts;
use crate::domain::run::list::RunFilter;
use crate::graphql::counted::Counted;
use crate::kernel::validate;

/// The plan, reusable: goal, writer, reviewer, message template, audience, channel. Never the execution.
pub struct Campaign(pub Arc<entity::campaign::Model>);

impl From<entity::campaign::Model> for Campaign {
    fn from(row: entity::campaign::Model) -> Self {
        Self(Arc::new(row))
    }
}

/// The plan, reusable: goal, writer, reviewer, message template, audience, channel. Never the execution.
#[Object]
impl Campaign {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// For its readers; empty where nothing was said.
    async fn description(&self) -> &str {
        &self.0.description
    }

    /// The way to its records.
    async fn channel(&self) -> Channel {
        self.0.channel
    }

    /// Where it stands in its life.
    async fn status(&self) -> CampaignStatus {
        self.0.status
    }

    /// Whether it may run now.
    async fn active(&self) -> bool {
        self.0.status == CampaignStatus::Active
    }

    /// What it is for; null where none is chosen.
    async fn goal(&self, ctx: &Context<'_>) -> Result<Option<Goal>> {
        Ok(load(ctx, self.0.goal_id).await?.map(Goal))
    }

    /// Where its content comes from; null where none is chosen.
    async fn writer(&self, ctx: &Context<'_>) -> Result<Option<Writer>> {
        Ok(load(ctx, self.0.writer_id).await?.map(Writer))
    }

    /// Who lets content out; null where none is chosen.
    async fn reviewer(&self, ctx: &Context<'_>) -> Result<Option<Reviewer>> {
        Ok(load(ctx, self.0.reviewer_id).await?.map(Reviewer))
    }

    /// What is rendered; null where none is chosen.
    async fn message_template(&self, ctx: &Context<'_>) -> Result<Option<MessageTemplate>> {
        Ok(load(ctx, self.0.message_template_id).await?.map(MessageTemplate))
    }

    /// Its audience; null where none is chosen, or a record stands in its place.
    async fn segment(&self, ctx: &Context<'_>) -> Result<Option<Segment>> {
        Ok(load(ctx, self.0.segment_id).await?.map(Segment))
    }

    /// Its one record, in place of a segment; null where it has none.
    async fn record(&self, ctx: &Context<'_>) -> Result<Option<Record>> {
        Ok(load(ctx, self.0.record_id).await?.map(Record))
    }

    /// The template of its runs' structure: its own choice, or the platform's for its channel.
    async fn run_template(&self, ctx: &Context<'_>) -> Result<RunTemplate> {
        match self.0.run_template_id {
            Some(id) => Ok(RunTemplate(must_load(ctx, id).await?)),
            None => {
                let key = crate::domain::plan::run_template::built_in::outreach_key(self.0.channel);
                Ok(RunTemplate(must_load(ctx, BuiltIn(key)).await?))
            }
        }
    }

    /// What it changes in the template's structure, in order.
    async fn overrides(&self) -> Counted<Vec<entity::definition::Override>> {
        Counted(self.0.overrides.0.clone())
    }

    /// The structure that its next run is made from: platform, org and campaign laid over each other.
    #[graphql(complexity = "50 + child_complexity")]
    async fn resolved_definition(&self, ctx: &Context<'_>) -> Result<Counted<ResolvedDefinition>> {
        let parts = Box::pin(CampaignParts::of(db(ctx).read(), viewer(ctx), self.0.as_ref().clone())).await?;
        Box::pin(ResolvedDefinition::of(ctx, entity::TemplateKind::Campaign, parts.resolved)).await.map(Counted)
    }

    /// What its writer is told beyond the writer's own instructions; empty where nothing was said.
    async fn instructions(&self) -> Counted<&str> {
        Counted(&self.0.instructions)
    }

    /// Values for placeholders, a flat object.
    async fn variables(&self) -> Counted<Json<serde_json::Value>> {
        Counted(Json(self.0.variables.clone()))
    }

    /// Rises with every edit; runs keep the version that they started with.
    async fn version(&self) -> i32 {
        self.0.version
    }

    /// Why it was last rejected; null where it was not, or has been submitted again.
    async fn rejected_because(&self) -> Option<&str> {
        self.0.rejected_because.as_deref()
    }

    /// Who approved it; null before.
    async fn approved_by(&self) -> Option<Actor> {
        self.0.approved_by.clone().map(Actor::from)
    }

    /// When it was approved; null before.
    async fn approved_at(&self) -> Option<DateTime<Utc>> {
        self.0.approved_at
    }

    /// The version that was approved last; null before the first approval.
    async fn approved_version(&self) -> Option<i32> {
        self.0.approved_version
    }

    /// What matters and has changed since the last approval: its own fields but name and description, and the content of
    /// its parts. While there is something, RUN and SCHEDULE fail their preflight (APPROVED_VERSION) until `approveCampaign`.
    /// Empty before the first approval.
    #[graphql(complexity = "20 + child_complexity")]
    async fn changed_since_approval(&self, ctx: &Context<'_>) -> Result<Counted<Vec<FieldChange>>> {
        let parts = Box::pin(CampaignParts::of(db(ctx).read(), viewer(ctx), self.0.as_ref().clone())).await?;
        let changed = Box::pin(noun::approval::changed(db(ctx).read(), viewer(ctx), &parts)).await?;
        Ok(Counted(changed.into_iter().map(FieldChange::from).collect()))
    }

    /// Who made it.
    async fn created_by(&self) -> Actor {
        self.0.created_by.clone().into()
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// When it was last changed.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }

    /// Counts its changes; pass it back as `expectedRevision`.
    async fn revision(&self) -> i32 {
        self.0.revision
    }

    /// What changed, who changed it, when; the newest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn versions(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<CampaignVersion>> {
        let window = noun::version::window(viewer(ctx), self.0.id, args(first, after, None, None))?;
        let page = below(ctx, window, false).await?;
        Ok(list(page, Totals::Versions(self.0.id), CampaignVersion))
    }

    /// Whether an action may fly, with every reason. What depends on the launch's input is not judged here.
    #[graphql(complexity = "50 + child_complexity")]
    async fn preflight(&self, ctx: &Context<'_>, action: LaunchAction) -> Result<Preflight> {
        let parts = Box::pin(CampaignParts::of(db(ctx).read(), viewer(ctx), self.0.as_ref().clone())).await?;
        Ok(Box::pin(preflight::preflight(db(ctx), viewer(ctx), &parts, action, PreflightContext::default())).await?)
    }

    /// What can be done with it now, and why not the rest.
    #[graphql(complexity = "50 + child_complexity")]
    async fn available_actions(&self, ctx: &Context<'_>) -> Result<Vec<AvailableAction>> {
        let mut all = Vec::new();
        for action in Action::ALL {
            let judged = Box::pin(noun::transition::check_allowed(db(ctx), viewer(ctx), &self.0, action)).await;
            all.push(AvailableAction::judged(action, judged)?);
        }
        Ok(all)
    }

    /// Its runs, the newest first unless said. `first` after a cursor, or `last` before one.
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
        let mut filter = filter.unwrap_or_default();
        filter.campaign_ids = Some(vec![self.0.id.to_string().into()]);
        Box::pin(super::run::list::runs(ctx, filter, order_by, args(first, after, last, before), false)).await
    }

    /// The run that was begun last and has not ended; null where none is open.
    async fn current_run(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
        Ok(self.open_run(ctx).await?.map(Run::from))
    }

    /// The messages of its runs, in order of making.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn communications(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<Communication>> {
        let filter = crate::domain::message::communication::Filter {
            campaign_ids: Some(vec![self.0.id.to_string().into()]),
            ..crate::domain::message::communication::Filter::default()
        };
        let window = crate::domain::message::communication::window(
            db(ctx),
            viewer(ctx),
            &filter,
            args(first, after, None, None),
        )?;
        let page = below(ctx, window, false).await?;
        Ok(list(page, Totals::Communications(filter), Communication))
    }

    /// What came back, the newest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn replies(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<List<Reply>> {
        let filter = crate::domain::message::reply::Filter {
            campaign_id: Some(self.0.id),
            ..crate::domain::message::reply::Filter::default()
        };
        let window = crate::domain::message::reply::window(viewer(ctx), filter, args(first, after, None, None))?;
        let page = below(ctx, window, false).await?;
        Ok(list(page, Totals::Replies(filter), Reply))
    }

    /// The phase at work in the run that was begun last; null where none is.
    async fn current_phase(&self, ctx: &Context<'_>) -> Result<Option<Phase>> {
        let Some(run) = self.open_run(ctx).await? else { return Ok(None) };
        let parts = must_load(ctx, CampaignPartsOfRun(run.id)).await?;
        Ok(parts.phases.iter().find(|phase| phase.status == entity::PhaseStatus::Active).cloned().map(Phase))
    }

    /// Its history from the log, and that of its runs, oldest first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn events(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<Events> {
        let which = crate::kernel::event::EventSelector {
            campaigns: Some(vec![self.0.id]),
            ..crate::kernel::event::EventSelector::default()
        };
        Box::pin(events(ctx, which, args(first, after, None, None), false)).await
    }

    /// When its runs start, the newest schedule first.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn schedules(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<List<Schedule>> {
        let of = Some(self.0.id);
        let window = crate::domain::plan::schedule::window(viewer(ctx), of, args(first, after, None, None))?;
        let page = below(ctx, window, false).await?;
        Ok(list(page, Totals::Schedules(of), Schedule))
    }
}

impl Campaign {
    async fn open_run(&self, ctx: &Context<'_>) -> Result<Option<entity::run::Model>> {
        use entity::RunStatus;
        let filter = RunFilter {
            campaign_ids: Some(vec![self.0.id.to_string().into()]),
            statuses: Some(vec![RunStatus::Queued, RunStatus::InProgress, RunStatus::Paused]),
            ..RunFilter::default()
        };
        let (by, one) = (crate::domain::run::list::SortBy::CreatedAt, args(Some(1), None, None, None));
        let window = crate::domain::run::list::window(db(ctx), viewer(ctx), &filter, by, true, one)?;
        let page = below(ctx, window, false).await?;
        Ok(page.rows.into_iter().next().map(|(_, row)| row))
    }
}

/// How campaigns are sorted.
#[derive(InputObject)]
pub struct CampaignOrder {
    /// By what.
    field: SortBy,
    /// In which direction.
    direction: Direction,
}

/// The noun's part of the query root.
#[derive(Default)]
pub struct CampaignQuery;

#[Object]
impl CampaignQuery {
    /// One by its id; null where the org has none with it.
    async fn campaign(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Campaign>> {
        Ok(Box::pin(noun::find(db(ctx).read(), viewer(ctx), validate::id::<CampaignId>("id", &id)?))
            .await?
            .map(Campaign::from))
    }

    /// Campaigns by filter, the newest first unless said. `first` after a cursor, or `last` before one; 50 unless said,
    /// at most 500.
    #[allow(clippy::too_many_arguments)]
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn campaigns(
        &self,
        ctx: &Context<'_>,
        filter: Option<Filter>,
        order_by: Option<CampaignOrder>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<Campaign>> {
        let filter = filter.unwrap_or_default();
        let order = order_by.unwrap_or(CampaignOrder { field: SortBy::CreatedAt, direction: Direction::Desc });
        let descending = order.direction == Direction::Desc;
        let page = Box::pin(noun::page(
            db(ctx),
            viewer(ctx),
            &filter,
            order.field,
            descending,
            &args(first, after, last, before),
        ))
        .await?;
        Ok(list(page, Totals::Campaigns(filter), Campaign::from))
    }
}

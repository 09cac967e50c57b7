//! Lists: a page of rows as a Relay connection, with counts that are computed only when selected.

use std::borrow::Cow;
use std::collections::HashMap;

use async_graphql::{Context, Lookahead, Object, OutputType, Result, SimpleObject, TypeName};
use entity::id::{BulkActionId, CampaignId, MessageTemplateId, RecordId, RunId, ScheduleId, WriterId};
use entity::{BulkResultStatus, BulkStatus, CommunicationStatus, RunStatus};

use super::connection::Connection;
use super::counted::Node;
use super::loader::{ByStatus, cloned_result, must_load, nested_count};
use super::record::timeline::TimelineCount;
use super::{db, viewer};
use crate::domain::audience::record::SortBy as RecordSortBy;
use crate::domain::audience::record::filter::ResolvedFilter;
use crate::domain::message::communication::Filter as CommunicationFilter;
use crate::domain::plan::campaign::list::{Filter as CampaignFilter, SortBy as CampaignSortBy};
use crate::domain::run::list::{RunFilter, SortBy};
use crate::domain::run::step::StepFilter;
use crate::kernel::limits;
use crate::kernel::page::{Args, Cursor, Page, Window};

/// A list of objects.
pub type List<T, C = Totals> = Connection<Cursor, Node<T>, C>;

/// Converts a page of rows to a connection.
pub fn list<M, T: OutputType, C: async_graphql::ObjectType>(
    page: Page<M>,
    totals: C,
    wrap: impl Fn(M) -> T,
) -> List<T, C> {
    let rows = page.rows.into_iter().map(|(cursor, row)| (cursor, Node(wrap(row)))).collect();
    Connection { rows, has_previous: page.has_previous, has_next: page.has_next, totals }
}

/// Returns the selections on a list's nodes, from `nodes` and from `edges`.
pub fn nodes<'a>(ctx: &'a Context<'_>) -> [Lookahead<'a>; 2] {
    let list = ctx.look_ahead();
    [list.field("nodes"), list.field("edges").field("node")]
}

/// Complexity of a list: 20 for its statement, plus that of its children for each possible row of
/// the page. Can't overflow.
pub fn cost(first: Option<i32>, last: Option<i32>, below: usize) -> usize {
    let items = first.or(last).map_or(limits::PAGE_DEFAULT, |items| usize::try_from(items).unwrap_or(0));
    repeated_cost(items.clamp(1, limits::PAGE_MAX), below).saturating_add(20)
}

/// Complexity of children that occur `times` times.
pub fn repeated_cost(times: usize, below: usize) -> usize {
    times.saturating_mul(below).min(limits::QUERY_COMPLEXITY_MAX)
}

/// Collects the paging arguments.
pub fn args(first: Option<i32>, after: Option<String>, last: Option<i32>, before: Option<String>) -> Args {
    Args { first, after, last, before }
}

/// The rows that a list's total is counted over.
pub enum Totals {
    /// All goals.
    Goals,
    /// All writers.
    Writers,
    /// All reviewers.
    Reviewers,
    /// All members.
    Members,
    /// All message templates.
    MessageTemplates,
    /// All segments.
    Segments,
    /// Readable run templates by filter.
    RunTemplates(crate::domain::plan::run_template::Filter),
    /// All agents.
    Agents,
    /// All suppressed addresses.
    Suppressions,
    /// All imports.
    Imports,
    /// All API keys.
    ApiKeys,
    /// Saved views that the viewer sees, of one page or of all.
    SavedViews(Option<String>),
    /// Audit entries by filter.
    Audit(crate::kernel::audit::Filter),
    /// Records by filter.
    Records(Box<ResolvedFilter>),
    /// Campaigns by filter.
    Campaigns(Box<CampaignFilter>),
    /// A campaign's versions.
    Versions(CampaignId),
    /// A message template's versions.
    MessageTemplateVersions(MessageTemplateId),
    /// A writer's versions.
    WriterVersions(WriterId),
    /// Steps by filter.
    Steps(Box<StepFilter>),
    /// A run's audience by filter.
    Audience(RunId, crate::domain::run::recipients::Filter),
    /// Notes about a run, or those that belong to a campaign or a goal.
    RunNotes(crate::domain::run::note::NotesOf),
    /// A record's links.
    RecordLinks(crate::domain::audience::record::link::LinksOf),
    /// Activities by filter.
    Activities(crate::domain::message::activity::Filter),
    /// Follow-ups by filter.
    FollowUps(crate::domain::follow_up::Filter),
    /// Meetings by filter.
    Meetings(crate::domain::meeting::Filter),
    /// A record's timeline.
    Timeline(RecordId),
    /// A known number.
    Counted(u64),
    /// Schedules of one campaign or all.
    Schedules(Option<CampaignId>),
    /// Schedules by filter.
    FilteredSchedules(Box<crate::domain::plan::schedule::list::Filter>),
    /// A schedule's stretches of missed occurrences.
    Unfired(ScheduleId),
    /// A schedule's past occurrences.
    Occurrences(ScheduleId),
    /// Bulk actions by status.
    BulkActions(Option<Vec<BulkStatus>>),
    /// A bulk action's results by status.
    BulkResults(BulkActionId, Option<Vec<BulkResultStatus>>),
}

#[Object]
impl Totals {
    /// Total number on all pages; computed only when selected.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u64> {
        let (db, viewer) = (db(ctx), viewer(ctx));
        let count = match self {
            Self::Goals => Box::pin(crate::domain::content::goal::count(db.read(), viewer)).await,
            Self::Writers => Box::pin(crate::domain::content::writer::count(db.read(), viewer)).await,
            Self::Reviewers => Box::pin(crate::domain::content::reviewer::count(db.read(), viewer)).await,
            Self::Members => Box::pin(crate::domain::people::member::count(db.read(), viewer)).await,
            Self::MessageTemplates => {
                Box::pin(crate::domain::content::message_template::count(db.read(), viewer)).await
            }
            Self::RunTemplates(filter) => {
                Box::pin(crate::domain::plan::run_template::count(db.read(), viewer, filter)).await
            }
            Self::Agents => Box::pin(crate::domain::plan::agent::count(db.read(), viewer)).await,
            Self::Segments => Box::pin(crate::domain::audience::segment::count(db.read(), viewer)).await,
            Self::Suppressions => Box::pin(crate::domain::audience::suppression::count(db.read(), viewer)).await,
            Self::Imports => Box::pin(crate::domain::import::report::count(db.read(), viewer)).await,
            Self::ApiKeys => Box::pin(crate::domain::people::api_key::count(db.read(), viewer)).await,
            Self::SavedViews(page) => {
                Box::pin(crate::domain::people::saved_view::count(db.read(), viewer, page.as_deref())).await
            }
            Self::Audit(filter) => Box::pin(crate::kernel::audit::count(db, viewer, filter)).await,
            Self::Records(filter) => {
                let (by, all) = (RecordSortBy::CreatedAt, Args::default());
                nested_count(ctx, crate::domain::audience::record::window(db, viewer, filter, by, true, all)?).await
            }
            Self::Campaigns(filter) => {
                let (by, all) = (CampaignSortBy::CreatedAt, Args::default());
                nested_count(ctx, crate::domain::plan::campaign::list::window(db, viewer, filter, by, true, all)?).await
            }
            Self::Versions(id) => {
                nested_count(ctx, crate::domain::plan::campaign::version::window(viewer, *id, Args::default())?).await
            }
            Self::MessageTemplateVersions(id) => {
                nested_count(
                    ctx,
                    crate::domain::content::message_template::version::window(viewer, *id, Args::default())?,
                )
                .await
            }
            Self::WriterVersions(id) => {
                nested_count(ctx, crate::domain::content::writer::version::window(viewer, *id, Args::default())?).await
            }
            Self::Steps(filter) => {
                let (sort, all) = (crate::domain::run::step::list::Sort::default(), Args::default());
                nested_count(ctx, crate::domain::run::step::window(db, viewer, filter, sort, all, db.now())?).await
            }
            Self::Audience(run, filter) => {
                nested_count(ctx, crate::domain::run::recipients::window(db, viewer, *run, filter, Args::default())?)
                    .await
            }
            Self::RunNotes(of) => {
                nested_count(ctx, crate::domain::run::note::window(viewer, *of, Args::default())?).await
            }
            Self::RecordLinks(of) => {
                let all = Args::default();
                nested_count(ctx, crate::domain::audience::record::link::window(db.dialect(), viewer, of, all)?).await
            }
            Self::Activities(filter) => {
                nested_count(ctx, crate::domain::message::activity::window(db, viewer, filter, Args::default())?).await
            }
            Self::FollowUps(filter) => {
                nested_count(ctx, crate::domain::follow_up::window(db, viewer, filter, Args::default(), db.now())?)
                    .await
            }
            Self::Meetings(filter) => {
                nested_count(ctx, crate::domain::meeting::window(db, viewer, filter, Args::default())?).await
            }
            Self::Timeline(record) => Ok(must_load(ctx, TimelineCount(*record)).await?),
            Self::Counted(count) => Ok(*count),
            Self::Schedules(campaign) => {
                nested_count(ctx, crate::domain::plan::schedule::window(viewer, *campaign, Args::default())?).await
            }
            Self::FilteredSchedules(filter) => {
                let (by, all) = (crate::domain::plan::schedule::list::SortBy::CreatedAt, Args::default());
                nested_count(ctx, crate::domain::plan::schedule::list::window(db, viewer, filter, by, true, all)?).await
            }
            Self::Unfired(id) => {
                nested_count(ctx, crate::domain::plan::schedule::missed::window(viewer, *id, Args::default())?).await
            }
            Self::Occurrences(id) => Box::pin(crate::graphql::schedule::occurrences::count(ctx, *id)).await,
            Self::BulkActions(statuses) => {
                let (of, all) = (statuses.as_deref(), Args::default());
                nested_count(ctx, crate::domain::bulk_action::window(db.dialect(), viewer, of, all)?).await
            }
            Self::BulkResults(id, statuses) => {
                let (of, all) = (statuses.as_deref(), Args::default());
                nested_count(ctx, crate::domain::bulk_action::results(db.dialect(), viewer, *id, of, all)?).await
            }
        };
        Ok(count?)
    }
}

/// The filter that the totals of a list of runs are counted over.
pub struct RunTotals(pub RunFilter);

/// Number of objects in a status.
#[derive(SimpleObject)]
#[graphql(name_type)]
pub struct StatusCount<S: OutputType> {
    /// The status.
    pub status: S,
    /// Number of objects.
    pub count: u64,
}

impl<S: OutputType> TypeName for StatusCount<S> {
    fn type_name() -> Cow<'static, str> {
        format!("{}Count", S::type_name()).into()
    }
}

impl RunTotals {
    fn window(&self, ctx: &Context<'_>, filter: &RunFilter) -> Result<Window<entity::run::Entity>> {
        let (by, all) = (SortBy::CreatedAt, Args::default());
        Ok(crate::domain::run::list::window(db(ctx), viewer(ctx), filter, by, true, all)?)
    }
}

#[Object]
impl RunTotals {
    /// Total number on all pages; computed only when selected.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u64> {
        Ok(nested_count(ctx, self.window(ctx, &self.0)?).await?)
    }

    /// Number of runs in each status, including statuses without runs, as if the filter had no
    /// `statuses`: the counts stay while one is chosen. Conditions within `not` and `or` apply.
    /// Computed only when selected.
    async fn counts_by_status(&self, ctx: &Context<'_>) -> Result<Vec<StatusCount<RunStatus>>> {
        let window = self.window(ctx, &RunFilter { statuses: None, ..self.0.clone() })?;
        let found = cloned_result(must_load(ctx, (window, ByStatus)).await?.as_ref())?;
        Ok(run_status_counts(&found))
    }
}

/// A count for each status of runs, from counts by the statuses' names.
pub fn run_status_counts(found: &HashMap<String, u64>) -> Vec<StatusCount<RunStatus>> {
    let count = |status: RunStatus| found.get(&status.to_string()).copied().unwrap_or_default();
    RunStatus::all().into_iter().map(|status| StatusCount { status, count: count(status) }).collect()
}

/// The filter that the totals of a list of communications are counted over.
pub struct CommunicationTotals(pub CommunicationFilter);

#[Object]
impl CommunicationTotals {
    /// Total number on all pages; computed only when selected.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u64> {
        let all = Args::default();
        let window = crate::domain::message::communication::window(db(ctx), viewer(ctx), &self.0, all)?;
        Ok(nested_count(ctx, window).await?)
    }

    /// Number of communications in each status, including statuses without communications, as if
    /// the filter had no `statuses`: the counts stay while one is chosen. Computed only when
    /// selected.
    async fn counts_by_status(&self, ctx: &Context<'_>) -> Result<Vec<StatusCount<CommunicationStatus>>> {
        let filter = CommunicationFilter { statuses: None, ..self.0.clone() };
        let all = Args::default();
        let window = crate::domain::message::communication::window(db(ctx), viewer(ctx), &filter, all)?;
        let found = cloned_result(must_load(ctx, (window, ByStatus)).await?.as_ref())?;
        let count = |status: CommunicationStatus| found.get(&status.to_string()).copied().unwrap_or_default();
        let each = CommunicationStatus::all().into_iter();
        Ok(each.map(|status| StatusCount { status, count: count(status) }).collect())
    }
}

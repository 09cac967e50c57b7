//! Lists: a page of rows as a Relay connection, with counts that are computed only when selected.

use async_graphql::connection::{Connection, Edge, EmptyFields};
use async_graphql::{Context, Object, OutputType, Result, SimpleObject};
use entity::RunStatus;
use entity::id::{CampaignId, MessageTemplateId, RunId, WriterId};

use super::{db, viewer};
use crate::campaign::Filter as CampaignFilter;
use crate::communication::Filter as CommunicationFilter;
use crate::limits;
use crate::page::{Args, Page};
use crate::record::filter::RecordFilter;
use crate::run::list::RunFilter;
use crate::run::step::StepFilter;

/// A list of some noun.
pub type List<T, C = Totals> = Connection<String, T, C, EmptyFields>;

/// Wraps a page's rows.
pub fn list<M, T: OutputType, C: async_graphql::ObjectType>(
    page: Page<M>,
    totals: C,
    wrap: impl Fn(M) -> T,
) -> List<T, C> {
    let mut list = Connection::with_additional_fields(page.has_previous, page.has_next, totals);
    list.edges.extend(page.rows.into_iter().map(|(cursor, row)| Edge::new(cursor, wrap(row))));
    list
}

/// What a list costs: its statement, and what is below it as often as the page may be long. Can't overflow.
pub fn cost(first: Option<i32>, last: Option<i32>, below: usize) -> usize {
    let items = first.or(last).map_or(limits::PAGE_DEFAULT, |items| usize::try_from(items).unwrap_or(0));
    counted(items.clamp(1, limits::PAGE_MAX), below).saturating_add(20)
}

/// What is below something that is there so many times.
pub fn counted(times: usize, below: usize) -> usize {
    times.saturating_mul(below).min(limits::QUERY_COMPLEXITY_MAX)
}

/// The arguments of a window.
pub fn args(first: Option<i32>, after: Option<String>, last: Option<i32>, before: Option<String>) -> Args {
    Args { first, after, last, before }
}

/// What a list's total is counted over.
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
    /// All suppressed addresses.
    Suppressions,
    /// All imports.
    Imports,
    /// All keys.
    ApiKeys,
    /// The audit by filter.
    Audit(crate::audit::Filter),
    /// Records by filter.
    Records(Box<RecordFilter>),
    /// Campaigns by filter.
    Campaigns(CampaignFilter),
    /// A campaign's versions.
    Versions(CampaignId),
    /// A message template's versions.
    MessageTemplateVersions(MessageTemplateId),
    /// A writer's versions.
    WriterVersions(WriterId),
    /// Steps by filter.
    Steps(StepFilter),
    /// Communications by filter.
    Communications(CommunicationFilter),
    /// Replies by filter.
    Replies(crate::reply::Filter),
    /// A run's audience by filter.
    Audience(RunId, crate::run::audience::Filter),
    /// Schedules, of one campaign or all.
    Schedules(Option<CampaignId>),
}

#[Object]
impl Totals {
    /// How many there are on all pages; counted only when selected.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u64> {
        let (db, viewer) = (db(ctx), viewer(ctx));
        let count = match self {
            Self::Goals => crate::goal::count(db.read(), viewer).await,
            Self::Writers => crate::writer::count(db.read(), viewer).await,
            Self::Reviewers => crate::reviewer::count(db.read(), viewer).await,
            Self::Members => crate::member::count(db.read(), viewer).await,
            Self::MessageTemplates => crate::message_template::count(db.read(), viewer).await,
            Self::Segments => crate::segment::count(db.read(), viewer).await,
            Self::Suppressions => crate::suppression::count(db.read(), viewer).await,
            Self::Imports => crate::record::report::count(db.read(), viewer).await,
            Self::ApiKeys => crate::api_key::count(db.read(), viewer).await,
            Self::Audit(filter) => crate::audit::count(db, viewer, filter).await,
            Self::Records(filter) => crate::record::count(db, viewer, filter).await,
            Self::Campaigns(filter) => crate::campaign::count(db, viewer, filter).await,
            Self::Versions(id) => crate::campaign::version::count(db, viewer, *id).await,
            Self::MessageTemplateVersions(id) => crate::message_template::version::count(db, viewer, *id).await,
            Self::WriterVersions(id) => crate::writer::version::count(db, viewer, *id).await,
            Self::Steps(filter) => crate::run::step::count(db, viewer, filter).await,
            Self::Communications(filter) => crate::communication::count(db, viewer, filter).await,
            Self::Replies(filter) => crate::reply::count(db, viewer, *filter).await,
            Self::Audience(run, filter) => crate::run::audience::count(db, viewer, *run, filter).await,
            Self::Schedules(campaign) => crate::schedule::count(db.read(), viewer, *campaign).await,
        };
        Ok(count?)
    }
}

/// What the totals of a runs list are counted over.
pub struct RunTotals(pub RunFilter);

/// How many runs are in a status.
#[derive(SimpleObject)]
pub struct RunStatusCount {
    /// The status.
    status: RunStatus,
    /// How many.
    count: i64,
}

#[Object]
impl RunTotals {
    /// How many there are on all pages; counted only when selected.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u64> {
        Ok(crate::run::list::count(db(ctx), viewer(ctx), &self.0).await?)
    }

    /// How many of them are in each status, every status listed; counted only when selected.
    async fn counts_by_status(&self, ctx: &Context<'_>) -> Result<Vec<RunStatusCount>> {
        let found = crate::run::list::count_by_status(db(ctx), viewer(ctx), &self.0).await?;
        let count = |status| found.iter().find(|(of, _)| *of == status).map_or(0, |(_, count)| *count);
        Ok(RunStatus::all().into_iter().map(|status| RunStatusCount { status, count: count(status) }).collect())
    }
}

//! The durable event log: append in a transaction, read after a position, follow.
//!
//! Only this module and its submodules know how positions are assigned.

mod bounds;
pub mod cursor;
mod follow;
pub(crate) mod insert;
pub mod kinds;
pub(crate) mod new_event;
pub(crate) mod sequencer;
pub(crate) mod tail;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use entity::columns::{Columns, PartialModel};
use entity::event::{COLUMN, Column, Entity, Model};
use entity::id::*;
use entity::member::Role;
use futures_util::Stream;
use sea_orm::sea_query::{Asterisk, Expr, Func, Order, Query};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Select,
};

pub use self::cursor::cursor;
pub use self::new_event::Event;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::dialect::Dialect;
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::Result;
use crate::kernel::page::{self, AT_ONCE, NTH, Part, rows_of_each, union};
use crate::kernel::period::DateTimeRange;
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, storable, validate};

/// Appends an event to the log, in the same transaction as the change.
pub fn append(tx: &Tx, event: Event) {
    tx.buffer_event(event);
}

/// Prefix of the kinds of API key events.
const OF_KEYS: &str = "api_key.";

/// Filter of events; all given conditions must hold.
#[derive(Clone, Debug, Default, async_graphql::InputObject)]
#[graphql(name = "EventFilter")]
pub struct Filter {
    /// One of these kinds, `noun.what_happened`: `step.completed`, or a raised one,
    /// `payment.received`. `step.*` stands for all of Sortie's own kinds of `step`. A kind that
    /// cannot occur is rejected.
    pub kinds: Option<Vec<String>>,
    /// Events about one of these campaigns.
    pub campaign_ids: Option<Vec<async_graphql::ID>>,
    /// Events about one of these runs.
    pub run_ids: Option<Vec<async_graphql::ID>>,
    /// Events about one of these steps.
    pub step_ids: Option<Vec<async_graphql::ID>>,
    /// Events about one of these records.
    pub record_ids: Option<Vec<async_graphql::ID>>,
    /// Events in this period.
    pub at: Option<DateTimeRange>,
}

/// An `EventFilter` with parsed ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EventSelector {
    /// Kinds to include.
    pub kinds: Option<Vec<String>>,
    /// Campaigns to include.
    pub campaigns: Option<Vec<CampaignId>>,
    /// Runs to include.
    pub runs: Option<Vec<RunId>>,
    /// Steps to include.
    pub steps: Option<Vec<StepId>>,
    /// Records to include.
    pub records: Option<Vec<RecordId>>,
    /// Start of the period, inclusive.
    pub from: Option<DateTime<Utc>>,
    /// End of the period, exclusive.
    pub to: Option<DateTime<Utc>>,
}

impl EventSelector {
    /// Parses a filter. Errors: BAD_USER_INPUT, LIMIT_EXCEEDED.
    pub fn of(filter: &Filter) -> Result<Self> {
        fn read<I: Id>(given: &Option<Vec<async_graphql::ID>>, field: &str) -> Result<Option<Vec<I>>> {
            given.as_ref().map(|given| validate::ids(given, "filter", field)).transpose()
        }
        let kinds = filter.kinds.as_ref().map(|kinds| kinds::expanded("filter.kinds", kinds)).transpose()?;
        let time = |at: Option<DateTime<Utc>>, end: &str| {
            at.map(|at| storable::time(at).map_err(|unfit| unfit.of(&format!("filter.at.{end}")))).transpose()
        };
        let period = match &filter.at {
            Some(period) => {
                period.require_end("filter.at")?;
                period.clone()
            }
            None => DateTimeRange::default(),
        };
        Ok(Self {
            from: time(period.from, "from")?,
            to: time(period.to, "to")?,
            kinds,
            campaigns: read(&filter.campaign_ids, "campaignIds")?,
            runs: read(&filter.run_ids, "runIds")?,
            steps: read(&filter.step_ids, "stepIds")?,
            records: read(&filter.record_ids, "recordIds")?,
        })
    }

    /// True if the event matches, judged on the event alone.
    pub fn matches(&self, event: &Model) -> bool {
        fn one<I: PartialEq>(of: &Option<Vec<I>>, found: Option<&I>) -> bool {
            of.as_ref().is_none_or(|of| found.is_some_and(|found| of.contains(found)))
        }
        one(&self.kinds, Some(&event.kind))
            && one(&self.campaigns, event.campaign_id.as_ref())
            && one(&self.runs, event.run_id.as_ref())
            && one(&self.steps, event.step_id.as_ref())
            && one(&self.records, event.record_id.as_ref())
            && self.from.is_none_or(|from| event.at >= from)
            && self.to.is_none_or(|to| event.at < to)
    }

    /// The kinds, if a few of them are the only condition but the period: the index of kinds has the
    /// events of each in order.
    fn kinds_alone(&self) -> Option<&[String]> {
        let objects = self.campaigns.is_some() || self.runs.is_some() || self.steps.is_some() || self.records.is_some();
        self.kinds.as_deref().filter(|kinds| !objects && (1..=AT_ONCE).contains(&kinds.len()))
    }

    fn condition(&self, dialect: Dialect) -> Condition {
        let mut all = Condition::all();
        if let Some(kinds) = &self.kinds {
            all = all.add(any_of(dialect, COLUMN.kind, kinds.clone()));
        }
        if let Some(ids) = &self.campaigns {
            all = all.add(any_of(dialect, Column::CampaignId, ids.iter().copied()));
        }
        if let Some(ids) = &self.runs {
            all = all.add(any_of(dialect, Column::RunId, ids.iter().copied()));
        }
        if let Some(ids) = &self.steps {
            all = all.add(any_of(dialect, Column::StepId, ids.iter().copied()));
        }
        if let Some(ids) = &self.records {
            all = all.add(any_of(dialect, Column::RecordId, ids.iter().copied()));
        }
        if let Some(from) = self.from {
            all = all.add(COLUMN.at.gte(from));
        }
        if let Some(to) = self.to {
            all = all.add(COLUMN.at.lt(to));
        }
        all
    }
}

/// A part of the log between two positions, at most some events of it, from its beginning or its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogRange {
    /// The position after which it begins; 0 for the log's beginning.
    pub after: i64,
    /// The position before which it ends; none for the log's end.
    pub before: Option<i64>,
    /// The maximum number of events.
    pub count: usize,
    /// True to take them from the end.
    pub from_end: bool,
    /// The columns to read besides the position; none for all.
    pub columns: Option<Columns>,
}

impl LogRange {
    /// The first events after a position.
    pub fn first(count: usize, after: i64) -> Self {
        Self { after, before: None, count, from_end: false, columns: None }
    }

    /// The part of each event to read.
    fn part(self) -> Option<Part<Entity>> {
        let always = Model::columns(&[Column::OrgId, Column::Position]);
        self.columns.map(|columns| Part::new(columns.and(always)))
    }

    /// Cuts what was read to the page, oldest first; and true if the range has more.
    fn page(self, mut events: Vec<Model>) -> (Vec<Model>, bool) {
        events.sort_by_key(|event| event.position);
        let more = events.len() > self.count;
        if self.from_end {
            events.drain(..events.len().saturating_sub(self.count));
        }
        events.truncate(self.count);
        (events, more)
    }
}

/// A page of the log, oldest first, and true if the range has more events.
pub async fn page(db: &Db, viewer: &Viewer, selector: &EventSelector, range: LogRange) -> Result<(Vec<Model>, bool)> {
    caught_up(db).await?;
    let Some(within) = bounds::narrow(db, viewer, selector, range).await? else { return Ok((Vec::new(), false)) };
    let events = match selector.kinds_alone() {
        Some(kinds) => of_kinds(db, viewer, selector, kinds, within).await?,
        None => read(db, select(db, viewer, selector, within), range).await?,
    };
    Ok(range.page(events))
}

/// Reads what a range asks for of the selected events.
async fn read(db: &Db, select: Select<Entity>, range: LogRange) -> Result<Vec<Model>> {
    page::rows(db.read(), select, range.part().map(|part| part.columns())).await
}

/// The events of a page by kinds: the positions of each kind are read in order, and the rows of those
/// that come first. All at once, the events of frequent kinds would be sorted, or rare ones searched.
async fn of_kinds(
    db: &Db,
    viewer: &Viewer,
    selector: &EventSelector,
    kinds: &[String],
    range: LogRange,
) -> Result<Vec<Model>> {
    let each = kinds.iter().map(|kind| {
        let one = EventSelector { kinds: Some(vec![kind.clone()]), ..selector.clone() };
        let mut positions = select(db, viewer, &one, range).into_query();
        positions.clear_selects().column((Entity, Column::Position));
        Query::select().column(Column::Position).from_subquery(positions, "one").take()
    });
    let mut positions = Vec::new();
    for row in union(db.read(), each.collect()).await? {
        positions.push(row.try_get_by_index::<i64>(0)?);
    }
    positions.sort_unstable();
    if range.from_end {
        positions.drain(..positions.len().saturating_sub(range.count + 1));
    }
    positions.truncate(range.count + 1);
    let select = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id));
    read(db, select.filter(any_of(db.dialect(), COLUMN.position, positions)), range).await
}

/// Counts the events that each selector matches, in one statement.
pub async fn counts(db: &Db, viewer: &Viewer, selectors: &[&EventSelector]) -> Result<Vec<u64>> {
    caught_up(db).await?;
    let mut counts = vec![0; selectors.len()];
    for (part, selectors) in selectors.chunks(AT_ONCE).enumerate() {
        let each = selectors.iter().enumerate().map(|(nth, selector)| {
            let mut one = matching(db, viewer, selector).into_query();
            one.clear_selects().expr_as(Expr::val(nth as i32), NTH);
            one.expr_as(Func::count(Expr::col(Asterisk)), "count").take()
        });
        for row in union(db.read(), each.collect()).await? {
            let nth = part * AT_ONCE + usize::try_from(row.try_get::<i32>("", NTH)?).unwrap_or_default();
            if let Some(count) = counts.get_mut(nth) {
                *count = u64::try_from(row.try_get::<i64>("", "count")?).unwrap_or_default();
            }
        }
    }
    Ok(counts)
}

/// Many pages of the log in one statement, for the nodes of a list.
pub async fn pages(
    db: &Db,
    viewer: &Viewer,
    requests: &[(&EventSelector, LogRange)],
) -> Result<Vec<(Vec<Model>, bool)>> {
    caught_up(db).await?;
    let mut pages = Vec::with_capacity(requests.len());
    for requests in requests.chunks(AT_ONCE) {
        // All columns that one of them reads.
        let all = requests.iter().map(|(_, range)| range.part());
        let part = all.reduce(|all, part| Some(all?.and(part?))).flatten();
        let each = requests.iter().map(|(selector, range)| select(db, viewer, selector, *range));
        let each: Vec<_> =
            each.map(|select| part.map_or(select.clone(), |part| part.narrow(select)).into_query()).collect();
        if let Some(found) = rows_of_each::<Entity>(db.read(), &each, part).await? {
            pages.extend(found.rows.into_iter().zip(requests).map(|(rows, (_, range))| range.page(rows)));
            continue;
        }
        let each = each.into_iter().enumerate().map(|(nth, select)| {
            let mut one = Query::select();
            one.expr_as(Expr::val(nth as i32), NTH).column(Asterisk);
            one.from_subquery(select, "one").take()
        });
        let mut rows: Vec<Vec<Model>> = requests.iter().map(|_| Vec::new()).collect();
        for row in union(db.read(), each.collect()).await? {
            let nth = usize::try_from(row.try_get::<i32>("", NTH)?).unwrap_or_default();
            if let Some(rows) = rows.get_mut(nth) {
                rows.push(page::model(&row, part, 1)?);
            }
        }
        pages.extend(rows.into_iter().zip(requests).map(|(rows, (_, range))| range.page(rows)));
    }
    Ok(pages)
}

/// True if the viewer may see events of this kind: like the keys, key events are for admins.
pub fn may_see(viewer: &Viewer, kind: &str) -> bool {
    viewer.role.covers(Role::Admin) || !kind.starts_with(OF_KEYS)
}

/// The events with a position that match and that the viewer may see.
fn matching(db: &Db, viewer: &Viewer, selector: &EventSelector) -> Select<Entity> {
    let mut conditions = Condition::all();
    if !may_see(viewer, OF_KEYS) {
        conditions = conditions.add(Column::Kind.not_like(format!("{OF_KEYS}%")));
    }
    Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(COLUMN.position.gt(0))
        .filter(conditions)
        .filter(selector.condition(db.dialect()))
}

fn select(db: &Db, viewer: &Viewer, selector: &EventSelector, range: LogRange) -> Select<Entity> {
    let mut conditions = Condition::all();
    if let Some(before) = range.before {
        conditions = conditions.add(COLUMN.position.lt(before));
    }
    matching(db, viewer, selector)
        .filter(conditions)
        .filter(COLUMN.position.gt(range.after))
        .order_by(COLUMN.position, if range.from_end { Order::Desc } else { Order::Asc })
        .limit(range.count as u64 + 1)
}

/// The database's query plan for a page from the start of the log, or from its end. Tests use it to
/// require an index.
pub async fn plan(db: &Db, viewer: &Viewer, selector: &EventSelector, from_end: bool) -> Result<String> {
    let range = LogRange { from_end, ..LogRange::first(limits::PAGE_DEFAULT, 0) };
    page::explain(db.read(), select(db, viewer, selector, range).into_query()).await
}

/// The database's query plans for the end of a period: where it begins, or else where it ends.
pub async fn plans_of_period(db: &Db, viewer: &Viewer, at: DateTime<Utc>, is_from: bool) -> Result<Vec<String>> {
    bounds::plans(db, viewer, at, is_from).await
}

/// One chunk of the viewer's org's events after a position, oldest first; bounded by number and by
/// bytes.
pub async fn after(db: &Db, viewer: &Viewer, position: i64) -> Result<Vec<Model>> {
    let events = Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(COLUMN.position.gt(position))
        .order_by_asc(COLUMN.position)
        .limit(limits::CHUNK);
    let events = events.build(db.read().get_database_backend());
    let rows = db.read().query_first_rows(events, limits::FOLLOW_BYTES).await?;
    Ok(rows.iter().map(|row| Model::from_query_result(row, "")).collect::<std::result::Result<_, _>>()?)
}

/// Waits until everything committed before is visible at a position.
async fn caught_up(db: &Db) -> Result<()> {
    match db.dialect() {
        Dialect::Postgres => sequencer::caught_up(db.read().connection(), db.watermark(), db.commits()).await,
        Dialect::Sqlite => Ok(()),
    }
}

/// Position of the newest event of the viewer's org; 0 before the first.
pub async fn head(db: &Db, viewer: &Viewer) -> Result<i64> {
    caught_up(db).await?;
    let counter = entity::event_counter::Entity::find_by_id(viewer.org_id).one(db.read()).await?;
    Ok(counter.map_or(0, |counter| counter.position))
}

/// Follows the log from a position, forever. It is the only live feed: replay, live updates and
/// recovery after a crash are the same code.
pub fn follow(db: Arc<Db>, viewer: Viewer, position: i64) -> impl Stream<Item = Result<Vec<Arc<Model>>>> + Send {
    follow::follow(db, viewer, position)
}

//! The durable event log: append in a transaction, read after a position, follow.
//!
//! Only this module and its submodules know how positions are assigned.

pub mod cursor;
mod follow;
pub(crate) mod insert;
pub mod kinds;
pub(crate) mod new_event;
pub(crate) mod sequencer;
pub(crate) mod tail;

use std::sync::Arc;

use entity::event::{COLUMN, Column, Entity, Model};
use entity::id::*;
use entity::member::Role;
use futures_util::Stream;
use sea_orm::sea_query::{Asterisk, Expr, Query};
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
use crate::kernel::page::{self, AT_ONCE, NTH, rows_of_each, union};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};

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
    /// `payment.received`. A kind that cannot occur is rejected.
    pub kinds: Option<Vec<String>>,
    /// Events about one of these campaigns.
    pub campaign_ids: Option<Vec<async_graphql::ID>>,
    /// Events about one of these runs.
    pub run_ids: Option<Vec<async_graphql::ID>>,
    /// Events about one of these steps.
    pub step_ids: Option<Vec<async_graphql::ID>>,
    /// Events about one of these records.
    pub record_ids: Option<Vec<async_graphql::ID>>,
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
}

impl EventSelector {
    /// Parses a filter. Errors: BAD_USER_INPUT, LIMIT_EXCEEDED.
    pub fn of(filter: &Filter) -> Result<Self> {
        fn read<I: Id>(given: &Option<Vec<async_graphql::ID>>, field: &str) -> Result<Option<Vec<I>>> {
            given.as_ref().map(|given| validate::ids(given, "filter", field)).transpose()
        }
        kinds::check("filter.kinds", filter.kinds.iter().flatten())?;
        Ok(Self {
            kinds: filter.kinds.clone(),
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
        all
    }
}

/// A page of the log, oldest first: the events after a position, and true if there are more.
pub async fn page(
    db: &Db,
    viewer: &Viewer,
    selector: &EventSelector,
    after: i64,
    count: usize,
) -> Result<(Vec<Model>, bool)> {
    caught_up(db).await?;
    let events = select(db, viewer, selector, after, count).all(db.read()).await?;
    Ok(split_page(events, count))
}

/// Many pages of the log in one statement, for the nodes of a list.
pub async fn pages(
    db: &Db,
    viewer: &Viewer,
    requests: &[(&EventSelector, i64, usize)],
) -> Result<Vec<(Vec<Model>, bool)>> {
    caught_up(db).await?;
    let mut pages = Vec::with_capacity(requests.len());
    for requests in requests.chunks(AT_ONCE) {
        let select = |(selector, after, count): &(&EventSelector, i64, usize)| {
            select(db, viewer, selector, *after, *count).into_query()
        };
        let each: Vec<_> = requests.iter().map(select).collect();
        if let Some(mut found) = rows_of_each::<Entity>(db.read(), &each).await? {
            if !found.sorted {
                found.rows.iter_mut().for_each(|rows| rows.sort_by_key(|event| event.position));
            }
            pages.extend(found.rows.into_iter().zip(requests).map(|(rows, (_, _, count))| split_page(rows, *count)));
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
                rows.push(Model::from_query_result(&row, "")?);
            }
        }
        pages.extend(rows.into_iter().zip(requests).map(|(rows, (_, _, count))| split_page(rows, *count)));
    }
    Ok(pages)
}

/// True if the viewer may see events of this kind: like the keys, key events are for admins.
pub fn may_see(viewer: &Viewer, kind: &str) -> bool {
    viewer.role.covers(Role::Admin) || !kind.starts_with(OF_KEYS)
}

fn select(db: &Db, viewer: &Viewer, selector: &EventSelector, after: i64, count: usize) -> Select<Entity> {
    let mut hidden = Condition::all();
    if !may_see(viewer, OF_KEYS) {
        hidden = hidden.add(Column::Kind.not_like(format!("{OF_KEYS}%")));
    }
    Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(hidden)
        .filter(COLUMN.position.gt(after))
        .filter(selector.condition(db.dialect()))
        .order_by_asc(COLUMN.position)
        .limit(count as u64 + 1)
}

/// The database's query plan for a page from the start of the log. Tests use it to require an index.
pub async fn plan(db: &Db, viewer: &Viewer, selector: &EventSelector) -> Result<String> {
    page::explain(db.read(), select(db, viewer, selector, 0, limits::PAGE_DEFAULT).into_query()).await
}

fn split_page(mut events: Vec<Model>, count: usize) -> (Vec<Model>, bool) {
    let more = events.len() > count;
    events.truncate(count);
    (events, more)
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
        Dialect::Postgres => sequencer::caught_up(db.read().connection(), db.watermark()).await,
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

//! The durable log: append in a write, read after a position, follow. Only this file and those below know how positions
//! are given.

pub mod cursor;
pub mod kinds;
pub(crate) mod sequencer;
pub(crate) mod tail;

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use entity::Actor;
use entity::event::{COLUMN, Column, Entity, Model};
use entity::id::*;
use entity::member::Role;
use futures_util::Stream;
use sea_orm::sea_query::{Asterisk, Expr, Query};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Select, Statement,
};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::fmt::Simple;

pub use self::cursor::cursor;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::dialect::{self, Dialect, Type};
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::{Error, Result};
use crate::kernel::page::{AT_ONCE, NTH, union};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};

/// Something that happened, before it has its position.
#[derive(Clone, Debug)]
pub struct Event {
    org_id: OrgId,
    kind: String,
    actor: Actor,
    payload: Value,
    campaign_id: Option<CampaignId>,
    run_id: Option<RunId>,
    phase_id: Option<PhaseId>,
    task_id: Option<TaskId>,
    step_id: Option<StepId>,
    record_id: Option<RecordId>,
}

impl Event {
    /// One of ours: `kind` is `noun.what_happened`, of a noun in `kinds`, so that nobody else can raise it.
    pub fn new(org_id: OrgId, kind: impl Into<String>, actor: &Actor) -> Self {
        let kind = kind.into();
        debug_assert!(kinds::is_ours(&kind) && kinds::may_come(&kind), "`{kind}` is missing in event/kinds.rs");
        Self::raised(org_id, kind, actor)
    }

    /// One that somebody raises.
    pub(crate) fn raised(org_id: OrgId, kind: String, actor: &Actor) -> Self {
        Self {
            org_id,
            kind,
            actor: actor.clone(),
            payload: json!({}),
            campaign_id: None,
            run_id: None,
            phase_id: None,
            task_id: None,
            step_id: None,
            record_id: None,
        }
    }

    /// What filters and readers need.
    pub fn payload(mut self, payload: Value) -> Self {
        self.payload = payload;
        self
    }

    /// The campaign it is about; none where guided work is.
    pub fn campaign(mut self, id: impl Into<Option<CampaignId>>) -> Self {
        self.campaign_id = id.into();
        self
    }

    /// The run it is about, with its campaign.
    pub fn run(mut self, run: &entity::run::Model) -> Self {
        self.run_id = Some(run.id);
        self.campaign_id = run.campaign_id;
        self
    }

    /// The phase.
    pub fn phase(mut self, id: PhaseId) -> Self {
        self.phase_id = Some(id);
        self
    }

    /// The task.
    pub fn task(mut self, id: TaskId) -> Self {
        self.task_id = Some(id);
        self
    }

    /// The step, with what is above it.
    pub fn step(mut self, step: &entity::step::Model) -> Self {
        self.step_id = Some(step.id);
        self.record_id = step.record_id;
        self.phase(step.phase_id).task(step.task_id)
    }

    /// The record.
    pub fn record(mut self, id: Option<RecordId>) -> Self {
        self.record_id = id;
        self
    }
}

/// Adds to the log, together with what the transaction writes.
pub fn append(tx: &Tx, event: Event) {
    tx.keep(event);
}

/// Inserts what a transaction kept, as its last act. On SQLite with its position: there is one writer. On Postgres
/// without: it gets one after the commit (`number`).
pub(crate) async fn write(
    db: &impl ConnectionTrait,
    dialect: Dialect,
    events: Vec<Event>,
    at: DateTime<Utc>,
) -> Result<()> {
    let mut counts: BTreeMap<OrgId, i64> = BTreeMap::new();
    for event in &events {
        *counts.entry(event.org_id).or_default() += 1;
    }
    let mut positions = BTreeMap::new();
    if dialect == Dialect::Sqlite {
        for (org_id, count) in counts {
            let counter = Statement::from_sql_and_values(
                db.get_database_backend(),
                "UPDATE event_counter SET position = position + $1 WHERE org_id = $2 RETURNING position",
                [count.into(), org_id.into()],
            );
            let row = db
                .query_one_raw(counter)
                .await?
                .ok_or_else(|| Error::ours(format!("{org_id} has no event counter")))?;
            positions.insert(org_id, row.try_get_by_index::<i64>(0)? - count);
        }
    }
    let at = dialect::time(at);
    for chunk in events.chunks(usize::try_from(limits::CHUNK).unwrap_or(500)) {
        let rows: Vec<Row<'_>> = chunk
            .iter()
            .map(|event| {
                let position = positions.get_mut(&event.org_id).map(|position| {
                    *position += 1;
                    *position
                });
                Row::of(event, position, &at)
            })
            .collect();
        // One parameter, whatever there is to insert: the statement's text is always the same.
        let statement = Statement::from_sql_and_values(
            db.get_database_backend(),
            insert(dialect),
            [serde_json::to_string(&rows)?.into()],
        );
        db.execute_raw(statement).await?;
    }
    Ok(())
}

/// An event as it is inserted, and by which order of columns.
#[derive(Serialize)]
struct Row<'a> {
    org_id: Simple,
    position: Option<i64>,
    kind: &'a str,
    campaign_id: Option<Simple>,
    run_id: Option<Simple>,
    phase_id: Option<Simple>,
    task_id: Option<Simple>,
    step_id: Option<Simple>,
    record_id: Option<Simple>,
    actor: &'a Actor,
    payload: &'a Value,
    at: &'a str,
}

const COLUMNS: [(&str, Type); 12] = [
    ("org_id", Type::Uuid),
    ("position", Type::Int),
    ("kind", Type::Text),
    ("campaign_id", Type::Uuid),
    ("run_id", Type::Uuid),
    ("phase_id", Type::Uuid),
    ("task_id", Type::Uuid),
    ("step_id", Type::Uuid),
    ("record_id", Type::Uuid),
    ("actor", Type::Json),
    ("payload", Type::Json),
    ("at", Type::Time),
];

impl<'a> Row<'a> {
    fn of(event: &'a Event, position: Option<i64>, at: &'a str) -> Self {
        Self {
            org_id: event.org_id.0.simple(),
            position,
            kind: &event.kind,
            campaign_id: event.campaign_id.map(|id| id.0.simple()),
            run_id: event.run_id.map(|id| id.0.simple()),
            phase_id: event.phase_id.map(|id| id.0.simple()),
            task_id: event.task_id.map(|id| id.0.simple()),
            step_id: event.step_id.map(|id| id.0.simple()),
            record_id: event.record_id.map(|id| id.0.simple()),
            actor: &event.actor,
            payload: &event.payload,
            at,
        }
    }
}

fn insert(dialect: Dialect) -> String {
    let names = COLUMNS.map(|(name, _)| name).join(", ");
    format!("INSERT INTO event ({names}) SELECT {names} FROM {}", dialect.rows(dialect.written_json(), "v", &COLUMNS))
}

/// With what the kinds of events of keys begin.
const OF_KEYS: &str = "api_key.";

/// Which events; all that is given must hold.
#[derive(Clone, Debug, Default, async_graphql::InputObject)]
#[graphql(name = "EventFilter")]
pub struct Filter {
    /// One of these kinds, `noun.what_happened`: `step.completed`, or one that is raised, `payment.received`. A kind of which
    /// no event can come is refused.
    pub kinds: Option<Vec<String>>,
    /// About one of these campaigns.
    pub campaign_ids: Option<Vec<async_graphql::ID>>,
    /// About one of these runs.
    pub run_ids: Option<Vec<async_graphql::ID>>,
    /// About one of these steps.
    pub step_ids: Option<Vec<async_graphql::ID>>,
    /// About one of these records.
    pub record_ids: Option<Vec<async_graphql::ID>>,
}

/// A filter with its ids read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EventSelector {
    /// One of these kinds.
    pub kinds: Option<Vec<String>>,
    /// About one of these campaigns.
    pub campaigns: Option<Vec<CampaignId>>,
    /// About one of these runs.
    pub runs: Option<Vec<RunId>>,
    /// About one of these steps.
    pub steps: Option<Vec<StepId>>,
    /// About one of these records.
    pub records: Option<Vec<RecordId>>,
}

impl EventSelector {
    /// Reads the ids. Errors: BAD_USER_INPUT, LIMIT_EXCEEDED.
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

    /// Whether it lets an event through; judged on the event alone.
    pub fn lets(&self, event: &Model) -> bool {
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

/// A page of the log, oldest first: the events after a position, and whether there are more.
pub async fn page(
    db: &Db,
    viewer: &Viewer,
    which: &EventSelector,
    after: i64,
    count: usize,
) -> Result<(Vec<Model>, bool)> {
    caught_up(db).await?;
    let events = select(db, viewer, which, after, count).all(db.read()).await?;
    Ok(cut(events, count))
}

/// Many pages of the log, in one statement: what is below the nodes of a list.
pub async fn pages(
    db: &Db,
    viewer: &Viewer,
    asked: &[(&EventSelector, i64, usize)],
) -> Result<Vec<(Vec<Model>, bool)>> {
    caught_up(db).await?;
    let mut pages = Vec::with_capacity(asked.len());
    for asked in asked.chunks(AT_ONCE) {
        let each = asked.iter().enumerate().map(|(nth, (which, after, count))| {
            let mut one = Query::select();
            one.expr_as(Expr::val(nth as i32), NTH).column(Asterisk);
            one.from_subquery(select(db, viewer, which, *after, *count).into_query(), "one").take()
        });
        let mut rows: Vec<Vec<Model>> = asked.iter().map(|_| Vec::new()).collect();
        for row in union(db.read(), each.collect()).await? {
            let nth = usize::try_from(row.try_get::<i32>("", NTH)?).unwrap_or_default();
            if let Some(rows) = rows.get_mut(nth) {
                rows.push(Model::from_query_result(&row, "")?);
            }
        }
        pages.extend(rows.into_iter().zip(asked).map(|(rows, (_, _, count))| cut(rows, *count)));
    }
    Ok(pages)
}

/// True if the viewer may see events of a kind: those of keys are for admins, as the keys are.
pub fn may_see(viewer: &Viewer, kind: &str) -> bool {
    viewer.role.covers(Role::Admin) || !kind.starts_with(OF_KEYS)
}

fn select(db: &Db, viewer: &Viewer, which: &EventSelector, after: i64, count: usize) -> Select<Entity> {
    let mut hidden = Condition::all();
    if !may_see(viewer, OF_KEYS) {
        hidden = hidden.add(Column::Kind.not_like(format!("{OF_KEYS}%")));
    }
    Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(hidden)
        .filter(COLUMN.position.gt(after))
        .filter(which.condition(db.dialect()))
        .order_by_asc(COLUMN.position)
        .limit(count as u64 + 1)
}

fn cut(mut events: Vec<Model>, count: usize) -> (Vec<Model>, bool) {
    let more = events.len() > count;
    events.truncate(count);
    (events, more)
}

/// Events of the viewer's org after a position, oldest first, one chunk.
pub async fn after(db: &Db, viewer: &Viewer, position: i64) -> Result<Vec<Model>> {
    Ok(Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(COLUMN.position.gt(position))
        .order_by_asc(COLUMN.position)
        .limit(limits::CHUNK)
        .all(db.read())
        .await?)
}

/// Who asks is to see what was committed before.
async fn caught_up(db: &Db) -> Result<()> {
    match db.dialect() {
        Dialect::Postgres => sequencer::caught_up(db.read().connection(), db.floor()).await,
        Dialect::Sqlite => Ok(()),
    }
}

/// The position of the newest event of the viewer's org; 0 before the first.
pub async fn head(db: &Db, viewer: &Viewer) -> Result<i64> {
    caught_up(db).await?;
    let counter = entity::event_counter::Entity::find_by_id(viewer.org_id).one(db.read()).await?;
    Ok(counter.map_or(0, |counter| counter.position))
}

/// The log from a position on, for ever: the only live feed. Replay, live and the way back after a crash are one.
pub fn follow(db: Arc<Db>, viewer: Viewer, position: i64) -> impl Stream<Item = Result<Vec<Arc<Model>>>> + Send {
    tail::follow(db, viewer, position)
}

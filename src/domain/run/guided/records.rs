//! Records that a person's step is about: a live query defined by the step's `config`.

use chrono::{DateTime, Utc};
use entity::id::*;
use entity::record::{COLUMN, Column, Entity, Model};
use entity::{RunType, run, run_record, segment_record};
use sea_orm::sea_query::{Expr, Order, Query, SelectStatement};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    Select,
};

use crate::domain::audience::record::filter::{self, RecordFilter};
use crate::domain::plan::run_template::guided::{GuidedConfig, OrderBy, SortBy, Source};
use crate::kernel::db::Db;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::dialect::Dialect;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, page, validate};

/// Returns the step's records in its order, limited to its limit, by default [`limits::PAGE_MAX`].
/// None if the step is about no records.
pub async fn of(db: &Db, viewer: &Viewer, run: &run::Model, guide: &GuidedConfig) -> Result<Option<Vec<Model>>> {
    live(db.read(), db.dialect(), db.now(), viewer, run, guide).await
}

/// Same, over a given connection, as of a given time.
pub(crate) async fn live(
    db: &impl ConnectionTrait,
    dialect: Dialect,
    now: DateTime<Utc>,
    viewer: &Viewer,
    run: &run::Model,
    guide: &GuidedConfig,
) -> Result<Option<Vec<Model>>> {
    let Some(source) = &guide.records else { return Ok(None) };
    let segment = segment(db, viewer, source).await?;
    let linked = linked(run.id, run.run_type == RunType::Guided);
    Ok(Some(select(dialect, now, viewer, linked, source, segment)?.all(db).await?))
}

/// Query plan, for tests and for diagnosing slow steps.
pub async fn plan(db: &Db, viewer: &Viewer, run: RunId, source: &Source) -> Result<String> {
    let segment = segment(db.read(), viewer, source).await?;
    let mut statement = select(db.dialect(), db.now(), viewer, linked(run, true), source, segment)?
        .build(db.read().get_database_backend());
    let (explain, column) = match db.read().get_database_backend() {
        DbBackend::Postgres => ("EXPLAIN", 0),
        _ => ("EXPLAIN QUERY PLAN", 3),
    };
    statement.sql = format!("{explain} {}", statement.sql);
    let rows = db.read().query_all_raw(statement).await?;
    let lines: std::result::Result<Vec<String>, _> = rows.iter().map(|row| row.try_get_by_index(column)).collect();
    Ok(lines?.join("\n"))
}

async fn segment(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    source: &Source,
) -> Result<Option<entity::segment::Model>> {
    let Some(named) = &source.segment else { return Ok(None) };
    let all = entity::segment::Entity::find().filter(entity::segment::COLUMN.org_id.eq(viewer.org_id));
    let found = match named.parse::<SegmentId>() {
        Ok(id) => all.filter(entity::segment::COLUMN.id.eq(id)),
        Err(_) => all.filter(entity::segment::COLUMN.name.eq(named.as_str())).order_by_asc(entity::segment::COLUMN.id),
    };
    let found = found.one(db).await?;
    Ok(Some(found.ok_or_else(|| Refusal::not_found("segment", validate::printable(named)))?))
}

fn select(
    dialect: Dialect,
    now: DateTime<Utc>,
    viewer: &Viewer,
    linked: SelectStatement,
    source: &Source,
    segment: Option<entity::segment::Model>,
) -> Result<Select<Entity>> {
    // Its rows are read anyway, in the order of an index.
    let mut all = Condition::all().add(COLUMN.org_id.eq(viewer.org_id)).add(Column::ErasedAt.is_null());
    if let Some(ids) = &source.ids {
        all = all.add(any_of(dialect, COLUMN.id, validate::ids::<RecordId>(ids, "config.records", "ids")?));
    }
    if let Some(segment) = segment {
        all = match segment.filter {
            Some(stored) => all.add(filter::stored(&stored, dialect, now)?),
            None => all.add(COLUMN.id.in_subquery(listed(segment.id))),
        };
    }
    if let Some(given) = &source.filter {
        all = all.add(filtered(given, source.order_by.field, dialect, now)?);
    }
    if source.linked {
        all = all.add(COLUMN.id.in_subquery(linked));
    }
    if source.order_by.field == SortBy::LastRepliedAt {
        // Records that never replied have no position in this order.
        all = all.add(Column::LastRepliedAt.is_not_null());
    }
    let limit = source.limit.unwrap_or(limits::PAGE_MAX as u64).min(limits::PAGE_MAX as u64);
    Ok(ordered(Entity::find().filter(all), dialect, source.order_by).limit(limit))
}

/// Condition of a filter. SQLite does not know the selectivity of conditions, and would read most
/// of a kind by another index and sort it: there, conditions not served by the sort order's index
/// are evaluated row by row, so that rows are read in order, no more than are shown.
fn filtered(given: &RecordFilter, by: SortBy, dialect: Dialect, now: DateTime<Utc>) -> Result<Condition> {
    let of_one_kind = given.kind.as_ref().is_some_and(|kind| kind.eq.is_some());
    if dialect != Dialect::Sqlite || !of_one_kind {
        return filter::of_stored(given, dialect, now);
    }
    let (mut served, mut rest) = (RecordFilter::default(), given.clone());
    served.kind = rest.kind.take();
    served.ids = rest.ids.take();
    match by {
        SortBy::Priority => {
            served.priority = rest.priority.take();
            let in_one = rest.stage.take_if(|stage| stage.eq.is_some());
            served.stage = in_one;
        }
        SortBy::LastContactedAt => served.last_contacted_at = rest.last_contacted_at.take(),
        SortBy::LastRepliedAt => served.last_replied_at = rest.last_replied_at.take(),
        SortBy::Name => served.name = rest.name.take(),
        SortBy::CreatedAt => served.created_at = rest.created_at.take(),
    }
    let served = filter::of_stored(&served, dialect, now)?;
    if rest == RecordFilter::default() {
        return Ok(served);
    }
    let rest = filter::of_stored(&rest, dialect, now)?;
    Ok(Condition::all().add(served).add(Expr::cust_with_expr("(?) IS TRUE", rest)))
}

fn listed(segment: SegmentId) -> SelectStatement {
    let mut ids = Query::select();
    ids.column(segment_record::Column::RecordId)
        .from(segment_record::Entity)
        .and_where(segment_record::COLUMN.segment_id.eq(segment));
    ids
}

/// Ids of the records that a run was started with: those linked to guided work, or the audience of a
/// campaign's run.
fn linked(run: RunId, is_guided: bool) -> SelectStatement {
    let mut ids = Query::select();
    ids.column(run_record::Column::RecordId).from(run_record::Entity).and_where(run_record::COLUMN.run_id.eq(run));
    if is_guided {
        ids.and_where(run_record::COLUMN.linked.eq(true));
    } else {
        // A recipient whose record was deleted has no id, which `IN` must not meet.
        ids.and_where(run_record::Column::RecordId.is_not_null());
    }
    ids
}

/// Order as served by an index per kind of record: the column, then the id, in the same direction.
fn ordered(select: Select<Entity>, dialect: Dialect, by: OrderBy) -> Select<Entity> {
    let direction = || if by.descending { Order::Desc } else { Order::Asc };
    let column = |of: Column| Expr::col((Entity, of));
    let key = match by.field {
        SortBy::Priority => column(Column::Priority),
        SortBy::LastContactedAt => page::nullable_key::<Entity>(Column::LastContactedAt, true, dialect),
        SortBy::LastRepliedAt => column(Column::LastRepliedAt),
        SortBy::Name => column(Column::Name),
        SortBy::CreatedAt => column(Column::CreatedAt),
    };
    select.order_by(key, direction()).order_by(column(Column::Id), direction())
}

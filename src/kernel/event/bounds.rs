//! The part of the log in which the events of a period can be: its positions are in commit order,
//! and an event has the time at which its transaction began.
//!
//! Without it, a page of a period would be searched from an end of the log. An event that is later by
//! more than `SPREAD` has a higher position, since its transaction began after the other's had ended.

use chrono::{DateTime, Duration, Utc};
use entity::event::{COLUMN, Column, Entity};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select};

use super::{EventSelector, LogRange};
use crate::kernel::db::Db;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, page};

/// Twice the difference that clocks may have, and the duration of the longest transaction.
const SPREAD: Duration = Duration::minutes(3 * limits::CLOCKS_APART.num_minutes());

/// The range cut to the period of a selector; none if no event can be in it.
pub(super) async fn narrow(
    db: &Db,
    viewer: &Viewer,
    selector: &EventSelector,
    mut range: LogRange,
) -> Result<Option<LogRange>> {
    if let Some(from) = selector.from {
        let Some(first) = end(db, viewer, from, true).await? else { return Ok(None) };
        range.after = std::cmp::max(range.after, first - 1);
    }
    if let Some(to) = selector.to {
        let Some(last) = end(db, viewer, to, false).await? else { return Ok(None) };
        range.before = Some(range.before.map_or(last + 1, |before| std::cmp::min(before, last + 1)));
    }
    Ok(Some(range))
}

/// The lowest position of an event at this time or later, or the highest position of one before it.
async fn end(db: &Db, viewer: &Viewer, at: DateTime<Utc>, is_from: bool) -> Result<Option<i64>> {
    let nearest: Option<DateTime<Utc>> = nearest(viewer, at, is_from).into_tuple().one(db.read()).await?;
    let Some(nearest) = nearest else { return Ok(None) };
    let found: Option<Option<i64>> = outermost(viewer, nearest, is_from).into_tuple().one(db.read()).await?;
    Ok(found.flatten())
}

/// Selects the time of the first event at a time or later, or of the last one before it.
fn nearest(viewer: &Viewer, at: DateTime<Utc>, is_from: bool) -> Select<Entity> {
    let events = numbered(viewer).column(Column::At).limit(1);
    match is_from {
        true => events.filter(COLUMN.at.gte(at)).order_by_asc(COLUMN.at),
        false => events.filter(COLUMN.at.lt(at)).order_by_desc(COLUMN.at),
    }
}

/// The events with a position, which the indexes of the log have.
fn numbered(viewer: &Viewer) -> Select<Entity> {
    Entity::find().select_only().filter(COLUMN.org_id.eq(viewer.org_id)).filter(COLUMN.position.gt(0))
}

/// Selects the lowest position of the events soon after the first one, or the highest of those shortly
/// before the last one.
fn outermost(viewer: &Viewer, at: DateTime<Utc>, is_from: bool) -> Select<Entity> {
    let events = numbered(viewer);
    // As a plain column it would be searched from an end of the log.
    let position = || Expr::col((Entity, Column::Position)).add(0);
    match is_from {
        true => {
            events.expr_as(position().min(), "position").filter(COLUMN.at.gte(at)).filter(COLUMN.at.lte(at + SPREAD))
        }
        false => {
            events.expr_as(position().max(), "position").filter(COLUMN.at.lte(at)).filter(COLUMN.at.gte(at - SPREAD))
        }
    }
}

/// The database's query plans for the end of a period. Tests use them to require an index.
pub(super) async fn plans(db: &Db, viewer: &Viewer, at: DateTime<Utc>, is_from: bool) -> Result<Vec<String>> {
    let mut plans = Vec::new();
    for select in [nearest(viewer, at, is_from), outermost(viewer, at, is_from)] {
        plans.push(page::explain(db.read(), select.into_query()).await?);
    }
    Ok(plans)
}

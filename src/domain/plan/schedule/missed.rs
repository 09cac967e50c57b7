//! Records occurrences that did not start, as contiguous spans with one event each.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use entity::id::*;
use entity::missed_occurrence::{ActiveModel, COLUMN, Entity, Model, UnfiredReason};
use entity::schedule::Model as Schedule;
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, QueryFilter, Set};
use serde_json::json;

use super::catch_up::{OccurrenceSpan, SkippedTimes};
use super::wall;
use crate::kernel::db::Tx;
use crate::kernel::error::Result;
use crate::kernel::page::{self, Args, Window};
use crate::kernel::viewer::Viewer;

scoped!(missed_occurrence, UnfiredId, "unfired");

/// Returns a window of the spans of one schedule, newest first.
pub fn window(viewer: &Viewer, id: ScheduleId, args: Args) -> Result<Window<Entity>> {
    let select = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id)).filter(COLUMN.schedule_id.eq(id));
    let fingerprint = page::fingerprint(&("unfired", id))?;
    Ok(Window { select, order: NEWEST_FIRST, fingerprint, args, part: None })
}

/// Returns the times after one that a person skipped in advance.
pub(crate) async fn skipped_after(tx: &Tx, id: ScheduleId, after: DateTime<Utc>) -> Result<HashSet<DateTime<Utc>>> {
    let rows = Entity::find()
        .filter(COLUMN.schedule_id.eq(id))
        .filter(COLUMN.reason.eq(UnfiredReason::Skipped))
        .filter(COLUMN.last_at.gt(after))
        .all(tx.db());
    Ok(rows.await?.into_iter().map(|row| row.first_at).collect())
}

/// Records a span that did not start: `schedule.missed`, or `schedule.skipped` if a person paused,
/// cancelled or skipped it, or an earlier run was open.
pub(crate) async fn record(
    tx: &Tx,
    viewer: &Viewer,
    schedule: &Schedule,
    reason: UnfiredReason,
    span: OccurrenceSpan,
) -> Result<()> {
    insert(tx, viewer, schedule, reason, span, None).await
}

/// Records local times before an occurrence that do not exist.
pub(crate) async fn record_skipped(
    tx: &Tx,
    viewer: &Viewer,
    schedule: &Schedule,
    skipped: &SkippedTimes,
    before: DateTime<Utc>,
) -> Result<()> {
    if skipped.count == 0 {
        return Ok(());
    }
    // After a change of the pattern, future occurrences are visited again: record each only once.
    let known = Entity::find()
        .filter(COLUMN.schedule_id.eq(schedule.id))
        .filter(COLUMN.reason.eq(UnfiredReason::NoSuchLocalTime))
        .filter(COLUMN.last_at.gt(tx.now()))
        .all(tx.db())
        .await?;
    let is_known = |at: &chrono::NaiveDateTime| {
        let at = json!(wall(*at));
        known.iter().filter_map(|row| row.local_times.as_ref()?.as_array()).any(|walls| walls.contains(&at))
    };
    let walls: Vec<_> = skipped.walls.iter().copied().filter(|at| !is_known(at)).collect();
    let count = skipped.count - i64::try_from(skipped.walls.len() - walls.len()).unwrap_or(0);
    if walls.is_empty() {
        return Ok(());
    }
    let span = OccurrenceSpan { count, ..OccurrenceSpan::of(before) };
    insert(tx, viewer, schedule, UnfiredReason::NoSuchLocalTime, span, Some(&SkippedTimes { walls, count })).await
}

async fn insert(
    tx: &Tx,
    viewer: &Viewer,
    schedule: &Schedule,
    reason: UnfiredReason,
    span: OccurrenceSpan,
    skipped: Option<&SkippedTimes>,
) -> Result<()> {
    let local_times = skipped.map(|skipped| json!(skipped.walls.iter().map(|at| wall(*at)).collect::<Vec<_>>()));
    let row = ActiveModel {
        id: Set(UnfiredId::new()),
        org_id: Set(schedule.org_id),
        schedule_id: Set(schedule.id),
        reason: Set(reason),
        first_at: Set(span.first_at),
        last_at: Set(span.last_at),
        count: Set(span.count),
        local_times: Set(local_times),
        created_at: Set(tx.now()),
    };
    let row = row.insert(tx.db()).await?;
    let kind = match reason {
        UnfiredReason::Late | UnfiredReason::NoSuchLocalTime => "schedule.missed",
        UnfiredReason::Paused | UnfiredReason::Cancelled | UnfiredReason::Skipped | UnfiredReason::Overlap => {
            "schedule.skipped"
        }
    };
    super::emit(tx, viewer, kind, schedule, payload(&row));
    Ok(())
}

fn payload(row: &Model) -> serde_json::Value {
    json!({
        "reason": row.reason, "count": row.count, "firstAt": row.first_at, "lastAt": row.last_at,
        "localTimes": row.local_times,
    })
}

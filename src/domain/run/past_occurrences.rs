//! The occurrences of a schedule that are over, in the order of their times: runs that its pattern
//! started, runs that a person had started for a past time, and stretches that did not start. Each
//! is a window of its own; a reader merges them by time and id.

use async_graphql::Enum;
use async_graphql::connection::CursorType;
use chrono::{DateTime, Utc};
use entity::RunStatus;
use entity::id::ScheduleId;
use entity::missed_occurrence::{self, UnfiredReason};
use entity::run::{self, COLUMN, Column, Entity};
use sea_orm::{ColumnTrait, Condition, EntityTrait, IdenStatic, QueryFilter};
use uuid::Uuid;

use crate::domain::plan::schedule::missed;
use crate::kernel::error::Result;
use crate::kernel::page::{self, Args, Cursor, Key, Order, Window};
use crate::kernel::viewer::Viewer;

/// Fate of an occurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum OccurrenceStatus {
    /// Started a run, which failed at once if its preflight did.
    Fired,
    /// A person had a run started for it later, with `backfillSchedule`.
    Backfilled,
    /// Not started, because a person or the schedule's settings skipped it: see the reason.
    Skipped,
    /// Not started, because the server was down or its local time did not exist: see the reason.
    Missed,
}

impl OccurrenceStatus {
    /// The status of occurrences that did not start for a reason.
    pub fn of_unfired(reason: UnfiredReason) -> Self {
        match reason {
            UnfiredReason::Late | UnfiredReason::NoSuchLocalTime => Self::Missed,
            UnfiredReason::Paused | UnfiredReason::Cancelled | UnfiredReason::Skipped | UnfiredReason::Overlap => {
                Self::Skipped
            }
        }
    }
}

/// The page of the merged list that is read.
#[derive(Clone, Debug, Default)]
pub struct PastPage {
    /// Number of rows.
    pub first: Option<i32>,
    /// Time and id of the row behind which it begins.
    pub after: Option<(DateTime<Utc>, Uuid)>,
}

impl PastPage {
    /// The arguments of the same page of one of the lists.
    fn of(&self, fingerprint: &str) -> Args {
        let cursor = |(at, id)| Cursor::new(fingerprint.into(), Key::Time(at), id).encode_cursor();
        Args { first: self.first, after: self.after.map(cursor), ..Args::default() }
    }
}

/// A window of the runs that the schedule's pattern started, latest occurrence first.
pub fn fired(viewer: &Viewer, id: ScheduleId, page: &PastPage) -> Result<Window<Entity>> {
    runs(viewer, id, Column::OccurrenceAt, |run| Key::Time(run.occurrence_at.unwrap_or_default()), page)
}

/// A window of the runs that were started for past times, latest time first.
pub fn backfilled(viewer: &Viewer, id: ScheduleId, page: &PastPage) -> Result<Window<Entity>> {
    runs(viewer, id, Column::BackfillFor, |run| Key::Time(run.backfill_for.unwrap_or_default()), page)
}

fn runs(
    viewer: &Viewer,
    id: ScheduleId,
    time: Column,
    key: fn(&run::Model) -> Key,
    page: &PastPage,
) -> Result<Window<Entity>> {
    let select = Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(COLUMN.schedule_id.eq(id))
        .filter(time.is_not_null())
        // Runs that wait for their time are to come; those called off before it are among the stretches.
        // One whose preflight failed was never queued.
        .filter(Condition::any().add(COLUMN.queued_at.is_not_null()).add(COLUMN.status.eq(RunStatus::Failed)));
    let order = Order { by: Some((time, key, false)), ..super::NEWEST_FIRST };
    let fingerprint = page::fingerprint(&("occurrences", time.as_str(), id))?;
    Ok(Window { select, order, args: page.of(&fingerprint), fingerprint, part: None })
}

/// A window of the stretches that did not start until now, latest end first. Times to come that a
/// person has skipped are not among them.
pub fn unfired(
    viewer: &Viewer,
    id: ScheduleId,
    now: DateTime<Utc>,
    page: &PastPage,
) -> Result<Window<missed_occurrence::Entity>> {
    let fingerprint = page::fingerprint(&("occurrences", "unfired", id))?;
    let mut window = missed::window(viewer, id, page.of(&fingerprint))?;
    window.order.by = Some((missed_occurrence::Column::LastAt, |row| Key::Time(row.last_at), false));
    let select = window.select.clone().filter(missed_occurrence::COLUMN.last_at.lte(now));
    Ok(Window { select, fingerprint, ..window })
}

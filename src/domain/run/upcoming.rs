//! The occurrences of a schedule to come: those whose run waits, and those that the pattern yields
//! after them.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Duration, Utc};
use entity::RunStatus;
use entity::id::ScheduleId;
use entity::missed_occurrence::{self, UnfiredReason};
use entity::run::{COLUMN, Entity, Model};
use entity::schedule::{self, ScheduleStatus};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};

use crate::domain::plan::schedule::timing::Timing;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// An occurrence that has not started.
#[derive(Clone, Debug)]
pub struct UpcomingOccurrence {
    /// The time of the pattern.
    pub at: DateTime<Utc>,
    /// Start time: later than `at` by the jitter, or as a person moved it.
    pub starts_at: DateTime<Utc>,
    /// The run that waits for it; none if it has none yet.
    pub run: Option<Model>,
    /// True if a person skipped it: it does not start.
    pub skipped: bool,
}

/// What is known about the future of one schedule.
#[derive(Clone, Debug, Default)]
pub struct KnownFuture {
    /// Runs that wait for their time, and other runs of occurrences to come, which were cancelled.
    runs: Vec<Model>,
    /// Times that a person skipped.
    skipped: HashSet<DateTime<Utc>>,
    /// Number of occurrences that have come and wait for earlier runs to end: they use starts that
    /// remain.
    buffered: usize,
}

impl KnownFuture {
    /// True if an occurrence has a run or was skipped.
    pub(super) fn mentions(&self, at: DateTime<Utc>) -> bool {
        self.skipped.contains(&at) || self.runs.iter().any(|run| run.occurrence_at == Some(at))
    }
}

/// Reads what is known about the future of schedules, in two statements.
pub async fn known_future(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    ids: &[ScheduleId],
    now: DateTime<Utc>,
) -> Result<HashMap<ScheduleId, KnownFuture>> {
    use sea_orm::sea_query::ExprTrait;
    let mut all: HashMap<ScheduleId, KnownFuture> = HashMap::new();
    let dialect = db.get_database_backend();
    let waits = COLUMN.status.eq(RunStatus::Scheduled);
    let runs = Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(any_of(dialect, COLUMN.schedule_id, ids.iter().copied()))
        .filter(waits.or(COLUMN.occurrence_at.gt(now)))
        .order_by_asc(COLUMN.id)
        .all(db);
    for run in runs.await? {
        let Some(id) = run.schedule_id else { continue };
        let of_schedule = all.entry(id).or_default();
        let is_buffered = run.status == RunStatus::Scheduled && run.buffered_at.is_some();
        of_schedule.buffered += usize::from(is_buffered);
        // One that came early still is no occurrence to come.
        if !is_buffered || run.occurrence_at.is_some_and(|at| at > now) {
            of_schedule.runs.push(run);
        }
    }
    let skipped = missed_occurrence::Entity::find()
        .filter(missed_occurrence::COLUMN.org_id.eq(viewer.org_id))
        .filter(any_of(dialect, missed_occurrence::COLUMN.schedule_id, ids.iter().copied()))
        .filter(missed_occurrence::COLUMN.reason.eq(UnfiredReason::Skipped))
        .filter(missed_occurrence::COLUMN.last_at.gt(now))
        .all(db);
    for row in skipped.await? {
        all.entry(row.schedule_id).or_default().skipped.insert(row.first_at);
    }
    Ok(all)
}

/// Lists the next occurrences of a schedule in the order of their starts, skipped ones among them;
/// no more of the others than starts remain for them. During a pause with an end, those after its end.
pub fn upcoming(
    schedule: &schedule::Model,
    known: &KnownFuture,
    now: DateTime<Utc>,
    count: usize,
) -> Result<Vec<UpcomingOccurrence>> {
    if schedule.status == ScheduleStatus::Ended {
        return Ok(Vec::new());
    }
    let timing = Timing::of(schedule)?;
    let since = schedule.paused_until.map_or(now, |until| until.max(now));
    let waiting = known.runs.iter().filter(|run| run.status == RunStatus::Scheduled && run.buffered_at.is_none());
    let mut all: Vec<UpcomingOccurrence> = waiting
        .filter_map(|run| {
            let (at, starts_at) = (run.occurrence_at?, run.scheduled_for.filter(|at| *at > since)?);
            Some(UpcomingOccurrence { at, starts_at, run: Some(run.clone()), skipped: false })
        })
        .collect();
    let taken: HashSet<_> = known.runs.iter().filter_map(|run| run.occurrence_at).collect();
    let accounted = schedule.accounted_until.unwrap_or(schedule.created_at);
    // A start lies behind its occurrence by the jitter at most.
    let from = accounted.max(since - Duration::seconds(i64::from(schedule.jitter_seconds)));
    let known_count = taken.len() + known.skipped.len();
    let mut found: Vec<UpcomingOccurrence> = Vec::new();
    let later = timing.after(from).filter(|one| one.starts_at > since);
    for one in later.take(count + known_count) {
        if !taken.contains(&one.at) {
            let skipped = known.skipped.contains(&one.at);
            found.push(UpcomingOccurrence { at: one.at, starts_at: one.starts_at, run: None, skipped });
        }
    }
    // Skipped ones that the schedule has passed over already.
    for at in known.skipped.iter().copied().filter(|at| *at <= accounted && !taken.contains(at)) {
        if let Some(one) = timing.at(at).filter(|one| one.starts_at > since) {
            found.push(UpcomingOccurrence { at, starts_at: one.starts_at, run: None, skipped: true });
        }
    }
    all.extend(found);
    all.sort_by_key(|one| (one.starts_at, one.at));
    let left = schedule.remaining.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or_default());
    let mut left = left.saturating_sub(known.buffered);
    all.retain(|one| {
        let fits = one.skipped || left > 0;
        left = left.saturating_sub(usize::from(!one.skipped));
        fits
    });
    all.truncate(count);
    Ok(all)
}

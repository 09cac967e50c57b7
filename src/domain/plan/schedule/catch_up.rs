//! Decides on due occurrences after a delay: which start and which are dropped. A pure function.

use std::collections::VecDeque;

use chrono::{DateTime, Duration, NaiveDateTime, Utc};
use entity::schedule::{CatchUpPolicy, Model};

use super::Occurrence;
use crate::kernel::error::{Refusal, Result};

/// Delay after which a due occurrence counts as late. Nothing repeats faster than once a minute.
pub const LATE: Duration = Duration::seconds(60);
/// Maximum number of occurrences that a catch-up starts, the newest; older ones are missed.
pub const LATE_RUNS: usize = 1_000;
/// The default window of `ALL`.
pub const WINDOW_SECONDS: i64 = 86_400;
/// The maximum window: a year.
pub const WINDOW_SECONDS_MAX: i64 = 31_536_000;
/// Maximum number of nonexistent local times that are recorded individually; the rest is counted.
pub const LOCAL_TIMES: usize = 100;

/// Returns the window to store for a policy. Errors: BAD_USER_INPUT.
pub(crate) fn window_of(policy: CatchUpPolicy, seconds: Option<i64>) -> Result<Option<i64>> {
    match seconds {
        Some(seconds) if !(1..=WINDOW_SECONDS_MAX).contains(&seconds) => {
            let message = format!("must be 1 to {} seconds (a year)", WINDOW_SECONDS_MAX);
            Err(Refusal::input("catchUpWindowSeconds", message).into())
        }
        Some(seconds) => Ok(Some(seconds)),
        None if policy == CatchUpPolicy::All => Ok(Some(WINDOW_SECONDS)),
        None => Ok(None),
    }
}

/// The terms on which occurrences that are due may start.
#[derive(Clone, Copy, Debug)]
pub enum CatchUp {
    /// According to a catch-up policy.
    CatchUp {
        /// The policy.
        policy: CatchUpPolicy,
        /// Maximum age of an occurrence to catch up on; `None` is unlimited.
        window: Option<Duration>,
    },
    /// None may start: they were due during a pause that lasted until this time.
    Paused(DateTime<Utc>),
    /// None may start: an earlier run is open.
    Overlapping,
}

impl CatchUp {
    /// Returns the terms of a schedule.
    pub fn of(schedule: &Model) -> Self {
        let window = schedule.catch_up_window_seconds.map(|seconds| Duration::seconds(seconds.min(WINDOW_SECONDS_MAX)));
        Self::CatchUp { policy: schedule.catch_up, window }
    }

    /// Returns the time up to which occurrences are due.
    pub fn due_until(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::Paused(until) => until.min(now),
            Self::CatchUp { .. } | Self::Overlapping => now,
        }
    }

    /// True if an occurrence that is to start at this time may start.
    pub fn admits(self, at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        match self {
            Self::Paused(_) | Self::Overlapping => false,
            Self::CatchUp { .. } if !is_late(at, now) => true,
            Self::CatchUp { policy: CatchUpPolicy::None, .. } => false,
            Self::CatchUp { window, .. } => window.is_none_or(|window| now - at <= window),
        }
    }

    /// Returns the maximum number of due occurrences that may start.
    fn max_count(self) -> usize {
        match self {
            Self::Paused(_) | Self::Overlapping => 0,
            Self::CatchUp { policy: CatchUpPolicy::Last, .. } => 1,
            Self::CatchUp { policy: CatchUpPolicy::None | CatchUpPolicy::All, .. } => LATE_RUNS,
        }
    }
}

/// True if an occurrence is late.
pub fn is_late(at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    now - at > LATE
}

/// A span of consecutive occurrences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OccurrenceSpan {
    /// The first.
    pub first_at: DateTime<Utc>,
    /// The last.
    pub last_at: DateTime<Utc>,
    /// Their number.
    pub count: i64,
}

impl OccurrenceSpan {
    /// Creates the span of a single occurrence.
    pub fn of(at: DateTime<Utc>) -> Self {
        Self { first_at: at, last_at: at, count: 1 }
    }
}

/// Local times that do not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SkippedTimes {
    /// The first ones, up to [`LOCAL_TIMES`].
    pub walls: Vec<NaiveDateTime>,
    /// The total number.
    pub count: i64,
}

impl SkippedTimes {
    /// Creates the record of the times skipped before one occurrence.
    pub(crate) fn of(walls: &[NaiveDateTime]) -> Self {
        let mut all = Self::default();
        all.add(walls);
        all
    }

    fn add(&mut self, walls: &[NaiveDateTime]) {
        self.count += i64::try_from(walls.len()).unwrap_or(i64::MAX);
        self.walls.extend(walls.iter().take(LOCAL_TIMES.saturating_sub(self.walls.len())));
    }
}

/// The decision on the occurrences of a schedule.
#[derive(Clone, Debug, Default)]
pub struct CatchUpPlan {
    /// Occurrences that do not start; they come before all others.
    pub unfired: Option<OccurrenceSpan>,
    /// Due occurrences that start, in order.
    pub start: VecDeque<Occurrence>,
    /// The first occurrence that is not due; `None` at the end of the pattern.
    pub next: Option<Occurrence>,
    /// Nonexistent local times among the occurrences that do not start, and before the head.
    pub skipped: SkippedTimes,
}

impl CatchUpPlan {
    /// Returns the occurrence of the waiting run: the first that starts, else the next one.
    pub fn head(&self) -> Option<&Occurrence> {
        self.start.front().or(self.next.as_ref())
    }
}

/// Decides on occurrences, given in order, up to the first that is not due. Each is visited once,
/// and few are held in memory.
pub fn plan_catch_up(terms: CatchUp, now: DateTime<Utc>, occurrences: impl Iterator<Item = Occurrence>) -> CatchUpPlan {
    let mut plan = CatchUpPlan::default();
    for found in occurrences {
        if found.starts_at > now {
            plan.next = Some(found);
            break;
        }
        plan.start.push_back(found);
        if plan.start.len() > terms.max_count() {
            plan.drop_first();
        }
    }
    while plan.start.front().is_some_and(|found| !terms.admits(found.starts_at, now)) {
        plan.drop_first();
    }
    // Local times of later occurrences are recorded when these start.
    let walls = plan.head().map(|head| head.skipped.clone()).unwrap_or_default();
    plan.skipped.add(&walls);
    plan
}

impl CatchUpPlan {
    /// Moves the first occurrence from those that start to those that do not.
    fn drop_first(&mut self) {
        let Some(found) = self.start.pop_front() else { return };
        self.skipped.add(&found.skipped);
        let span = self.unfired.get_or_insert(OccurrenceSpan { first_at: found.at, last_at: found.at, count: 0 });
        span.last_at = found.at;
        span.count += 1;
    }
}

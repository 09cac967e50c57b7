//! The occurrences that start and those that are left, judged when time has passed: a pure decision.

use std::collections::VecDeque;

use chrono::{DateTime, Duration, NaiveDateTime, Utc};
use entity::schedule::{CatchUpPolicy, Model};

use super::Occurrence;

/// An occurrence is late when the engine looks at it this much after its time. Nothing repeats faster than once a minute.
pub const LATE: Duration = Duration::seconds(60);
/// Occurrences that one catch-up makes up for, the newest; older ones are missed.
pub const LATE_RUNS: usize = 1_000;
/// The window of `ALL` where none is given.
pub const WINDOW_SECONDS: i64 = 86_400;
/// The longest window that can be given: a year.
pub const WINDOW_SECONDS_MAX: i64 = 31_536_000;
/// Local times that do not exist and are recorded one by one; further ones are only counted.
pub const LOCAL_TIMES: usize = 100;

/// The terms on which occurrences that are due may start.
#[derive(Clone, Copy, Debug)]
pub enum CatchUp {
    /// By a catch-up policy.
    CatchUp {
        /// The policy.
        policy: CatchUpPolicy,
        /// The age up to which an occurrence is made up for; none: any.
        window: Option<Duration>,
    },
    /// None of them: they fell due in a pause.
    Paused,
}

impl CatchUp {
    /// Those of a schedule.
    pub fn of(schedule: &Model) -> Self {
        let window = schedule.catch_up_window_seconds.map(|seconds| Duration::seconds(seconds.min(WINDOW_SECONDS_MAX)));
        Self::CatchUp { policy: schedule.catch_up, window }
    }

    /// An occurrence of this time may start.
    pub fn admits(self, at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        match self {
            Self::Paused => false,
            Self::CatchUp { .. } if !is_late(at, now) => true,
            Self::CatchUp { policy: CatchUpPolicy::None, .. } => false,
            Self::CatchUp { window, .. } => window.is_none_or(|window| now - at <= window),
        }
    }

    /// The number of occurrences of a pattern that may start of those that are due.
    fn most(self) -> usize {
        match self {
            Self::Paused => 0,
            Self::CatchUp { policy: CatchUpPolicy::Last, .. } => 1,
            Self::CatchUp { policy: CatchUpPolicy::None | CatchUpPolicy::All, .. } => LATE_RUNS,
        }
    }
}

/// The engine looks at it too late.
pub fn is_late(at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    now - at > LATE
}

/// A stretch of occurrences.
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
    /// A single occurrence.
    pub fn of(at: DateTime<Utc>) -> Self {
        Self { first_at: at, last_at: at, count: 1 }
    }
}

/// Local times that do not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SkippedTimes {
    /// The first of them.
    pub walls: Vec<NaiveDateTime>,
    /// The number of all.
    pub count: i64,
}

impl SkippedTimes {
    /// Those before one occurrence.
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

/// The occurrences of a schedule as they are to be taken.
#[derive(Clone, Debug, Default)]
pub struct CatchUpPlan {
    /// Those that do not start; they come before all others.
    pub unfired: Option<OccurrenceSpan>,
    /// Those that are due and start, in their order.
    pub start: VecDeque<Occurrence>,
    /// The first one that is not due; none at the end of the pattern.
    pub next: Option<Occurrence>,
    /// Local times before and among the first three that do not exist.
    pub left_out: SkippedTimes,
}

impl CatchUpPlan {
    /// The occurrence that has the waiting run: the first that starts, or is to come.
    pub fn head(&self) -> Option<&Occurrence> {
        self.start.front().or(self.next.as_ref())
    }
}

/// Judges occurrences that come in their order, up to the first that is not due. Each is looked at once, and few are kept.
pub fn judge(terms: CatchUp, now: DateTime<Utc>, line: impl Iterator<Item = Occurrence>) -> CatchUpPlan {
    let mut judged = CatchUpPlan::default();
    for found in line {
        if found.at > now {
            judged.next = Some(found);
            break;
        }
        judged.start.push_back(found);
        if judged.start.len() > terms.most() {
            judged.leave();
        }
    }
    while judged.start.front().is_some_and(|found| !terms.admits(found.at, now)) {
        judged.leave();
    }
    // The others' local times are recorded when it is their turn.
    let walls = judged.head().map(|head| head.left_out.clone()).unwrap_or_default();
    judged.left_out.add(&walls);
    judged
}

impl CatchUpPlan {
    /// Leaves the first of those that were to start.
    fn leave(&mut self) {
        let Some(found) = self.start.pop_front() else { return };
        self.left_out.add(&found.left_out);
        let span = self.unfired.get_or_insert(OccurrenceSpan { first_at: found.at, last_at: found.at, count: 0 });
        span.last_at = found.at;
        span.count += 1;
    }
}

//! The occurrences of a schedule within its bounds, and the time at which each starts: later than
//! the occurrence by its jitter. The jitter is derived from the schedule and the occurrence, so that
//! every node, and a restarted one, computes the same start. It ends before the next occurrence, so
//! that starts keep the order of the occurrences.

use std::iter::Peekable;

use chrono::{DateTime, Duration, Utc};
use entity::id::ScheduleId;
use entity::schedule::Model;

use super::{Occurrence, Pattern, Walk};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::storable;

/// The maximum jitter in seconds: a day.
pub const JITTER_SECONDS_MAX: i32 = 86_400;
/// The maximum number of starts that a schedule may be given.
pub const REMAINING_MAX: i32 = 1_000_000;

/// Times of a schedule: a single one, or those of a pattern within bounds.
#[derive(Clone, Debug)]
pub struct Timing {
    /// The schedule.
    pub id: ScheduleId,
    /// The single time.
    pub at: Option<DateTime<Utc>>,
    /// The pattern; `None` for a single time.
    pub pattern: Option<Pattern>,
    /// Time before which nothing occurs.
    pub start_at: Option<DateTime<Utc>>,
    /// Time after which nothing occurs.
    pub end_at: Option<DateTime<Utc>>,
    /// Maximum delay of a start in seconds.
    pub jitter_seconds: i32,
}

impl Timing {
    /// Reads the timing of a stored schedule.
    pub fn of(schedule: &Model) -> Result<Self> {
        Ok(Self {
            id: schedule.id,
            at: schedule.at,
            pattern: super::pattern(schedule)?,
            start_at: schedule.start_at,
            end_at: schedule.end_at,
            jitter_seconds: schedule.jitter_seconds,
        })
    }

    /// Iterates over the occurrences after a time, in order.
    pub fn after(&self, after: DateTime<Utc>) -> Occurrences<'_> {
        let single = self.at.filter(|at| *at > after).map(Occurrence::plain);
        let before_first = self.start_at.and_then(|at| at.checked_sub_signed(Duration::microseconds(1)));
        let from = before_first.map_or(after, |first| after.max(first));
        let walk = self.pattern.as_ref().map(|pattern| pattern.after(from).peekable());
        Occurrences { timing: self, single, walk }
    }

    /// Returns the occurrence at exactly this time; `None` if there is none.
    pub fn at(&self, at: DateTime<Utc>) -> Option<Occurrence> {
        let before = at.checked_sub_signed(Duration::microseconds(1))?;
        self.after(before).next().filter(|found| found.at == at)
    }

    /// Returns the start of an occurrence.
    pub fn start_of(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        match self.jitter_seconds {
            0 => at,
            _ => self.at(at).map_or(at, |found| found.starts_at),
        }
    }

    fn jittered(&self, at: DateTime<Utc>, next: Option<DateTime<Utc>>) -> DateTime<Utc> {
        let room = next.map_or(i64::MAX, |next| (next - at).num_seconds() - 1);
        let most = i64::from(self.jitter_seconds).min(room).max(0);
        let offset = scattered(self.id, at) % (most.unsigned_abs() + 1);
        let start = at + Duration::seconds(i64::try_from(offset).unwrap_or_default());
        if storable::time(start).is_ok() { start } else { at }
    }
}

/// Returns a number that is spread evenly over all occurrences of all schedules, and never changes
/// for one of them (SplitMix64).
fn scattered(id: ScheduleId, at: DateTime<Utc>) -> u64 {
    let (high, low) = id.0.as_u64_pair();
    let mut mixed = high ^ low.rotate_left(32) ^ at.timestamp().unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for factor in [0xBF58_476D_1CE4_E5B9_u64, 0x94D0_49BB_1331_11EB] {
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(factor);
    }
    mixed ^ (mixed >> 31)
}

/// An iterator over the occurrences of a schedule.
#[derive(Debug)]
pub struct Occurrences<'a> {
    timing: &'a Timing,
    single: Option<Occurrence>,
    walk: Option<Peekable<Walk<'a>>>,
}

impl Iterator for Occurrences<'_> {
    type Item = Occurrence;

    fn next(&mut self) -> Option<Occurrence> {
        if let Some(single) = self.single.take() {
            return Some(single);
        }
        let walk = self.walk.as_mut()?;
        let mut found = walk.next().filter(|found| self.timing.end_at.is_none_or(|end| found.at <= end))?;
        if self.timing.jitter_seconds > 0 {
            found.starts_at = self.timing.jittered(found.at, walk.peek().map(|next| next.at));
        }
        Some(found)
    }
}

/// Bounds of a repeating schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Time before which nothing occurs.
    pub start_at: Option<DateTime<Utc>>,
    /// Time after which nothing occurs.
    pub end_at: Option<DateTime<Utc>>,
    /// Number of starts left.
    pub remaining: Option<i32>,
    /// Maximum delay of a start in seconds.
    pub jitter_seconds: Option<i32>,
}

impl Bounds {
    /// Checks each bound by itself, and their order. Errors: BAD_USER_INPUT.
    pub fn check(&self) -> std::result::Result<(), Refusal> {
        for (field, time) in [("startAt", self.start_at), ("endAt", self.end_at)] {
            time.map(|time| storable::time(time).map_err(|unfit| unfit.of(field))).transpose()?;
        }
        if let (Some(start), Some(end)) = (self.start_at, self.end_at)
            && end < start
        {
            let message = format!("lies before `startAt` ({}): give a later time", start.to_rfc3339());
            return Err(Refusal::input("endAt", message));
        }
        if self.remaining.is_some_and(|count| !(1..=REMAINING_MAX).contains(&count)) {
            return Err(Refusal::input("remaining", format!("must be 1 to {REMAINING_MAX}, or null for no limit")));
        }
        if self.jitter_seconds.is_some_and(|seconds| !(0..=JITTER_SECONDS_MAX).contains(&seconds)) {
            return Err(Refusal::input("jitterSeconds", format!("must be 0 to {JITTER_SECONDS_MAX} (a day)")));
        }
        Ok(())
    }

    /// Returns the name of a bound that is set.
    pub fn set_field(&self) -> Option<&'static str> {
        let set = [
            ("startAt", self.start_at.is_some()),
            ("endAt", self.end_at.is_some()),
            ("remaining", self.remaining.is_some()),
            ("jitterSeconds", self.jitter_seconds.is_some_and(|seconds| seconds != 0)),
        ];
        set.into_iter().find(|(_, is_set)| *is_set).map(|(field, _)| field)
    }
}

/// Checks a new or changed timing: it has an occurrence after `now`. Returns it. Errors:
/// BAD_USER_INPUT naming the field.
pub fn check_timing(timing: &Timing, now: DateTime<Utc>) -> std::result::Result<Occurrence, Refusal> {
    timing.after(now).next().ok_or_else(|| {
        let since = timing.start_at.map_or_else(|| "now".to_owned(), |start| start.max(now).to_rfc3339());
        match timing.end_at {
            Some(end) if end <= now => Refusal::input("endAt", "the time lies in the past"),
            Some(_) => Refusal::input("endAt", format!("the pattern has no occurrence between {since} and this time")),
            None if timing.at.is_some() => Refusal::input("at", "the time lies in the past"),
            None => Refusal::input("startAt", "the pattern has no occurrence after this time"),
        }
    })
}

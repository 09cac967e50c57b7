//! Cron patterns in a time zone: pure arithmetic without a database.
//!
//! A pattern names wall times. They are laid out day by day and each is placed on the time line: a wall time that does
//! not exist is shifted or left out, one that comes twice starts once or twice. Days far from any change of the clock take
//! a short cut. The search is bounded by the Gregorian cycle of 400 years and by the year 9999.

mod spelling;
mod walk;

use chrono::{DateTime, NaiveDateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use entity::schedule::{FoldPolicy, GapPolicy};

use crate::kernel::error::Refusal;
use crate::kernel::validate;

pub use walk::Walk;

/// A pattern in its zone.
#[derive(Clone, Debug)]
pub struct Pattern {
    cron: Cron,
    hours: Vec<u32>,
    minutes: Vec<u32>,
    zone: Tz,
    gap: GapPolicy,
    fold: FoldPolicy,
    /// "Every so often" rather than "at this time": such a pattern follows the clock on the wall as it runs.
    floats: bool,
}

/// The place of an occurrence among local times that come twice because the clock goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The local time comes once.
    Only,
    /// The first of two.
    First,
    /// The second of two.
    Second,
}

/// One occurrence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// The instant.
    pub at: DateTime<Utc>,
    /// Its own local time does not exist that day, so that it comes at the first instant after the gap.
    pub shifted: bool,
    /// Its place where the local time comes twice.
    pub turn: Turn,
    /// Local times between the occurrence before it and this one that were left out because they do not exist.
    pub left_out: Vec<NaiveDateTime>,
}

impl Occurrence {
    /// One that no change of the clock touches.
    pub fn plain(at: DateTime<Utc>) -> Self {
        Self { at, shifted: false, turn: Turn::Only, left_out: Vec::new() }
    }
}

impl Pattern {
    /// Reads a pattern and a zone. Errors: BAD_USER_INPUT naming `cron` or `timezone`, also for a pattern that never comes
    /// due.
    pub fn parse(cron: &str, time_zone: &str, gap: GapPolicy, fold: FoldPolicy) -> Result<Self, Refusal> {
        let pattern = Self::read(cron, time_zone, gap, fold)?;
        match pattern.next(DateTime::UNIX_EPOCH) {
            Some(_) => Ok(pattern),
            None => Err(Refusal::input("cron", format!("`{}` never comes due", validate::shown(cron)))),
        }
    }

    /// The same for a pattern that was parsed before: the long search for one that never comes due is left out.
    pub(crate) fn read(cron: &str, time_zone: &str, gap: GapPolicy, fold: FoldPolicy) -> Result<Self, Refusal> {
        let zone = validate::time_zone("timezone", time_zone).map_err(|_| {
            Refusal::input(
                "timezone",
                format!("`{}` is not a time zone like Europe/Berlin", validate::shown(time_zone)),
            )
        })?;
        let wrong = |why: &dyn std::fmt::Display| Refusal::input("cron", format!("`{}`: {why}", validate::shown(cron)));
        let fields = spelling::fields(cron).map_err(|why| wrong(&why))?;
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(&fields.join(" ")).map_err(|err| wrong(&err))?;
        let values = |values: Vec<u16>| values.into_iter().map(u32::from).collect::<Vec<_>>();
        let (hours, minutes) = (values(cron.pattern.hours.values()), values(cron.pattern.minutes.values()));
        let floats =
            fields[0].starts_with('*') || fields[1].starts_with('*') || minutes.len() == 60 || hours.len() == 24;
        Ok(Self { cron, hours, minutes, zone, gap, fold, floats })
    }

    /// The first occurrence after a time; none if there is none until the year 9999.
    pub fn next(&self, after: DateTime<Utc>) -> Option<Occurrence> {
        self.after(after).next()
    }

    /// All occurrences after a time, in order.
    pub fn after(&self, after: DateTime<Utc>) -> Walk<'_> {
        Walk::new(self, after)
    }

    /// At most so many occurrences after a time.
    pub fn take(&self, after: DateTime<Utc>, count: usize) -> Vec<Occurrence> {
        self.after(after).take(count).collect()
    }

    /// The zone it is read in.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// "Every so often" rather than "at this time": every local time counts, also the second of two.
    pub fn floats(&self) -> bool {
        self.floats
    }

    /// Both day fields are restricted and either is enough, as in Vixie cron: `0 9 1-7 * MON` starts on each Monday and on
    /// each of the first seven days.
    pub fn either_day(&self) -> bool {
        let pattern = &self.cron.pattern;
        !pattern.is_dom_wildcard() && !pattern.is_dow_wildcard() && !pattern.matches_dom_and_dow()
    }
}

/// A local time as people read it.
pub fn wall(wall: NaiveDateTime) -> String {
    wall.format("%Y-%m-%d %H:%M").to_string()
}

/// The note of a pattern that starts on either of its day fields.
pub const EITHER_DAY: &str = "the day of month and the day of week are both given, and either is enough; write the day \
                              of week with a `+` before it, as in `0 9 1-7 * +MON`, to require both";

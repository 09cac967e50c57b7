//! Cron patterns in a time zone: pure arithmetic without a database.
//!
//! A pattern defines wall times. They are generated day by day and each is mapped to an instant: a
//! wall time that does not exist is shifted or skipped, one that occurs twice starts once or twice.
//! Days far from any clock change take a shortcut. The search is bounded by the Gregorian cycle of
//! 400 years and by the year 9999.

mod spelling;
mod walk;

use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};
use croner::{Cron, Weekday};
use entity::schedule::{FoldPolicy, GapPolicy};

use crate::kernel::error::Refusal;
use crate::kernel::validate;

pub use walk::Walk;

/// Kinds of months: their name, the weekday of their first day, and the kind of year.
const MONTH_KINDS: usize = 12 * 7 * 2;

/// A pattern with its time zone and policies.
#[derive(Clone, Debug)]
pub struct Pattern {
    cron: Cron,
    hours: Vec<u32>,
    minutes: Vec<u32>,
    /// The matching days of each kind of month, as bits, once they are known.
    months: Arc<[OnceLock<u32>; MONTH_KINDS]>,
    zone: Tz,
    gap: GapPolicy,
    fold: FoldPolicy,
    /// Set for "every so often" rather than "at this time": every wall time counts as the clock
    /// shows it.
    floats: bool,
}

/// The position of an occurrence if its local time occurs twice because the clock goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The local time occurs once.
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
    /// Start time: the instant, or later by the schedule's jitter.
    pub starts_at: DateTime<Utc>,
    /// Set if its local time does not exist that day: it starts at the first instant after the gap.
    pub shifted: bool,
    /// The position if the local time occurs twice.
    pub turn: Turn,
    /// Local times between the previous occurrence and this one that were skipped because they do
    /// not exist.
    pub skipped: Vec<NaiveDateTime>,
}

impl Occurrence {
    /// Creates an occurrence unaffected by clock changes.
    pub fn plain(at: DateTime<Utc>) -> Self {
        Self { at, starts_at: at, shifted: false, turn: Turn::Only, skipped: Vec::new() }
    }
}

fn wrong(cron: &str, why: &dyn std::fmt::Display) -> Refusal {
    Refusal::input("cron", format!("`{}`: {why}", validate::printable(cron)))
}

impl Pattern {
    /// Parses a pattern and a time zone. Errors: BAD_USER_INPUT naming `cron` or `timezone`, also
    /// for a pattern that never occurs.
    pub fn parse(cron: &str, time_zone: &str, gap: GapPolicy, fold: FoldPolicy) -> Result<Self, Refusal> {
        spelling::check_steps(cron).map_err(|why| wrong(cron, &why))?;
        let pattern = Self::read(cron, time_zone, gap, fold)?;
        match pattern.next(DateTime::UNIX_EPOCH) {
            Some(_) => Ok(pattern),
            None => Err(Refusal::input("cron", format!("`{}` never occurs", validate::printable(cron)))),
        }
    }

    /// Same as [`Pattern::parse`] for a stored pattern, without the long search that detects
    /// patterns that never occur.
    pub(crate) fn read(cron: &str, time_zone: &str, gap: GapPolicy, fold: FoldPolicy) -> Result<Self, Refusal> {
        let zone = validate::time_zone("timezone", time_zone).map_err(|_| {
            Refusal::input(
                "timezone",
                format!("`{}` is not a time zone like Europe/Berlin", validate::printable(time_zone)),
            )
        })?;
        let fields = spelling::fields(cron).map_err(|why| wrong(cron, &why))?;
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        // The parser does not say which field it means.
        let is_valid = |at: usize| {
            let mut alone = ["*"; 5];
            alone[at] = &fields[at];
            parser.parse(&alone.join(" ")).is_ok()
        };
        let cron = parser.parse(&fields.join(" ")).map_err(|err| match (0..5).find(|at| !is_valid(*at)) {
            Some(at) => wrong(cron, &spelling::invalid(at, &fields[at])),
            None => wrong(cron, &err),
        })?;
        let values = |values: Vec<u16>| values.into_iter().map(u32::from).collect::<Vec<_>>();
        let (hours, minutes) = (values(cron.pattern.hours.values()), values(cron.pattern.minutes.values()));
        let floats =
            fields[0].starts_with('*') || fields[1].starts_with('*') || minutes.len() == 60 || hours.len() == 24;
        let months = Arc::new([const { OnceLock::new() }; MONTH_KINDS]);
        Ok(Self { cron, hours, minutes, months, zone, gap, fold, floats })
    }

    /// Returns the days of a month that match, bit 1 for the first. The days depend only on the kind
    /// of month, so a search through 400 years looks at each kind once.
    fn days(&self, month: NaiveDate) -> u32 {
        let is_leap = NaiveDate::from_ymd_opt(month.year(), 2, 29).is_some();
        let weekday = month.with_day(1).unwrap_or(month).weekday().num_days_from_sunday();
        let kind = (month.month0() * 7 + weekday) * 2 + u32::from(is_leap);
        let matching = || {
            let pattern = &self.cron.pattern;
            if !pattern.month_match(month.month()).unwrap_or(false) {
                return 0;
            }
            (1..=31).filter_map(|day| month.with_day(day)).fold(0, |days, date| {
                let weekday = Weekday::from_days_from_sunday(date.weekday().num_days_from_sunday());
                let is_match = pattern.day_match(date.year(), date.month(), date.day(), weekday).unwrap_or(false);
                days | (u32::from(is_match) << date.day())
            })
        };
        match self.months.get(kind as usize) {
            Some(known) => *known.get_or_init(matching),
            None => matching(),
        }
    }

    /// Returns the first occurrence after a time; `None` if there is none until the year 9999.
    pub fn next(&self, after: DateTime<Utc>) -> Option<Occurrence> {
        self.after(after).next()
    }

    /// Iterates over the occurrences after a time, in order.
    pub fn after(&self, after: DateTime<Utc>) -> Walk<'_> {
        Walk::new(self, after)
    }

    /// Returns at most `count` occurrences after a time.
    pub fn take(&self, after: DateTime<Utc>, count: usize) -> Vec<Occurrence> {
        self.after(after).take(count).collect()
    }

    /// Returns the time zone.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// True for "every so often" rather than "at this time": every local time counts, also the
    /// second of two.
    pub fn floats(&self) -> bool {
        self.floats
    }

    /// True if both day fields are restricted and either suffices, as in Vixie cron: `0 9 1-7 *
    /// MON` starts on each Monday and on each of the first seven days.
    pub fn either_day(&self) -> bool {
        let pattern = &self.cron.pattern;
        !pattern.is_dom_wildcard() && !pattern.is_dow_wildcard() && !pattern.matches_dom_and_dow()
    }
}

/// Formats a local time for people.
pub fn wall(wall: NaiveDateTime) -> String {
    wall.format("%Y-%m-%d %H:%M").to_string()
}

/// The warning for a pattern that starts on either of its day fields.
pub const EITHER_DAY: &str = "both the day of month and the day of week are given, and either is enough; write the day \
                              of week with a `+` before it, as in `0 9 1-7 * +MON`, to require both";

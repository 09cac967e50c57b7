//! Iterates over the occurrences of a pattern in order.
//!
//! Days are generated one after another. Near a clock change a later wall time can come earlier, by
//! up to a day (Kwajalein 1969), so generated items wait until nothing earlier can follow.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Duration, MappedLocalTime, Months, NaiveDate, NaiveDateTime, Offset, TimeZone, Utc};
use entity::schedule::{FoldPolicy, GapPolicy};

use super::{Occurrence, Pattern, Turn};

/// Maximum distance of a wall time, read as UTC, from its instant: zones lie within 16 hours of
/// UTC.
const ZONES: Duration = Duration::hours(16);
/// Upper bound for a gap or fold: the longest one in history is a day.
const CHANGE: Duration = Duration::hours(26);
/// Period of the Gregorian calendar, including its weekdays.
const CYCLE: Months = Months::new(400 * 12);

/// The events at one instant.
#[derive(Debug, Default)]
struct Item {
    start: Option<(bool, Turn)>,
    skipped: Vec<NaiveDateTime>,
}

/// An iterator over the occurrences of a pattern after a time.
#[derive(Debug)]
pub struct Walk<'a> {
    pattern: &'a Pattern,
    after: DateTime<Utc>,
    /// The next day to generate; `None` at the end.
    date: Option<NaiveDate>,
    last: NaiveDate,
    generated: BTreeMap<DateTime<Utc>, Item>,
    /// Days not yet generated have nothing before this instant.
    safe: DateTime<Utc>,
    skipped: Vec<NaiveDateTime>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(pattern: &'a Pattern, after: DateTime<Utc>) -> Self {
        let after = after.clamp(first(), last());
        let local = local_date(pattern, after);
        let begin = match steady_offset(pattern, local) {
            Some(_) => Some(local),
            None => local.checked_sub_days(chrono::Days::new(2)),
        };
        let mut walk = Self {
            pattern,
            after,
            date: begin,
            last: local,
            generated: BTreeMap::new(),
            safe: first(),
            skipped: Vec::new(),
        };
        walk.search_on();
        walk
    }

    fn search_on(&mut self) {
        // Local dates are ahead of UTC by at most a day.
        let end = last().date_naive() + Duration::days(2);
        self.last = self.after.date_naive().checked_add_months(CYCLE).map_or(end, |date| date.min(end));
    }

    /// Returns the first day from `date` on that matches the pattern.
    fn matching(&self, date: NaiveDate) -> Option<NaiveDate> {
        let (mut month, mut from) = (date.with_day(1)?, date.day());
        while month <= self.last {
            let days = self.pattern.days(month) & (u32::MAX << from);
            if days != 0 {
                return month.with_day(days.trailing_zeros()).filter(|found| *found <= self.last);
            }
            (month, from) = (month.checked_add_months(Months::new(1))?, 1);
        }
        None
    }

    fn generate_day(&mut self, date: NaiveDate) {
        let pattern = self.pattern;
        let steady_offset = steady_offset(pattern, date);
        for hour in &pattern.hours {
            for minute in &pattern.minutes {
                let Some(wall) = date.and_hms_opt(*hour, *minute, 0) else { continue };
                match steady_offset {
                    Some(offset) => self.add(wall.and_utc() - offset, false, Turn::Only),
                    None => self.place(wall),
                }
            }
        }
        let next_day = (date + Duration::days(1)).and_time(chrono::NaiveTime::MIN).and_utc();
        self.safe = next_day - steady_offset.unwrap_or(ZONES);
    }

    fn place(&mut self, wall: NaiveDateTime) {
        let pattern = self.pattern;
        match pattern.zone.from_local_datetime(&wall) {
            MappedLocalTime::Single(at) => self.add(at.to_utc(), false, Turn::Only),
            MappedLocalTime::Ambiguous(one, other) => {
                let (one, other) = (one.to_utc(), other.to_utc());
                self.add(one.min(other), false, Turn::First);
                if pattern.floats || pattern.fold == FoldPolicy::Both {
                    self.add(one.max(other), false, Turn::Second);
                }
            }
            MappedLocalTime::None => {
                let Some(end) = gap_end(pattern, wall) else { return };
                // Occurrences of a day that does not exist (Apia, 2011-12-30) do not move to the
                // next day.
                if pattern.floats || pattern.gap == GapPolicy::Skip || is_missing(pattern, wall.date()) {
                    self.generated.entry(end).or_default().skipped.push(wall);
                } else {
                    self.add(end, true, Turn::Only);
                }
            }
        }
    }

    fn add(&mut self, at: DateTime<Utc>, shifted: bool, turn: Turn) {
        let item = self.generated.entry(at).or_default();
        let (was_shifted, turn) = item.start.unwrap_or((false, turn));
        item.start = Some((was_shifted || shifted, turn));
    }
}

impl Iterator for Walk<'_> {
    type Item = Occurrence;

    fn next(&mut self) -> Option<Occurrence> {
        loop {
            while let Some(entry) = self.generated.first_entry() {
                if *entry.key() >= self.safe || *entry.key() > last() {
                    break;
                }
                let (at, item) = entry.remove_entry();
                if at <= self.after {
                    continue;
                }
                self.skipped.extend(item.skipped);
                if let Some((shifted, turn)) = item.start {
                    self.after = at;
                    self.search_on();
                    let skipped = std::mem::take(&mut self.skipped);
                    return Some(Occurrence { at, starts_at: at, shifted, turn, skipped });
                }
            }
            match self.date.and_then(|date| self.matching(date)) {
                Some(date) => {
                    self.generate_day(date);
                    self.date = date.succ_opt();
                }
                None if self.date.is_some() => {
                    self.date = None;
                    self.safe = DateTime::<Utc>::MAX_UTC;
                }
                None => return None,
            }
        }
    }
}

/// Returns the first instant of the year 1.
fn first() -> DateTime<Utc> {
    NaiveDate::from_ymd_opt(1, 1, 1).unwrap_or_default().and_time(chrono::NaiveTime::MIN).and_utc()
}

/// Returns the last second of the year 9999 in UTC, the end of the search.
fn last() -> DateTime<Utc> {
    NaiveDate::from_ymd_opt(9999, 12, 31).unwrap_or_default().and_time(chrono::NaiveTime::MIN).and_utc()
        + Duration::seconds(86_399)
}

fn offset(pattern: &Pattern, at: NaiveDateTime) -> Duration {
    Duration::seconds(i64::from(pattern.zone.offset_from_utc_datetime(&at).fix().local_minus_utc()))
}

fn local_date(pattern: &Pattern, at: DateTime<Utc>) -> NaiveDate {
    (at.naive_utc() + offset(pattern, at.naive_utc())).date()
}

/// Returns the offset of a day far from any clock change; `None` near one. No zone changed twice
/// within the six hours between two samples.
fn steady_offset(pattern: &Pattern, date: NaiveDate) -> Option<Duration> {
    let begin = date.and_time(chrono::NaiveTime::MIN) - Duration::days(2);
    let found = offset(pattern, begin);
    (1..=20).all(|i| offset(pattern, begin + Duration::hours(6 * i)) == found).then_some(found)
}

/// Returns the first instant after the gap around a wall time, to the second: before 1900 changes
/// were not of whole minutes.
fn gap_end(pattern: &Pattern, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
    let exists = |seconds: i64| pattern.zone.from_local_datetime(&(wall + Duration::seconds(seconds))).earliest();
    let (mut missing, mut found) = (0, CHANGE.num_seconds());
    let mut end = exists(found)?;
    while found - missing > 1 {
        let middle = missing + (found - missing) / 2;
        match exists(middle) {
            Some(at) => (found, end) = (middle, at),
            None => missing = middle,
        }
    }
    Some(end.to_utc())
}

/// True if no time of the day exists.
fn is_missing(pattern: &Pattern, date: NaiveDate) -> bool {
    let midnight = date.and_time(chrono::NaiveTime::MIN);
    if pattern.zone.from_local_datetime(&midnight).earliest().is_some() {
        return false;
    }
    gap_end(pattern, midnight).is_none_or(|end| local_date(pattern, end) != date)
}

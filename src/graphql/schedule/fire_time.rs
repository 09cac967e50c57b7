//! The times at which a cron pattern fires, with notes on clock changes and day fields.

use async_graphql::{Enum, SimpleObject};
use chrono::{DateTime, Offset, Utc};
use entity::schedule::FoldPolicy;

use crate::domain::plan::schedule::{self as noun, EITHER_DAY, Occurrence, Pattern, Turn};

/// A special circumstance of a time at which a pattern fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum FireNote {
    /// The local time does not exist on that day: it fires at the first instant after the gap.
    Shifted,
    /// Earlier local times were skipped because they do not exist.
    LeftOutBefore,
    /// The local time occurs twice on that day; this is the first.
    FirstOfTwo,
    /// The local time occurs twice on that day; this is the second.
    SecondOfTwo,
    /// The pattern restricts both day fields; a match of either is enough.
    EitherDay,
}

/// A time at which a pattern fires.
#[derive(SimpleObject)]
pub struct FireTime {
    /// Time in UTC.
    at: DateTime<Utc>,
    /// The same time as local time in the pattern's zone.
    local_time: String,
    /// Offset of the zone from UTC at that time, in minutes, rounded down (offsets before about
    /// 1900 have seconds).
    offset_minutes: i32,
    /// Effects of a clock change, or of a pattern with two day fields, as a sentence; null if there
    /// are none.
    note: Option<String>,
    /// The same as codes; empty if there are none.
    notes: Vec<FireNote>,
}

impl FireTime {
    /// Describes an occurrence.
    pub(super) fn of(pattern: &Pattern, found: &Occurrence, fold: FoldPolicy) -> Self {
        let local = found.at.with_timezone(&pattern.zone());
        let offset = local.offset().fix();
        let mut notes: Vec<(FireNote, String)> = Vec::new();
        if found.shifted {
            let note = "its local time does not exist that day: the first instant after the gap";
            notes.push((FireNote::Shifted, note.to_owned()));
        }
        if !found.skipped.is_empty() {
            let mut skipped: Vec<String> = found.skipped.iter().map(|wall| noun::wall(*wall)).collect();
            let more = skipped.len().saturating_sub(SKIPPED_TIMES_SHOWN);
            skipped.truncate(SKIPPED_TIMES_SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let note = format!("skipped before it, because no such local time exists: {}{more}", skipped.join(", "));
            notes.push((FireNote::LeftOutBefore, note));
        }
        let twice = "its local time comes twice that day";
        match found.turn {
            Turn::Only => {}
            Turn::First if fold == FoldPolicy::Once && !pattern.floats() => notes.push((
                FireNote::FirstOfTwo,
                format!("{twice}: this is the first of two, at UTC{offset}, and the only one that fires"),
            )),
            Turn::First => {
                notes.push((FireNote::FirstOfTwo, format!("{twice}: this is the first of two, at UTC{offset}")));
            }
            Turn::Second => {
                notes.push((FireNote::SecondOfTwo, format!("{twice}: this is the second of two, at UTC{offset}")));
            }
        }
        if pattern.either_day() {
            notes.push((FireNote::EitherDay, EITHER_DAY.to_owned()));
        }
        let words: Vec<&str> = notes.iter().map(|(_, words)| words.as_str()).collect();
        Self {
            at: found.at,
            local_time: local.format("%Y-%m-%dT%H:%M:%S").to_string(),
            offset_minutes: offset.local_minus_utc().div_euclid(60),
            note: (!words.is_empty()).then(|| words.join("; ")),
            notes: notes.iter().map(|(note, _)| *note).collect(),
        }
    }
}

/// Maximum number of skipped local times listed in a note.
const SKIPPED_TIMES_SHOWN: usize = 10;

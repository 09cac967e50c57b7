//! Parses dates in local formats. The order of day, month and year is given as an option, or
//! inferred from a day above 12. A date that can be only one day is that day in any order.
//! Ambiguous dates are rejected. With dots, the day is first whatever the order of other dates,
//! because nobody writes the month first so; only a four-digit year may precede it.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

use crate::kernel::error::{Refusal, Result};
use crate::kernel::{storable, validate};

/// The order of day, month and year.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    DayMonth,
    MonthDay,
    /// Year first, as in ISO 8601.
    Year,
}

impl Order {
    /// Parses the option. Errors: BAD_USER_INPUT.
    pub(super) fn parse(given: &str) -> Result<Self> {
        match given.trim().to_uppercase().as_str() {
            "DMY" => Ok(Self::DayMonth),
            "MDY" => Ok(Self::MonthDay),
            "YMD" => Ok(Self::Year),
            _ => {
                Err(Refusal::input("dates", format!("`{}`: must be DMY, MDY or YMD", validate::printable(given)))
                    .into())
            }
        }
    }
}

/// Splits a date into its three numbers, their separator, and the time of day that follows.
fn parts(text: &str) -> Option<([&str; 3], char, NaiveTime)> {
    let (day, time) = text.split_once([' ', 'T']).map_or((text, None), |(day, time)| (day, Some(time.trim())));
    let separator = day.chars().find(|c| matches!(c, '.' | '/' | '-'))?;
    let mut each = day.trim_end_matches(',').split(separator);
    let three = [each.next()?, each.next()?, each.next()?];
    let is_number = |part: &&str| (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    if each.next().is_some() || !three.iter().all(is_number) {
        return None;
    }
    let forms = ["%H:%M", "%H:%M:%S", "%H:%M:%S%.f", "%I:%M %p", "%I:%M:%S %p"];
    let time = match time {
        None => NaiveTime::MIN,
        Some(time) => forms.into_iter().find_map(|form| NaiveTime::parse_from_str(time, form).ok())?,
    };
    Some((three, separator, time))
}

/// Parses a date, with or without a time of day, in this order; without an order only with dots. A
/// date that can't be read so is the only day that it can be. The year has four digits.
pub(super) fn time(text: &str, order: Option<Order>) -> Option<DateTime<Utc>> {
    if has_dots(text) {
        let year_first = || in_order(text, Order::Year).filter(|_| order == Some(Order::Year));
        return in_order(text, Order::DayMonth).or_else(year_first);
    }
    order.and_then(|order| in_order(text, order)).or_else(|| {
        match (in_order(text, Order::DayMonth), in_order(text, Order::MonthDay)) {
            (Some(one), Some(other)) => (one == other).then_some(one),
            (one, other) => one.or(other),
        }
    })
}

fn has_dots(text: &str) -> bool {
    parts(text.trim()).is_some_and(|(_, separator, _)| separator == '.')
}

fn in_order(text: &str, order: Order) -> Option<DateTime<Utc>> {
    let ([first, second, third], _, time) = parts(text.trim())?;
    let (year, month, day) = match order {
        Order::DayMonth => (third, second, first),
        Order::MonthDay => (third, first, second),
        Order::Year => (first, second, third),
    };
    if year.len() != 4 {
        return None;
    }
    let day = NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)?;
    storable::time(day.and_time(time).and_utc()).ok()
}

/// The reason why a time can't be parsed.
pub(super) fn why_not(text: &str) -> &'static str {
    let reads = |order: Order| in_order(text, order).is_some();
    match reads(Order::DayMonth) && reads(Order::MonthDay) {
        _ if has_dots(text) => "is not a day like 30.10.2026: with dots, the day is first",
        true => "is ambiguous: set the order of day and month with `dates`: `--dates DMY` or `--dates MDY`",
        false => "is not a time like 2026-10-30T14:39:18Z",
    }
}

/// The unambiguous order of a column's dates: a number above 12 is a day. `None` without one, or if
/// they contradict each other.
pub(super) fn evident<'a>(values: impl Iterator<Item = &'a str>) -> Option<Order> {
    let (mut first, mut second) = (false, false);
    // A date that begins with the year says nothing about the others.
    let ordered = |parts: &([&str; 3], char, NaiveTime)| parts.1 != '.' && parts.0[0].len() <= 2;
    for ([day, month, _], ..) in values.filter_map(parts).filter(ordered) {
        let above = |part: &str| part.len() <= 2 && part.parse::<u32>().is_ok_and(|number| number > 12);
        first |= above(day);
        second |= above(month);
    }
    match (first, second) {
        (true, false) => Some(Order::DayMonth),
        (false, true) => Some(Order::MonthDay),
        _ => None,
    }
}

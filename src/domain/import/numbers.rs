//! Parses numbers with a decimal point or comma and grouped thousands. A number that can be read in
//! two ways is never interpreted by guessing.

use crate::kernel::error::{Refusal, Result};
use crate::kernel::validate;

/// The decimal separator; the other one groups thousands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decimal {
    Point,
    Comma,
}

/// The evidence that a number's separators give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Digits only.
    Plain,
    /// Valid only with this decimal separator.
    Of(Decimal),
    /// `1.200` or `1,200`: thousands or three decimals.
    Either,
}

impl Decimal {
    /// Parses the option. Errors: BAD_USER_INPUT.
    pub(super) fn parse(given: &str) -> Result<Self> {
        match given.trim().to_lowercase().as_str() {
            "," | "comma" => Ok(Self::Comma),
            "." | "point" | "dot" => Ok(Self::Point),
            _ => Err(Refusal::input("decimal", format!("`{}`: must be `,` or `.`", validate::printable(given))).into()),
        }
    }

    pub(super) fn separators(self) -> (char, char) {
        match self {
            Self::Point => ('.', ','),
            Self::Comma => (',', '.'),
        }
    }

    /// Converts a number to a decimal point and no groups; `None` if it does not have this format.
    pub(super) fn plain(self, text: &str) -> Option<String> {
        let (decimal, group) = self.separators();
        let (sign, bare) = split_sign(text);
        let (whole, fraction) = bare.split_once(decimal).map_or((bare, None), |(whole, rest)| (whole, Some(rest)));
        let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let fits = is_digits(whole) || is_grouped(whole, |c| c == group || is_blank_group(c));
        if !fits || fraction.is_some_and(|fraction| !is_digits(fraction)) {
            return None;
        }
        let whole: String = whole.chars().filter(char::is_ascii_digit).collect();
        Some(match fraction {
            Some(fraction) => format!("{sign}{whole}.{fraction}"),
            None => format!("{sign}{whole}"),
        })
    }
}

fn split_sign(text: &str) -> (&str, &str) {
    text.strip_prefix('-').map_or(("", text), |bare| ("-", bare))
}

/// True for separators that only group thousands: blanks of all kinds, and apostrophes.
fn is_blank_group(c: char) -> bool {
    matches!(c, ' ' | '\u{a0}' | '\u{202f}' | '\'' | '’')
}

fn is_grouped(whole: &str, separates: impl Fn(char) -> bool) -> bool {
    let mut kinds = whole.chars().filter(|c| separates(*c));
    let Some(first) = kinds.next() else { return false };
    let mut parts = whole.split(first);
    let head = parts.next().unwrap_or_default();
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    kinds.all(|c| c == first)
        && (1..=3).contains(&head.len())
        && digits(head)
        && !head.starts_with('0')
        && parts.all(|part| part.len() == 3 && digits(part))
}

/// The shape of a number of digits, points and commas; `None` for any other text.
fn shape(text: &str) -> Option<Shape> {
    let bare = split_sign(text).1;
    if !bare.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b',')) {
        return None;
    }
    let reads = |decimal: Decimal| decimal.plain(bare).is_some();
    match (reads(Decimal::Point), reads(Decimal::Comma)) {
        (true, true) if bare.bytes().all(|byte| byte.is_ascii_digit()) => Some(Shape::Plain),
        (true, true) => Some(Shape::Either),
        (true, false) => Some(Shape::Of(Decimal::Point)),
        (false, true) => Some(Shape::Of(Decimal::Comma)),
        (false, false) => None,
    }
}

/// True for a number of digits, points and commas.
pub(super) fn is_number(text: &str) -> bool {
    shape(text).is_some()
}

/// True if the text is 1200 in one format and 1.2 in the other.
pub(super) fn is_ambiguous(text: &str) -> bool {
    shape(text) == Some(Shape::Either)
}

/// Converts a number of digits, points and commas to plain notation; `None` if it is ambiguous.
pub(super) fn bare(text: &str, decimal: Option<Decimal>) -> Option<String> {
    match (shape(text)?, decimal) {
        (Shape::Either, None) => None,
        (_, decimal) => decimal.unwrap_or(Decimal::Point).plain(text),
    }
}

/// The unambiguous format of a column's values; `None` if all are ambiguous, or some are not
/// numbers.
pub(super) fn evident<'a>(values: impl Iterator<Item = &'a str> + Clone) -> Option<Decimal> {
    let first = values.clone().find_map(|value| match shape(value) {
        Some(Shape::Of(decimal)) => Some(decimal),
        _ => None,
    })?;
    values.clone().all(|value| shape(value).is_some() && first.plain(value).is_some()).then_some(first)
}

//! Checks that text, JSON, numbers and times can be stored alike on both databases, before they are
//! stored or compared.
//!
//! SQLite and Postgres hold different values: Postgres takes no NUL, SQLite orders times as text,
//! and both lose digits of integers beyond 64 bits. Only values that both hold alike are accepted,
//! so that results are the same on both. The module knows no GraphQL, CSV or HTTP: the readers of
//! those call it and name the field.

use std::borrow::Cow;

use chrono::{DateTime, Datelike, Duration, NaiveDate, SubsecRound, Timelike, Utc};
use icu_casemap::CaseMapper;
use icu_normalizer::{
    ComposingNormalizer, ComposingNormalizerBorrowed, DecomposingNormalizer, DecomposingNormalizerBorrowed,
};
use icu_properties::CodePointSetData;
use icu_properties::props::{DefaultIgnorableCodePoint, NoncharacterCodePoint};
use serde_json::{Number, Value};

use crate::kernel::error::Refusal;
use crate::kernel::{limits, quote};

/// The reason that a value can't be stored on both databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unstorable {
    /// Text with the character U+0000.
    Nul,
    /// Text of more bytes than a field may have.
    TooLong,
    /// Number that is not exact in 64 bits.
    Number,
    /// Number beyond 2^53 with a fraction or an exponent: its last digits are lost already.
    Inexact,
    /// Number so small that it would become 0.
    Vanished,
    /// Time outside the years 1 to 9999 UTC.
    Time,
    /// Leap second after this time.
    LeapSecond(DateTime<Utc>),
    /// JSON that is nested too deeply.
    TooDeep,
}

impl std::fmt::Display for Unstorable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nul => f.write_str("must not contain the character U+0000 (NUL)"),
            Self::TooLong => write!(f, "at most {} bytes of text", limits::GATE_TEXT_BYTES),
            Self::Number => f.write_str("numbers must lie between -9223372036854775808 and 9223372036854775807"),
            Self::Inexact => f.write_str(
                "beyond 9007199254740991, write integers as plain digits, like 9007199254740993: with a fraction or an \
                 exponent they are not exact",
            ),
            Self::Vanished => f.write_str("is too small: the smallest fraction is 5e-324"),
            Self::Time => f.write_str("times must lie within the years 1 to 9999, in UTC"),
            Self::LeapSecond(before) => {
                let form = |at: DateTime<Utc>| at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
                write!(f, "leap seconds can't be stored: write {}", form(*before))?;
                match before.checked_add_signed(Duration::seconds(1)).filter(|after| time(*after).is_ok()) {
                    Some(after) => write!(f, " or {}", form(after)),
                    None => Ok(()),
                }
            }
            Self::TooDeep => write!(f, "JSON may be nested {} levels deep at most", limits::GATE_JSON_DEPTH),
        }
    }
}

impl Unstorable {
    /// The rejection of a field (BAD_USER_INPUT).
    pub fn of(self, field: &str) -> Refusal {
        Refusal::input(field, self)
    }
}

/// An invalid value inside a JSON value, with its path: `lines[3].name`, empty for the value
/// itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnstorableAt {
    /// The path within the value.
    pub path: String,
    /// The reason.
    pub unfit: Unstorable,
}

impl UnstorableAt {
    /// The rejection of the field that holds the JSON value (BAD_USER_INPUT), naming the path below
    /// it.
    pub fn of(&self, field: &str) -> Refusal {
        let joint = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.unfit.of(&format!("{field}{joint}{}", self.path))
    }
}

/// Accepts a text: no NUL, bounded. The field itself may have a lower bound.
pub fn text(value: &str) -> Result<(), Unstorable> {
    if value.contains('\0') {
        Err(Unstorable::Nul)
    } else if value.len() > limits::GATE_TEXT_BYTES {
        Err(Unstorable::TooLong)
    } else {
        Ok(())
    }
}

/// The first integer that is ambiguous as a double: 2^53, which 2^53 + 1 becomes, too.
const SHARED: f64 = 9_007_199_254_740_992.0;

/// Accepts a number: a signed 64-bit integer, or a fraction. A float from 2^53 on is rejected,
/// because it may have been written with other digits.
pub fn number(value: &Number) -> Result<(), Unstorable> {
    match value.as_f64() {
        _ if value.is_i64() => Ok(()),
        _ if value.is_u64() => Err(Unstorable::Number),
        Some(float) if float.abs() < SHARED => Ok(()),
        Some(float) if float.abs() < i64::MAX as f64 => Err(Unstorable::Inexact),
        _ => Err(Unstorable::Number),
    }
}

/// Parses an integer whose fraction, if any, consists of zeros; exact to 64 bits.
pub fn whole(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_whole = !fraction.is_empty() && fraction.bytes().all(|byte| byte == b'0');
    whole.parse().ok().filter(|_| is_whole)
}

/// Parses a number in JSON's syntax; none if the text is not a number. Errors: it can't be stored,
/// or would become 0.
pub fn written(text: &str) -> Result<Option<Number>, Unstorable> {
    let is_one =
        !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E'));
    if !is_one {
        return Ok(None);
    }
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    match (serde_json::from_str::<Number>(text), text.parse::<f64>()) {
        (Ok(number), _) if number.as_f64() == Some(0.0) && mantissa.contains(|c: char| ('1'..='9').contains(&c)) => {
            Err(Unstorable::Vanished)
        }
        (Ok(number), _) => Ok(Some(whole(text).map_or(number, Number::from))),
        (Err(_), Ok(float)) if float.is_infinite() => Err(Unstorable::Number),
        (Err(_), _) => Ok(None),
    }
}

/// A number as stored: integers as such, however they were written, so that both databases compare
/// them exactly. Others, and invalid ones, are unchanged.
pub fn plain(value: &Number) -> Number {
    match value.as_f64() {
        Some(float) if value.is_f64() && float.trunc() == float && number(value).is_ok() => Number::from(float as i64),
        _ => value.clone(),
    }
}

/// The first valid time.
pub const FIRST: DateTime<Utc> = match DateTime::from_timestamp(-62_135_596_800, 0) {
    Some(first) => first,
    None => DateTime::UNIX_EPOCH,
};

/// Accepts a time and truncates it to microseconds: years 1 to 9999 in UTC, without leap seconds,
/// as both databases hold and order them alike.
pub fn time(value: DateTime<Utc>) -> Result<DateTime<Utc>, Unstorable> {
    if !(1..=9999).contains(&value.year()) {
        return Err(Unstorable::Time);
    }
    match value.nanosecond() < 1_000_000_000 {
        true => Ok(value.trunc_subsecs(6)),
        false => Err(Unstorable::LeapSecond(value.with_nanosecond(0).unwrap_or(value))),
    }
}

/// The last time that both databases hold and order alike.
const LAST: DateTime<Utc> = match NaiveDate::from_ymd_opt(9999, 12, 31) {
    Some(day) => match day.and_hms_micro_opt(23, 59, 59, 999_999) {
        Some(at) => at.and_utc(),
        None => DateTime::<Utc>::UNIX_EPOCH,
    },
    None => DateTime::<Utc>::UNIX_EPOCH,
};

/// The time at a span after another, at most the last valid one. Never panics.
pub fn after(at: DateTime<Utc>, span: Duration) -> DateTime<Utc> {
    at.checked_add_signed(span).map_or(LAST, |at| at.min(LAST))
}

/// An external text for storage as a reason: bounded, without characters that one of the databases
/// can't store.
pub fn reason(text: &str) -> String {
    let fits = |c: char| if c == '\0' { '\u{fffd}' } else { c };
    text.chars().take(limits::TEXT_CHARS).map(fits).collect()
}

/// Accepts a JSON value, keys included.
pub fn json(value: &Value) -> Result<(), UnstorableAt> {
    let mut path = Vec::new();
    walk(value, &mut path).map_err(|unfit| {
        let mut shown = String::new();
        for part in &path {
            match part {
                Part::Index(index) => shown.push_str(&format!("[{index}]")),
                Part::Key(key) => {
                    if !shown.is_empty() {
                        shown.push('.');
                    }
                    shown.push_str(&quote::printable(key));
                }
            }
        }
        UnstorableAt { path: shown, unfit }
    })
}

enum Part<'a> {
    Key(&'a str),
    Index(usize),
}

/// Checks a value recursively; after an error, `path` is that of the invalid value.
fn walk<'a>(value: &'a Value, path: &mut Vec<Part<'a>>) -> Result<(), Unstorable> {
    if path.len() > limits::GATE_JSON_DEPTH {
        return Err(Unstorable::TooDeep);
    }
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(value) => number(value),
        Value::String(value) => text(value),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(Part::Index(index));
                walk(item, path)?;
                path.pop();
            }
            Ok(())
        }
        Value::Object(fields) => {
            for (key, item) in fields {
                path.push(Part::Key(key));
                text(key)?;
                walk(item, path)?;
                path.pop();
            }
            Ok(())
        }
    }
}

/// The text in Unicode normalization form C, in which names, ids and keys are compared.
pub fn nfc(value: &str) -> Cow<'_, str> {
    const NFC: ComposingNormalizerBorrowed<'static> = ComposingNormalizer::new_nfc();
    NFC.normalize(value)
}

/// True for a visible character: neither blank, nor a formatting character like U+200B.
pub fn is_visible(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !is_ignorable(c) && !is_no_character(c)
}

/// True for noncharacters: U+FFFE and similar code points.
pub fn is_no_character(c: char) -> bool {
    CodePointSetData::new::<NoncharacterCodePoint>().contains(c)
}

fn is_ignorable(c: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// An external key for comparison: form C, without invisible characters.
pub fn key(value: &str) -> String {
    match value.is_ascii() {
        true => value.to_owned(),
        false => nfc(&value.chars().filter(|c| !is_ignorable(*c)).collect::<String>()).into_owned(),
    }
}

/// The text in normalization form KC: full-width digits and the like as plain ones.
pub fn compatible(value: &str) -> String {
    const NFKC: ComposingNormalizerBorrowed<'static> = ComposingNormalizer::new_nfkc();
    NFKC.normalize(value).into_owned()
}

/// The text without accents and other marks on its letters.
pub fn unaccented(value: &str) -> String {
    const NFD: DecomposingNormalizerBorrowed<'static> = DecomposingNormalizer::new_nfd();
    let is_mark = |c: char| matches!(u32::from(c), 0x300..=0x36f);
    NFD.normalize(value).chars().filter(|c| !is_mark(*c)).collect()
}

/// The text as searches compare it: NFKC and full case folding, so that `José` matches in both
/// spellings, `STRASSE` matches `Straße`, and `İ` matches `i̇`. Apply it to both sides.
pub fn folded(value: &str) -> String {
    const NFKC: ComposingNormalizerBorrowed<'static> = ComposingNormalizer::new_nfkc();
    let mapper = CaseMapper::new();
    // Folding may produce text that can be composed again.
    let folded = mapper.fold_string(&NFKC.normalize(value)).into_owned();
    NFKC.normalize(&folded).into_owned()
}

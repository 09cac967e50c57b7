//! Types of attributes: told, or read off a sample of the rows. What looks like a number and is none stays text.

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use serde_json::{Value, json};

use crate::error::{Refusal, Result};
use crate::{gate, input};

/// The type of a column of attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Type {
    #[default]
    Text,
    Number,
    Boolean,
    /// A day or a time, kept as ISO 8601 text.
    Date,
}

impl Type {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Date => "date",
        }
    }

    /// The value that a text is where it was said that it is of this type.
    fn value(self, text: &str) -> std::result::Result<Value, &'static str> {
        match self {
            Self::Text => Ok(json!(text)),
            Self::Number => number(text).ok_or("is not a number of at most 64 bits"),
            Self::Boolean => yes_or_no(text).map(Value::Bool).ok_or("is neither true nor false"),
            Self::Date => date(text).map(Value::String).ok_or("is not a day like 2026-10-30, nor a time"),
        }
    }
}

/// The type of a column, and what did not fit it.
#[derive(Clone, Debug, Default)]
pub(super) struct Typed {
    pub(super) kind: Type,
    told: bool,
    /// Values that stayed text.
    misfits: u64,
    /// The line and the value of the first.
    first: Option<(u64, String)>,
}

impl Typed {
    /// Of a type that was told.
    pub(super) fn told(kind: Type) -> Self {
        Self { kind, told: true, ..Self::default() }
    }

    /// Whether the type was told, and does not follow from the rows.
    pub(super) fn is_told(&self) -> bool {
        self.told
    }

    /// The value of a cell. What does not fit is refused where the type was told, and stays text where it was found.
    pub(super) fn read(&mut self, line: u64, text: &str) -> std::result::Result<Value, String> {
        let fits = self.told || looks_like(self.kind, text);
        match self.kind.value(text) {
            Ok(_) if fits && self.kind == Type::Date && !self.told => Ok(json!(text)),
            Ok(value) if fits => Ok(value),
            Err(why) if self.told => Err(why.into()),
            _ => {
                self.misfits += 1;
                self.first.get_or_insert_with(|| (line, input::shown(text)));
                Ok(json!(text))
            }
        }
    }

    /// Says what did not fit.
    pub(super) fn warning(&self, column: &str) -> Option<String> {
        let (line, value) = self.first.as_ref()?;
        Some(format!(
            "`{column}` was taken for {}, by the first rows; {} further values stay text, the first in line {line}: \
             `{value}`; say by `types` what it is",
            self.kind.name(),
            self.misfits
        ))
    }
}

/// Reads `employees=number,active=boolean`. Errors: BAD_USER_INPUT.
pub(super) fn told(given: &[String]) -> Result<Vec<(String, Type)>> {
    let each = given.iter().flat_map(|text| text.split(',')).filter(|text| !text.trim().is_empty());
    let read = |text: &str| {
        let wrong = || {
            let shown = input::shown(text);
            Refusal::input("types", format!("`{shown}`: `column=` and one of number, boolean, date, text"))
        };
        let (name, kind) = text.rsplit_once('=').ok_or_else(wrong)?;
        let kind = match kind.trim().to_lowercase().as_str() {
            "number" | "integer" | "int" => Type::Number,
            "boolean" | "bool" => Type::Boolean,
            "date" | "time" | "datetime" => Type::Date,
            "text" | "string" => Type::Text,
            _ => return Err(wrong().into()),
        };
        Ok((name.trim().to_owned(), kind))
    };
    each.map(read).collect()
}

/// The type that all of some values have, which are not blank; text where there are none.
pub(super) fn found<'a>(column: &str, values: impl Iterator<Item = &'a str> + Clone) -> Type {
    if values.clone().next().is_none() || is_identifier(column) {
        return Type::Text;
    }
    let all = |kind: Type| values.clone().all(|value| looks_like(kind, value));
    [Type::Number, Type::Boolean, Type::Date].into_iter().find(|kind| all(*kind)).unwrap_or_default()
}

/// Columns of digits that name something: they are texts whatever stands in the first rows.
fn is_identifier(column: &str) -> bool {
    let lower = column.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let last = words.last().copied().unwrap_or_default();
    let parts =
        ["zip", "postal", "postcode", "plz", "phone", "fax", "mobile", "iban", "isbn", "ean", "sku", "vat", "account"];
    matches!(last, "id" | "ids" | "no" | "nr" | "tel")
        || column.ends_with("Id")
        || column.ends_with("ID")
        || words.iter().any(|word| parts.iter().any(|part| word.starts_with(part)))
}

/// A value of a type beyond doubt: of numbers those that are written again as they stand.
fn looks_like(kind: Type, text: &str) -> bool {
    match kind {
        Type::Text => true,
        Type::Number => {
            let bare = text.strip_prefix('-').unwrap_or(text);
            let (whole, fraction) = bare.split_once('.').map_or((bare, None), |(whole, rest)| (whole, Some(rest)));
            let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let no_zeros = whole == "0" || !whole.starts_with('0');
            let exact = whole.len() + fraction.map_or(0, str::len) <= 15;
            digits(whole) && fraction.is_none_or(digits) && no_zeros && exact && text != "-0"
        }
        Type::Boolean => text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false"),
        Type::Date => {
            let is_time = text.get(10..11).is_some_and(|c| c == "T");
            text.len() >= 10 && (NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok() || is_time) && date(text).is_some()
        }
    }
}

fn number(text: &str) -> Option<Value> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(json!(whole));
    }
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E'));
    let significant = text.bytes().filter(u8::is_ascii_digit).count();
    let number = serde_json::Number::from_f64(text.parse::<f64>().ok().filter(|_| plain && significant <= 17)?)?;
    gate::number(&number).ok()?;
    Some(Value::Number(number))
}

fn date(text: &str) -> Option<String> {
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        gate::time(day.and_hms_opt(0, 0, 0)?.and_utc()).ok()?;
        return Some(text.to_owned());
    }
    Some(time(text)?.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// A time: RFC 3339, or without an offset in UTC, or a day at its beginning.
pub(super) fn time(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    let plain = |form: &str| NaiveDateTime::parse_from_str(text, form).ok().map(|at| at.and_utc());
    let at = DateTime::parse_from_rfc3339(text)
        .map(|at| at.to_utc())
        .ok()
        .or_else(|| ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M"].into_iter().find_map(plain))
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0).map(|at| at.and_utc()))?;
    gate::time(at).ok()
}

/// Yes or no, as spreadsheets of several tongues write them; none for anything else.
pub(super) fn yes_or_no(text: &str) -> Option<bool> {
    match text.trim().to_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" | "x" | "on" | "ja" | "j" | "oui" | "si" | "sí" | "wahr" | "vrai" => {
            Some(true)
        }
        "false" | "f" | "no" | "n" | "0" | "off" | "nein" | "non" | "falsch" | "faux" | "-" => Some(false),
        _ => None,
    }
}

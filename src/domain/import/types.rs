//! Types of attribute columns: declared by an option, or inferred from a sample of the rows.
//! Identifiers that look like numbers stay text.

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use serde_json::{Value, json};

use super::dates::{self, Order};
use super::numbers::{self, Decimal};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::{storable, validate};

/// The type of an attribute column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Type {
    #[default]
    Text,
    Number,
    Boolean,
    /// A date or time, stored as ISO 8601 text.
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
}

/// A column's type and formats, and the values that did not fit.
#[derive(Clone, Debug, Default)]
pub(super) struct Typed {
    pub(super) kind: Type,
    /// Decimal separator of its numbers; `None` if unknown.
    pub(super) decimal: Option<Decimal>,
    /// Order of day and month in its dates; `None` if unknown.
    pub(super) order: Option<Order>,
    declared: bool,
    /// Number of values that stayed text.
    misfits: u64,
    /// Line and value of the first misfit.
    first: Option<(u64, String)>,
}

impl Typed {
    /// Creates a column type that is declared by an option.
    pub(super) fn declared(kind: Type) -> Self {
        Self { kind, declared: true, ..Self::default() }
    }

    /// True if the type is declared, not inferred from the rows.
    pub(super) fn is_declared(&self) -> bool {
        self.declared
    }

    /// Parses a text as this type.
    fn value(&self, text: &str) -> std::result::Result<Value, String> {
        match self.kind {
            Type::Text => Ok(json!(text)),
            Type::Number => number(text, self.decimal),
            Type::Boolean => yes_or_no(text).map(Value::Bool).ok_or_else(|| "is neither true nor false".into()),
            Type::Date => date(text, self.order).map(Value::String).ok_or_else(|| dates::why_not(text).into()),
        }
    }

    /// Parses a cell. A misfit is an error if the type is declared, and stays text if it is
    /// inferred.
    pub(super) fn read(&mut self, line: u64, text: &str) -> std::result::Result<Value, String> {
        let fits = self.declared || looks_like(self.kind, text, self.decimal);
        match self.value(text) {
            Ok(_) if fits && self.kind == Type::Date && !self.declared => Ok(json!(text)),
            Ok(value) if fits => Ok(value),
            Err(why) if self.declared => Err(why),
            _ => {
                self.misfits += 1;
                self.first.get_or_insert_with(|| (line, validate::printable(text)));
                Ok(json!(text))
            }
        }
    }

    /// A warning about the values that did not fit, if any.
    pub(super) fn warning(&self, column: &str) -> Option<String> {
        let (line, value) = self.first.as_ref()?;
        Some(format!(
            "the type of `{column}` was inferred as {} from the first rows; {} further values stay text, the first in \
             line {line}: `{value}`; declare it with `types`",
            self.kind.name(),
            self.misfits
        ))
    }
}

/// Parses `employees=number,active=boolean`. Errors: BAD_USER_INPUT.
pub(super) fn parse(given: &[String]) -> Result<Vec<(String, Type)>> {
    let each = given.iter().flat_map(|text| text.split(',')).filter(|text| !text.trim().is_empty());
    let read = |text: &str| {
        let wrong = || {
            let shown = validate::printable(text);
            Refusal::input("types", format!("`{shown}`: must be `column=` and one of number, boolean, date, text"))
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

/// Infers the common type of non-blank values; text if there are none.
pub(super) fn infer<'a>(column: &str, values: impl Iterator<Item = &'a str> + Clone, decimal: Option<Decimal>) -> Type {
    if values.clone().next().is_none() || is_identifier(column) {
        return Type::Text;
    }
    let all = |kind: Type| values.clone().all(|value| looks_like(kind, value, decimal));
    [Type::Number, Type::Boolean, Type::Date].into_iter().find(|kind| all(*kind)).unwrap_or_default()
}

/// True for columns whose digits are identifiers: they are text, whatever the first rows contain.
pub(super) fn is_identifier(column: &str) -> bool {
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

/// True if the text is certainly of this type; a number must also survive a round trip unchanged.
fn looks_like(kind: Type, text: &str, decimal: Option<Decimal>) -> bool {
    match kind {
        Type::Text => true,
        Type::Number => {
            let Some(plain) = numbers::bare(text, decimal) else { return false };
            let bare = plain.strip_prefix('-').unwrap_or(&plain);
            let (whole, fraction) = bare.split_once('.').map_or((bare, None), |(whole, rest)| (whole, Some(rest)));
            let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let no_zeros = whole == "0" || !whole.starts_with('0');
            let exact = whole.len() + fraction.map_or(0, str::len) <= 15;
            digits(whole) && fraction.is_none_or(digits) && no_zeros && exact && plain != "-0"
        }
        Type::Boolean => text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false"),
        Type::Date => {
            let is_time = text.get(10..11).is_some_and(|c| c == "T");
            text.len() >= 10
                && (NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok() || is_time)
                && date(text, None).is_some()
        }
    }
}

fn number(text: &str, decimal: Option<Decimal>) -> std::result::Result<Value, String> {
    if decimal.is_none() && numbers::is_ambiguous(text) {
        let message = "is ambiguous, as thousands or as decimals: set the decimal separator with `decimal`: \
                       `--decimal ,` or `--decimal .`";
        return Err(message.into());
    }
    let separated = text.contains(['.', ',']);
    let plain = match decimal.unwrap_or(Decimal::Point).plain(text) {
        Some(plain) => plain,
        None if separated && decimal == Some(Decimal::Comma) => {
            return Err("is not a number with a decimal comma, like 1.234,5: set `decimal` for another format".into());
        }
        None => text.to_owned(),
    };
    if let Some(whole) = storable::whole(&plain) {
        return Ok(json!(whole));
    }
    let why = || match separated {
        true => {
            "is not a number of at most 64 bits with a decimal point, like 1234.5: set `decimal` for another format"
                .into()
        }
        false => "is not a number of at most 64 bits".to_owned(),
    };
    let digits = plain.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E'));
    let float = plain.parse::<f64>().ok().filter(|_| digits).ok_or_else(why)?;
    let out_of_range = || storable::Unstorable::Number.to_string();
    let number = serde_json::Number::from_f64(float).ok_or_else(out_of_range)?;
    storable::number(&number).map_err(|unfit| unfit.to_string())?;
    if plain.bytes().filter(u8::is_ascii_digit).count() > 17 {
        return Err("has more than 17 digits: not all of them could be kept".into());
    }
    Ok(Value::Number(number))
}

fn date(text: &str, order: Option<Order>) -> Option<String> {
    let day = |at: DateTime<Utc>| at.format("%Y-%m-%d").to_string();
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        storable::time(day.and_hms_opt(0, 0, 0)?.and_utc()).ok()?;
        return Some(text.to_owned());
    }
    let at = time(text, order)?;
    Some(if text.contains(':') { at.format("%Y-%m-%dT%H:%M:%SZ").to_string() } else { day(at) })
}

/// Forms of a time without a zone, which counts as UTC; spreadsheets leave the seconds out.
const FORMS: [&str; 4] = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];

/// Parses a time: RFC 3339, or UTC if it has no offset, or a date as its midnight, in the column's
/// date order.
pub(super) fn time(text: &str, order: Option<Order>) -> Option<DateTime<Utc>> {
    let text = text.trim();
    let plain = |form: &str| NaiveDateTime::parse_from_str(text, form).ok().map(|at| at.and_utc());
    let at = DateTime::parse_from_rfc3339(text)
        .map(|at| at.to_utc())
        .ok()
        .or_else(|| FORMS.into_iter().find_map(plain))
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0).map(|at| at.and_utc()))
        .or_else(|| dates::time(text, order))?;
    storable::time(at).ok()
}

/// Parses a boolean as spreadsheets in several languages write it; `None` for anything else.
pub(super) fn yes_or_no(text: &str) -> Option<bool> {
    match text.trim().to_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" | "x" | "on" | "ja" | "j" | "oui" | "si" | "sí" | "sì" | "wahr" | "vrai"
        | "vero" | "verdadero" => Some(true),
        "false" | "f" | "no" | "n" | "0" | "off" | "nein" | "non" | "falsch" | "faux" | "falso" | "-" => Some(false),
        _ => None,
    }
}

//! The one filter language over records -> SQL: for segments, lists and the data of guided steps.

mod attribute;
mod condition;
mod nothing;
mod written;

use async_graphql::{ID, InputObject, InputValueError, InputValueResult, Json, Scalar, ScalarType};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use condition::before_all;
pub use condition::{condition, of_stored, stored};
pub(crate) use nothing::{NO_CONDITION, NO_VALUE, NOT_ALONE};
pub use written::FilterError;

use crate::kernel::storable;

/// An exact number: an integer of 64 bits, or a fraction within that range. Given as a number; or as a text, for clients
/// whose own numbers are not exact beyond 2^53: `"9007199254740993"`. LIMIT: larger ones are refused with BAD_USER_INPUT.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Number(pub serde_json::Number);

impl Number {
    /// The number of a value: a number, or a text that is one. Errors: a sentence.
    pub fn of(value: &Value) -> std::result::Result<Self, String> {
        let number = match value {
            Value::Number(number) => Some(number.clone()),
            Value::String(text) => storable::written(text.trim()).map_err(|unfit| unfit.to_string())?,
            _ => None,
        };
        let number = number.ok_or("a number is expected, like 12, -0.5 or \"9007199254740993\"")?;
        storable::number(&number).map_err(|unfit| unfit.to_string())?;
        Ok(Self(number))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Self::of(&Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A number, as JSON writes it: whole ones exact to 64 bits.
#[Scalar(specified_by_url = "docs/scalars.md#number")]
impl ScalarType for Number {
    fn parse(value: async_graphql::Value) -> InputValueResult<Self> {
        Self::of(&value.into_json()?).map_err(InputValueError::custom)
    }

    fn to_value(&self) -> async_graphql::Value {
        async_graphql::Value::Number(self.0.clone())
    }
}

/// Which records: all of what is given must hold. Without any condition, all records: only in lists and previews. Where it
/// acts or is kept, such a filter is refused with BAD_USER_INPUT, unless it says `all: true`. A filter may have 100 conditions and 8
/// levels of `and`, `or` and `not`; its lists may have 10,000 values each. Beyond, it is refused with LIMIT_EXCEEDED.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, InputObject)]
#[graphql(name = "RecordFilterInput")]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RecordFilter {
    /// True: all of them; no other condition may stand beside it. Null: as false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
    /// One of these records, at most 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<ID>>,
    /// The kind: `lead`, `contact`, `order` …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<TextFilter>,
    /// The id where it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<TextFilter>,
    /// The name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<TextFilter>,
    /// The mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<TextFilter>,
    /// The telephone number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<TextFilter>,
    /// The IANA time zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<TextFilter>,
    /// The stage in its pipeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<TextFilter>,
    /// When it was last written to or called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_contacted_at: Option<TimeFilter>,
    /// When it was made here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<TimeFilter>,
    /// When it last replied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_replied_at: Option<TimeFilter>,
    /// How urgent it is: its attribute `priority`, 0 where that is no number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<PriorityFilter>,
    /// Whether it asked to be left alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsubscribed: Option<bool>,
    /// Conditions on attributes; all must hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Vec<AttributeFilter>>,
    /// A part of name, address or external id, at most 1,000 characters: in any case, in any of Unicode's spellings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
    /// All of these must hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub and: Option<Vec<RecordFilter>>,
    /// One of these must hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub or: Option<Vec<RecordFilter>>,
    /// This must not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not: Option<Box<RecordFilter>>,
}

/// Conditions on a text; all that are given must hold, and at least one must be given. An absent text meets only `isNull: true`, `ne` and `notIn`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, InputObject)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TextFilter {
    /// Just this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eq: Option<String>,
    /// Anything but this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ne: Option<String>,
    /// One of these, at most 10,000.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    #[graphql(name = "in")]
    pub one_of: Option<Vec<String>>,
    /// None of these, at most 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_in: Option<Vec<String>>,
    /// Contains this; ASCII letters in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// Whether it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_null: Option<bool>,
}

/// Conditions on a point in time; all that are given must hold, and at least one must be given. `never` meets only `isNull: true`
/// and `orNever: true`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, InputObject)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TimeFilter {
    /// Earlier than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<DateTime<Utc>>,
    /// This or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// With `before` and `olderThan`: what never was counts as longer ago than all; false unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub or_never: Option<bool>,
    /// Longer ago than this: `14d`, `36h`, `2w`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than: Option<String>,
    /// Less long ago than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newer_than: Option<String>,
    /// Whether it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_null: Option<bool>,
}

/// Conditions on how urgent a record is; all that are given must hold, and at least one must be given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, InputObject)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PriorityFilter {
    /// At least this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gte: Option<i32>,
    /// At most this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lte: Option<i32>,
}

/// Conditions on one attribute; all that are given must hold, and at least one must be given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, InputObject)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AttributeFilter {
    /// Its name, as it is in the record's attributes: any text.
    pub name: String,
    /// Just this text, number or truth value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eq: Option<Json<Value>>,
    /// One of these, at most 10,000.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    #[graphql(name = "in")]
    pub one_of: Option<Vec<Json<Value>>>,
    /// A number greater than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gt: Option<Number>,
    /// A number of at least this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gte: Option<Number>,
    /// A number less than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lt: Option<Number>,
    /// A number of at most this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lte: Option<Number>,
    /// A text that contains this; ASCII letters in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// A text that is an ISO 8601 date or date-time longer ago than this: `14d`. Without an offset it is UTC, a date is its
    /// midnight. What is no date or date-time, or lies outside the years 1 to 9999, does not match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than: Option<String>,
    /// Whether it is absent or null.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_null: Option<bool>,
}

//! The record filter's input types, shared by segments, lists and the data of guided steps. Their
//! translation to SQL is in `filter/condition.rs`.

mod attribute;
mod condition;
mod links;
mod nothing;
mod segments;
mod written;

use async_graphql::{ID, InputObject, InputValueError, InputValueResult, Json, Scalar, ScalarType};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use condition::{condition, in_segment, of_stored, stored};
pub use links::LinkFilter;
pub(crate) use nothing::{NO_CONDITION, NOT_ALONE};
pub use segments::ResolvedFilter;
pub use written::FilterError;

use crate::kernel::storable;

/// An exact number: a 64-bit integer, or a fraction within that range. Given as a number, or as a
/// string by clients whose own numbers are not exact beyond 2^53: `"9007199254740993"`. LIMIT:
/// larger ones are rejected with BAD_USER_INPUT.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Number(pub serde_json::Number);

impl Number {
    /// Reads a JSON number, or a string that contains one. Errors: the message for the client.
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

/// A JSON number; integers are exact to 64 bits. Also accepted as a string.
#[Scalar(specified_by_url = "docs/scalars.md#number")]
impl ScalarType for Number {
    fn parse(value: async_graphql::Value) -> InputValueResult<Self> {
        Self::of(&value.into_json()?).map_err(InputValueError::custom)
    }

    fn to_value(&self) -> async_graphql::Value {
        async_graphql::Value::Number(self.0.clone())
    }
}

/// A filter over records; all given conditions must hold. In lists and previews, a filter without
/// any condition matches all records. Mutations and saved filters reject it with BAD_USER_INPUT,
/// unless it has `all: true`. A filter may have 100 conditions and 8 levels of `and`, `or` and
/// `not`, and its lists 10,000 values each; a larger one is rejected with LIMIT_EXCEEDED.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, InputObject)]
#[graphql(name = "RecordFilterInput")]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RecordFilter {
    /// True to match all records; no other condition may be given with it. Null is the same as
    /// false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
    /// The record is one of these; at most 10,000 ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<ID>>,
    /// The record is now in one of these segments; at most 20 ids in the whole filter, beyond that
    /// LIMIT_EXCEEDED. Segments that do not exist have no records. In lists and previews only: a
    /// filter that is saved or selects records for a change is rejected with BAD_USER_INPUT if it
    /// names segments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment_ids: Option<Vec<ID>>,
    /// Kind: `lead`, `contact`, `order` …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<TextFilter>,
    /// Id in the system that the record came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<TextFilter>,
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<TextFilter>,
    /// Mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<TextFilter>,
    /// Telephone number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<TextFilter>,
    /// IANA time zone, for example `Europe/Berlin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<TextFilter>,
    /// Stage in the pipeline of its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<TextFilter>,
    /// Time of the last message or call to the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_contacted_at: Option<TimeFilter>,
    /// Time the record was created here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<TimeFilter>,
    /// Time of the record's last reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_replied_at: Option<TimeFilter>,
    /// Priority: the attribute `priority` if that is a number or a numeric string, else 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<PriorityFilter>,
    /// Conditions on links that lead to the record from others: the partnerships of some leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linked_from: Option<LinkFilter>,
    /// Conditions on links that go from the record to others: the leads of some partnerships.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linked_to: Option<LinkFilter>,
    /// True for records that have opted out of all messages, false for the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsubscribed: Option<bool>,
    /// Conditions on attributes; all must hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Vec<AttributeFilter>>,
    /// Substring of the name, mail address or external id, at most 1,000 characters. Case and
    /// Unicode normalisation are ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
    /// All of these must hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub and: Option<Vec<RecordFilter>>,
    /// At least one of these must hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub or: Option<Vec<RecordFilter>>,
    /// The nested filter must not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not: Option<Box<RecordFilter>>,
}

/// Conditions on a string; all given ones must hold, and at least one is required. An absent string
/// matches only `isNull: true`, `ne` and `notIn`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, InputObject)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TextFilter {
    /// Equal to this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eq: Option<String>,
    /// Not equal to this, or absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ne: Option<String>,
    /// Equal to one of these, at most 10,000.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    #[graphql(name = "in")]
    pub one_of: Option<Vec<String>>,
    /// Equal to none of these, at most 10,000, or absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_in: Option<Vec<String>>,
    /// Contains this; the case of ASCII letters is ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// True if it must be absent, false if it must be present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_null: Option<bool>,
}

/// Conditions on a time; all given ones must hold, and at least one is required. A time that is not
/// set matches only `isNull: true` and `orNever: true`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, InputObject)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TimeFilter {
    /// Earlier than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<DateTime<Utc>>,
    /// At this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// True if `before` and `olderThan` also match a time that is not set. Defaults to false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub or_never: Option<bool>,
    /// Longer ago than this duration: `14d`, `36h`, `2w`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than: Option<String>,
    /// At most this duration ago, or in the future: `14d`, `36h`, `2w`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newer_than: Option<String>,
    /// True if it must not be set, false if it must be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_null: Option<bool>,
}

/// Conditions on a record's priority; all given ones must hold, and at least one is required.
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

/// Conditions on one attribute; all given ones must hold, and at least one is required.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, InputObject)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AttributeFilter {
    /// Name of the attribute, exactly as in the record's attributes; any string.
    pub name: String,
    /// Equal to this string, number or boolean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eq: Option<Json<Value>>,
    /// Equal to one of these, at most 10,000.
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
    /// A string that contains this; the case of ASCII letters is ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// A string that is an ISO 8601 date or date-time longer ago than this duration: `14d`. A value
    /// without an offset is UTC, a date is its midnight. Other strings, and times outside the years
    /// 1 to 9999, do not match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than: Option<String>,
    /// True if it must be absent or null, false if it must have a value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_null: Option<bool>,
}

//! The one filter language over records -> SQL: for segments, lists and the data of guided steps.

mod condition;

use async_graphql::{ID, InputObject, Json};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use condition::before_all;
pub use condition::condition;

/// Which records: all of what is given must hold. Without any condition, all records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, InputObject)]
#[graphql(name = "RecordFilterInput")]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RecordFilter {
    /// One of these records.
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
    /// A part of name, address or external id, in any case.
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

/// Conditions on a text; all that are given must hold. An absent text meets only `isNull: true`, `ne` and `notIn`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, InputObject)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TextFilter {
    /// Just this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eq: Option<String>,
    /// Anything but this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ne: Option<String>,
    /// One of these.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    #[graphql(name = "in")]
    pub one_of: Option<Vec<String>>,
    /// None of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_in: Option<Vec<String>>,
    /// Contains this; ASCII letters in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// Whether it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_null: Option<bool>,
}

/// Conditions on a point in time; all that are given must hold. `never` meets only `isNull: true`
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

/// Conditions on how urgent a record is; all that are given must hold.
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

/// Conditions on one attribute; all that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, InputObject)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AttributeFilter {
    /// Its name: letters, digits, `_`, `-`, `.`.
    pub name: String,
    /// Just this text, number or truth value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eq: Option<Json<Value>>,
    /// One of these.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    #[graphql(name = "in")]
    pub one_of: Option<Vec<Json<Value>>>,
    /// A number greater than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gt: Option<f64>,
    /// A number of at least this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gte: Option<f64>,
    /// A number less than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lt: Option<f64>,
    /// A number of at most this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lte: Option<f64>,
    /// A text that contains this; ASCII letters in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// A text that is an ISO 8601 date or UTC time longer ago than this: `14d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than: Option<String>,
    /// Whether it is absent or null.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_null: Option<bool>,
}

//! Rules of a definition that are written as text: triggers, failure rules and durations.

use std::time::Duration;

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};
use serde::{Deserialize, Serialize};

/// The trigger that starts a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Trigger {
    /// Starts with its task.
    #[default]
    Immediate,
    /// Starts when a person starts it.
    Manual,
    /// Starts on an event: about its record in a fan-out, else about the run or one of its records.
    Event(String),
    /// Starts when the step with this key is completed: in a fan-out, the step of the same record;
    /// a single step waits for all of them.
    After(String),
    /// Starts this long after the end of the step before it in its task, or after the task's start.
    Delay(Span),
}

impl std::fmt::Display for Trigger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Immediate => f.write_str("immediate"),
            Self::Manual => f.write_str("manual"),
            Self::Event(name) => write!(f, "event:{name}"),
            Self::After(key) => write!(f, "after:{key}"),
            Self::Delay(span) => write!(f, "delay:{span}"),
        }
    }
}

impl std::str::FromStr for Trigger {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let non_empty = |name: &str| (!name.trim().is_empty()).then(|| name.trim().to_owned());
        let error = || {
            let shown: String = text.chars().take(64).collect();
            format!("`{shown}` is not a trigger: use immediate, manual, after:KEY, delay:DURATION or event:NAME")
        };
        match text.split_once(':') {
            None if text == "immediate" => Ok(Self::Immediate),
            None if text == "manual" => Ok(Self::Manual),
            Some(("event", name)) => non_empty(name).map(Self::Event).ok_or_else(error),
            Some(("after", key)) => non_empty(key).map(Self::After).ok_or_else(error),
            Some(("delay", span)) => span.parse().map(Self::Delay),
            _ => Err(error()),
        }
    }
}

/// The rule that says which failed steps fail their task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredFailWhen", into = "String")]
pub enum FailWhen {
    /// One failed step.
    Any,
    /// No step completed, and at least one failed.
    All,
    /// More than this percentage of failed steps.
    Percent(u8),
}

impl std::fmt::Display for FailWhen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("ANY"),
            Self::All => f.write_str("ALL"),
            Self::Percent(percent) => write!(f, "PERCENT({percent})"),
        }
    }
}

impl std::str::FromStr for FailWhen {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let percent = |text: &str| text.strip_prefix("PERCENT(")?.strip_suffix(')')?.trim().parse::<u8>().ok();
        match text {
            "ANY" => Ok(Self::Any),
            "ALL" => Ok(Self::All),
            _ => match percent(text) {
                Some(most) if most <= 100 => Ok(Self::Percent(most)),
                _ => Err(format!(
                    "`{}` is not a failure rule: use ANY, ALL or PERCENT(n), with n from 0 to 100",
                    text.chars().take(64).collect::<String>()
                )),
            },
        }
    }
}

/// The stored forms of a failure rule: text, or the object of earlier versions.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredFailWhen {
    Text(String),
    Percent {
        #[serde(rename = "PERCENT")]
        most: u8,
    },
}

impl TryFrom<StoredFailWhen> for FailWhen {
    type Error = String;
    fn try_from(stored: StoredFailWhen) -> Result<Self, String> {
        match stored {
            StoredFailWhen::Text(text) => text.parse(),
            StoredFailWhen::Percent { most } => Ok(Self::Percent(most)),
        }
    }
}

/// A duration, written `90s`, `2h 30m`, `14 days`; more than zero and at most ten years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

impl Span {
    /// Converts to a chrono duration.
    pub fn chrono(self) -> chrono::Duration {
        // Always fits within the bounds checked below.
        chrono::Duration::from_std(self.0).unwrap_or(chrono::Duration::MAX)
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

impl std::str::FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(64).collect();
        let span = humantime::parse_duration(text.trim())
            .map_err(|_| format!("`{shown}` is not a duration: write `90s`, `2h 30m`, `14 days`"))?;
        let ten_years = Duration::from_secs(10 * 366 * 24 * 3600);
        if span.is_zero() || span > ten_years {
            return Err(format!("`{shown}`: a duration must be more than zero and at most ten years"));
        }
        Ok(Self(span))
    }
}

// A macro because neither `String` nor `TryFrom` is ours, so that there can be no blanket
// implementation.
macro_rules! string_conversions {
    ($($name:ident),*) => {$(
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }
    )*};
}

string_conversions!(Trigger, Span);

impl From<FailWhen> for String {
    fn from(value: FailWhen) -> Self {
        value.to_string()
    }
}

fn parse_scalar<T>(value: Value) -> InputValueResult<T>
where
    T: std::str::FromStr<Err = String> + ScalarType + async_graphql::InputType,
{
    match value {
        Value::String(text) => text.parse().map_err(InputValueError::custom),
        other => Err(InputValueError::expected_type(other)),
    }
}

/// The trigger that starts a step: `immediate`, `manual`, `after:KEY`, `delay:DURATION` or
/// `event:NAME`.
#[Scalar(name = "Trigger", specified_by_url = "docs/scalars.md#trigger")]
impl ScalarType for Trigger {
    fn parse(value: Value) -> InputValueResult<Self> {
        parse_scalar(value)
    }

    fn to_value(&self) -> Value {
        Value::String(self.to_string())
    }
}

/// The rule that says which failed steps fail their task: `ANY` (one), `ALL` (no step completed) or
/// `PERCENT(n)` (more than n percent).
#[Scalar(name = "FailWhen", specified_by_url = "docs/scalars.md#failwhen")]
impl ScalarType for FailWhen {
    fn parse(value: Value) -> InputValueResult<Self> {
        parse_scalar(value)
    }

    fn to_value(&self) -> Value {
        Value::String(self.to_string())
    }
}

/// A duration: `90s`, `2h 30m`, `14 days`; more than zero and at most ten years.
#[Scalar(name = "Duration", specified_by_url = "docs/scalars.md#duration")]
impl ScalarType for Span {
    fn parse(value: Value) -> InputValueResult<Self> {
        parse_scalar(value)
    }

    fn to_value(&self) -> Value {
        Value::String(self.to_string())
    }
}

//! Parses filters from YAML or JSON outside of GraphQL, and names invalid values by their path in
//! the API's terms. Validated against the GraphQL input types, so that the two can't diverge.

use std::collections::HashMap;
use std::sync::LazyLock;

use async_graphql::InputType;
use async_graphql::registry::{MetaType, Registry};
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{Number, RecordFilter};
use crate::kernel::{limits, storable, validate};

/// An invalid value in a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// Path within the filter: `attributes[0].gte`; empty for the filter itself.
    pub path: String,
    /// Message for the client.
    pub message: String,
}

impl std::fmt::Display for FilterError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.path.is_empty() {
            true => f.write_str(&self.message),
            false => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

impl RecordFilter {
    /// Parses and validates a filter.
    pub fn parse(value: Value) -> Result<Self, FilterError> {
        check(&RecordFilter::type_name(), &value, String::new())?;
        serde_json::from_value(value).map_err(|err| FilterError { path: String::new(), message: err.to_string() })
    }
}

/// The fields of each input type, with the names of their types.
static TYPES: LazyLock<HashMap<String, Vec<(String, String)>>> = LazyLock::new(|| {
    let mut registry = Registry::default();
    RecordFilter::create_type_info(&mut registry);
    let inputs = registry.types.into_iter().filter_map(|(name, of)| match of {
        MetaType::InputObject { input_fields, .. } => {
            Some((name, input_fields.into_iter().map(|(name, field)| (name, field.ty)).collect()))
        }
        _ => None,
    });
    inputs.collect()
});

fn check(of: &str, value: &Value, path: String) -> Result<(), FilterError> {
    let wrong = |message: String| Err(FilterError { path: path.clone(), message });
    // Deserialisation recurses on the stack, so the depth is bounded first.
    if path.matches('.').count() > limits::INPUT_LEVELS {
        return wrong("filters may be nested 8 levels deep at most".to_owned());
    }
    let instead = |expected: &str| {
        let shown = match value {
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
            other => format!("`{}`", validate::printable(&other.to_string())),
        };
        wrong(format!("{expected} is expected, not {shown}"))
    };
    let (of, required) = of.strip_suffix('!').map_or((of, false), |of| (of, true));
    if value.is_null() {
        return if required { wrong("must not be null".into()) } else { Ok(()) };
    }
    if let Some(item) = of.strip_prefix('[').and_then(|of| of.strip_suffix(']')) {
        let Value::Array(items) = value else { return instead("a list") };
        return items.iter().enumerate().try_for_each(|(i, one)| check(item, one, format!("{path}[{i}]")));
    }
    match (of, value) {
        ("String" | "ID", Value::String(_)) | ("Boolean", Value::Bool(_)) | ("JSON", _) => Ok(()),
        ("String" | "ID", _) => instead("a text"),
        ("Boolean", _) => instead("true or false"),
        ("Int", _) if value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()) => Ok(()),
        ("Int", _) => instead("a whole number"),
        ("Number", _) => Number::of(value).map(drop).or_else(wrong),
        ("DateTime", _) => match value.as_str().and_then(|text| text.parse::<DateTime<Utc>>().ok()) {
            Some(time) => storable::time(time).map(drop).or_else(|unfit| wrong(unfit.to_string())),
            None => instead("a time like 2026-01-01T00:00:00Z"),
        },
        _ => {
            let Some(fields) = TYPES.get(of) else { return Ok(()) };
            let names = || fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
            let Value::Object(given) = value else { return instead(&format!("an object with some of {}", names())) };
            let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            for (name, value) in given {
                match fields.iter().find(|(known, _)| known == name) {
                    Some((_, of)) => check(of, value, below(name))?,
                    None => {
                        let message = format!("there is no such field; there is {}", names());
                        return Err(FilterError { path: below(&validate::printable(name)), message });
                    }
                }
            }
            let missing = fields.iter().find(|(name, of)| of.ends_with('!') && !given.contains_key(name));
            missing.map_or(Ok(()), |(name, _)| Err(FilterError { path: below(name), message: "is required".into() }))
        }
    }
}

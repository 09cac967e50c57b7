//! Settings of a step that can't be read: the field that causes it, and the reason in plain words.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Reason why settings can't be read.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// Path of the field within the settings; empty if it is not a single field that is wrong.
    pub(super) field: String,
    /// Message for the author.
    pub(super) why: String,
}

impl Unreadable {
    /// The reason for an error of reading `settings` as `T`.
    pub(super) fn of<T: DeserializeOwned>(settings: &Value, err: &serde_json::Error) -> Self {
        // The reader tells no path: each field is tried alone. The message names an unknown one.
        let wrong = |alone: Value| serde_json::from_value::<T>(alone).err().filter(|err| !is_unknown(err));
        let found = settings.as_object().into_iter().flatten().find_map(|(name, value)| {
            let err = wrong(json!({ name: value }))?;
            let within = value.as_object().into_iter().flatten().find_map(|(inner, value)| {
                let err = wrong(json!({ name: { inner: value } }))?;
                Some(Self { field: format!("{name}.{inner}"), why: plain(&err) })
            });
            Some(within.unwrap_or_else(|| Self { field: name.clone(), why: plain(&err) }))
        });
        found.unwrap_or_else(|| Self { field: String::new(), why: plain(err) })
    }

    /// The path of the field below that of the settings.
    pub(super) fn below(&self, settings: &str) -> String {
        if self.field.is_empty() { settings.to_owned() } else { format!("{settings}.{}", self.field) }
    }
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.below("config"), self.why)
    }
}

impl std::error::Error for Unreadable {}

/// True for an error that names the field itself.
fn is_unknown(err: &serde_json::Error) -> bool {
    err.to_string().starts_with("unknown field")
}

/// The message without names of our types.
fn plain(err: &serde_json::Error) -> String {
    let text = err.to_string();
    let given = text.strip_prefix("invalid type: ").or_else(|| text.strip_prefix("invalid value: "));
    let Some((given, expected)) = given.and_then(|given| given.rsplit_once(", expected ")) else { return text };
    let expected = match expected {
        "u64" => "a whole number that is not negative",
        "i64" => "a whole number",
        "a sequence" => "a list",
        "string or map" => "a string",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    let given = match given.split_once(' ') {
        _ if given == "null" => "null",
        Some(("string" | "integer" | "boolean", value)) => value,
        Some(("floating", value)) => value.trim_start_matches("point "),
        _ if given == "sequence" => "a list",
        _ if given == "map" => "an object",
        _ => given,
    };
    format!("must be {expected}, not {given}")
}

//! The values of a rendering, by the names that a template may use: the original name, a normalized
//! spelling (`first_name` for `First Name`), and for values of the record and of the variables also
//! the name without a prefix.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Enumerator, Object, Serde};
use serde_json::{Map, Value as Json};

use super::deadline;
use crate::kernel::{storable, validate};

/// The objects with fields that can also be found by their normalized spelling.
const NORMALIZED: [&str; 3] = ["record", "attributes", "variables"];
/// Maximum number of names in an error.
const NAMES_SHOWN: usize = 8;
/// Minimum similarity (0 to 1) of names to suggest.
const MIN_SIMILARITY: f64 = 0.8;

/// Values by name.
#[derive(Debug)]
pub(super) struct Fields {
    values: BTreeMap<String, Value>,
    /// Original names by normalized spelling.
    spellings: HashMap<String, String>,
    /// The record and the variables, searched for names that are not among the values.
    fallbacks: Vec<Arc<Fields>>,
}

impl Fields {
    /// Creates the top-level fields of a rendering.
    pub(super) fn root(values: &Map<String, Json>) -> Self {
        let mut root = Self::of(values);
        let inner = |name: &str| root.values.get(name)?.downcast_object::<Fields>();
        let record = inner("record");
        let variables = inner("variables");
        root.fallbacks = record.into_iter().chain(variables).collect();
        root
    }

    fn of(values: &Map<String, Json>) -> Self {
        let value = |name: &str, value: &Json| match value {
            Json::Object(inner) if NORMALIZED.contains(&name) => Value::from_object(Self::of(inner)),
            other => Value::from(Serde(Given(other))),
        };
        let given = || values.iter().filter(|(_, value)| !value.is_null());
        let mut spellings = HashMap::new();
        for (name, _) in given() {
            let plain = plain(name);
            if !plain.is_empty() && !values.contains_key(&plain) {
                spellings.entry(plain).or_insert_with(|| name.clone());
            }
        }
        let values = given().map(|(name, of)| (name.clone(), value(name, of))).collect();
        Self { values, spellings, fallbacks: Vec::new() }
    }

    fn get(&self, name: &str) -> Option<Value> {
        // Every operation on given values begins with a lookup: without values, what is left of a
        // late template costs nothing.
        if deadline::has_passed() {
            return None;
        }
        let own = self.values.get(name).or_else(|| self.values.get(self.spellings.get(name)?));
        own.cloned().or_else(|| self.fallbacks.iter().find_map(|other| other.get(name)))
    }

    /// Returns the names that a template may use for values of the record and of the variables.
    fn names(&self) -> Vec<&str> {
        let own = self.values.keys().map(String::as_str).filter(|name| !NORMALIZED.contains(name));
        match self.fallbacks.is_empty() {
            true => own.collect(),
            false => self.fallbacks.iter().flat_map(|other| other.names()).collect(),
        }
    }

    /// Returns the names similar to an unknown one, else some of all names.
    pub(super) fn instead_of(&self, unknown: &str) -> String {
        let searched = unknown.rsplit('.').next().unwrap_or(unknown);
        let searched = plain(searched);
        let mut all = self.names();
        all.sort_unstable();
        all.dedup();
        let is_near = |name: &&str| {
            let name = plain(name);
            strsim::jaro_winkler(&name, &searched) >= MIN_SIMILARITY || (searched.len() > 2 && name.contains(&searched))
        };
        let near: Vec<&str> = all.iter().copied().filter(is_near).collect();
        let (shown, more) = match near.is_empty() {
            true => (&all[..all.len().min(NAMES_SHOWN)], all.len() > NAMES_SHOWN),
            false => (&near[..near.len().min(NAMES_SHOWN)], near.len() > NAMES_SHOWN),
        };
        if shown.is_empty() {
            return String::new();
        }
        let each = shown.iter().map(|name| match plain(name) {
            plain if plain == **name => validate::printable(name),
            plain => format!("`{}` (write {plain})", validate::printable(name)),
        });
        let mut names: Vec<String> = each.collect();
        if more {
            names.push("…".into());
        }
        format!("; available: {}", names.join(", "))
    }
}

impl Object for Fields {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.get(key)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.values.keys().map(Value::from).collect())
    }
}

/// Normalizes a name for use in placeholders: lower case without accents, digits, and underscores
/// between words.
fn plain(name: &str) -> String {
    let (mut plain, mut before) = (String::new(), ' ');
    for c in storable::unaccented(name).chars() {
        let breaks = (c.is_uppercase() && before.is_lowercase()) || !c.is_alphanumeric();
        if breaks && !plain.is_empty() && !plain.ends_with('_') {
            plain.push('_');
        }
        if c.is_alphanumeric() {
            plain.extend(c.to_lowercase());
        }
        before = c;
    }
    plain.trim_end_matches('_').to_owned()
}

/// Values without those that are null, so that `default` applies to these.
struct Present<'a>(&'a serde_json::Map<String, serde_json::Value>);

impl serde::Serialize for Present<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let given = self.0.iter().filter(|(_, value)| !value.is_null());
        serializer.collect_map(given.map(|(name, value)| (name, Given(value))))
    }
}

struct Given<'a>(&'a serde_json::Value);

impl serde::Serialize for Given<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self.0 {
            serde_json::Value::Object(fields) => Present(fields).serialize(serializer),
            serde_json::Value::Array(items) => serializer.collect_seq(items.iter().map(Given)),
            other => other.serialize(serializer),
        }
    }
}

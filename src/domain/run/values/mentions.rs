//! The results that texts refer to: only those are read. Works on the text alone, so that it holds
//! for conditions and templates alike: whatever is not plainly `results.key` or `results["key"]`
//! refers to all results.

use std::collections::BTreeSet;

use serde_json::Value;

const NAME: &str = "results";

/// The results that some texts refer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mentions {
    /// The results of these steps, by key.
    Keys(BTreeSet<String>),
    /// The results of all steps.
    All,
}

impl Default for Mentions {
    fn default() -> Self {
        Self::Keys(BTreeSet::new())
    }
}

impl Mentions {
    /// Mentions in a text.
    pub fn of_text(text: &str) -> Self {
        let mut all = Self::default();
        all.add_text(text);
        all
    }

    /// Mentions in all texts of a JSON value.
    pub fn of_json(value: &Value) -> Self {
        let mut all = Self::default();
        all.add_json(value);
        all
    }

    /// Adds the mentions in a text.
    pub fn add_text(&mut self, text: &str) {
        for (at, name) in text.match_indices(NAME) {
            let before = text[..at].chars().next_back();
            let after = &text[at + name.len()..];
            if before.is_some_and(is_of_name) || after.chars().next().is_some_and(is_of_name) {
                continue;
            }
            match (&mut *self, key(after)) {
                (Self::Keys(keys), Some(key)) => drop(keys.insert(key.to_owned())),
                (_, None) => *self = Self::All,
                (Self::All, Some(_)) => {}
            }
        }
    }

    fn add_json(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.add_text(text),
            Value::Array(items) => items.iter().for_each(|item| self.add_json(item)),
            Value::Object(fields) => fields.values().for_each(|item| self.add_json(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// True if no result is mentioned.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Keys(keys) if keys.is_empty())
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Returns the key in `.key…` or `["key"]…`, if the text begins so.
fn key(text: &str) -> Option<&str> {
    let text = text.trim_start();
    if let Some(name) = text.strip_prefix('.') {
        let name = name.trim_start();
        let end = name.find(|c| !is_of_name(c)).unwrap_or(name.len());
        let next = name[end..].chars().next();
        // A name in other letters does not end here.
        return Some(&name[..end]).filter(|name| !name.is_empty() && next.is_none_or(|c| c.is_ascii()));
    }
    let text = text.strip_prefix('[')?.trim_start();
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (name, rest) = text[1..].split_once(quote)?;
    // An escape may stand for any character.
    Some(name).filter(|name| !name.contains('\\') && rest.trim_start().starts_with(']'))
}

//! Emptied texts and JSON values. What is about the person as a whole loses every text; elsewhere the
//! person's name and addresses are replaced where they occur.

use entity::id::{RecordId, prefix_of};
use entity::meeting::Attendees;
use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value, json};

pub(super) use crate::domain::audience::suppression::erased::ERASED;
use crate::kernel::error::{Error, Result};
use crate::kernel::{event, limits, storable};

/// Fields whose codes, in capitals, are not personal.
const CODES: &[&str] = &[
    "from",
    "to",
    "status",
    "channel",
    "kind",
    "type",
    "outcome",
    "verb",
    "code",
    "reasonCode",
    "assignedTo",
    "kinds",
];

/// Fields of our events with names from definitions, which are not about the person.
const NAMES: &[&str] = &["key", "name", "type", "assignedTo", "campaignName", "from", "to"];

/// Fields of our events that contain what a person or program wrote about the record.
const CONTENT: &[&str] = &["result", "formerResult", "details"];

/// The texts by which an erased person is found: name, addresses, external id.
#[derive(Debug)]
pub(super) struct Words {
    pattern: Option<Regex>,
    pub(super) record: String,
}

impl Words {
    /// Compiles the texts; short ones would be found in others' texts, too.
    pub(super) fn new(record: RecordId, texts: &[String]) -> Result<Self> {
        let each = texts.iter().filter(|text| is_distinctive(text));
        let mut all: Vec<String> =
            each.flat_map(|text| [text.trim().to_owned(), storable::folded(text.trim())]).collect();
        // Of two that begin alike, the longer is found.
        all.sort_by_key(|text| std::cmp::Reverse(text.len()));
        all.dedup();
        all.truncate(limits::ERASED_WORDS);
        let record = record.to_string();
        if all.is_empty() {
            return Ok(Self { pattern: None, record });
        }
        let escaped: Vec<String> = all.iter().map(|text| regex::escape(text.trim())).collect();
        let pattern = RegexBuilder::new(&escaped.join("|"))
            .case_insensitive(true)
            .size_limit(limits::ERASED_PATTERN_BYTES)
            .build()
            .map_err(Error::internal)?;
        Ok(Self { pattern: Some(pattern), record })
    }

    /// True if the text names the person.
    pub(super) fn occurs_in(&self, text: &str) -> bool {
        self.replaced(text).is_some()
    }

    /// The text without the person's name and addresses; none if it has none of them. Only whole words
    /// are replaced.
    pub(super) fn replaced(&self, text: &str) -> Option<String> {
        let pattern = self.pattern.as_ref()?;
        let (mut result, mut end) = (String::new(), 0);
        for found in pattern.find_iter(text) {
            let before = text[..found.start()].chars().next_back();
            let after = text[found.end()..].chars().next();
            if [before, after].into_iter().flatten().any(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            result.push_str(&text[end..found.start()]);
            result.push_str(ERASED);
            end = found.end();
        }
        (end > 0).then(|| result + &text[end..])
    }

    /// Replaces the words in all texts of a JSON value.
    pub(super) fn replace_in(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Some(replaced) = self.replaced(text).filter(|_| !is_code(text)) {
                    *text = replaced;
                }
            }
            Value::Array(all) => all.iter_mut().for_each(|item| self.replace_in(item)),
            Value::Object(fields) => {
                let given = std::mem::take(fields);
                fields.extend(given.into_iter().map(|(name, mut item)| {
                    self.replace_in(&mut item);
                    (self.replaced(&name).unwrap_or(name), item)
                }));
            }
            _ => {}
        }
    }
}

/// True for a text that is not found in texts about others by chance: a full name, an address, a long
/// word or number.
fn is_distinctive(text: &str) -> bool {
    let text = text.trim();
    let least = match text.contains(|c: char| c.is_whitespace() || c == '@') {
        true => limits::ERASED_WORD_CHARS,
        false => limits::ERASED_WORD_CHARS + 3,
    };
    text != ERASED && text.chars().count() >= least
}

/// True for a status or another code.
fn is_code(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
}

/// Empties a JSON value that is about the person, except for ids, times and codes.
pub(super) fn empty(value: &mut Value, field: &str) {
    match value {
        Value::String(text) => {
            let code = CODES.contains(&field) && is_code(text);
            let time = field.ends_with("At") && chrono::DateTime::parse_from_rfc3339(text).is_ok();
            if !code && !time && prefix_of(text).is_none() {
                ERASED.clone_into(text);
            }
        }
        Value::Number(_) | Value::Bool(_) => *value = Value::Null,
        Value::Array(all) => all.iter_mut().for_each(|item| empty(item, field)),
        Value::Object(fields) => fields.iter_mut().for_each(|(name, item)| empty(item, name)),
        Value::Null => {}
    }
}

/// Empties the payload of an event about the person. Statuses, numbers and the names of definitions
/// stay in our own: the log is still the history of the rows. One that a client raised loses all.
pub(super) fn empty_event(kind: &str, payload: &mut Value, words: &Words) {
    if !event::kinds::is_ours(kind) {
        *payload = json!({});
        return;
    }
    let Some(fields) = payload.as_object_mut() else { return };
    for (name, value) in fields.iter_mut() {
        match value {
            Value::Null | Value::Number(_) | Value::Bool(_) => {}
            Value::String(text) if NAMES.contains(&name.as_str()) && !text.contains('@') => words.replace_in(value),
            _ if CONTENT.contains(&name.as_str()) => *value = Value::Object(Map::new()),
            _ => empty(value, name),
        }
    }
}

/// The result of a step, emptied: a decision keeps what it skips, because the run still asks for it.
pub(super) fn empty_result(kind: &str, value: &mut Value) {
    let skipped = value.get("skip").filter(|_| kind == crate::domain::plan::run_template::DECISION).cloned();
    *value = skipped.map_or_else(|| json!({}), |skipped| json!({ "skip": skipped }));
}

/// Empties the person among a meeting's attendees. Returns true if the person was one of them.
pub(super) fn empty_attendees(all: &mut Attendees, record: RecordId, words: &Words) -> bool {
    let mut found = false;
    for one in &mut all.0 {
        // Another record may have the same address: it is invited for itself.
        let is_named = one.record_id.is_none() && words.occurs_in(&one.email);
        if one.record_id == Some(record) || is_named {
            (one.name, one.email, one.record_id) = (String::new(), String::new(), Some(record));
            found = true;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(texts: &[&str]) -> Words {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        Words::new(RecordId::new(), &texts).unwrap()
    }

    #[test]
    fn whole_words_in_any_case() {
        let words = words(&["Änna Öz", "anna@x.example", "+4915112345678", "Ed", "Annabella"]);
        let replaced = |text: &str| words.replaced(text);
        assert_eq!(replaced("Dear änna öz, <ANNA@x.example>."), Some("Dear [erased], <[erased]>.".into()));
        assert_eq!(replaced("call +4915112345678 now"), Some("call [erased] now".into()));
        assert_eq!(replaced("Joanna@x.example, Edward, Ed and Annabellas"), None);
        let mut value = json!({ "a": ["Annabella", 1, "ANNABELLA"], "annabella": true });
        words.replace_in(&mut value);
        assert_eq!(value, json!({ "a": ["[erased]", 1, "ANNABELLA"], "[erased]": true }));
    }

    #[test]
    fn what_is_about_the_person_keeps_ids_times_and_codes() {
        let id = RecordId::new().to_string();
        let mut value = json!({ "recordId": id, "dueAt": "2026-01-01T00:00:00Z", "status": "OPEN", "to": "a@b.example", "age": 4, "x": { "y": ["t"] } });
        empty(&mut value, "");
        let left = json!({ "recordId": id, "dueAt": "2026-01-01T00:00:00Z", "status": "OPEN", "to": ERASED, "age": null, "x": { "y": [ERASED] } });
        assert_eq!(value, left);
        let mut payload = json!({ "from": "QUEUED", "to": "COMPLETED", "name": "Write", "reason": "told me", "attempt": 2, "result": { "a": 1 } });
        empty_event("step.completed", &mut payload, &words(&[]));
        let left = json!({ "from": "QUEUED", "to": "COMPLETED", "name": "Write", "reason": ERASED, "attempt": 2, "result": {} });
        assert_eq!(payload, left);
        empty_event("payment.received", &mut payload, &words(&[]));
        assert_eq!(payload, json!({}));
    }
}

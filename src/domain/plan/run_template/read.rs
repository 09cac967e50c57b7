//! Parses a structure, written in YAML or JSON, into a definition and all problems of form, each
//! with its path. Invalid parts are skipped, so that the rest can be checked as well.

use std::str::FromStr;

use async_graphql::Json;
use entity::definition::{ApprovalDef, Definition, PhaseDef, RetryDef, StepDef, TaskDef};
use serde_json::{Map, Value};

use super::{Problem, without_field};
use crate::domain::content::yaml::{camel, key_of};
use crate::kernel::{limits, validate};

/// Parses a structure. `template` is the name of its template.
pub fn definition(value: &Value, template: &str, at: &str) -> (Definition, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut part = Part::of(value, at, &mut problems);
    let phases = part.list("phases", phase);
    part.take("template");
    part.end();
    (Definition { template: template.to_owned(), phases }, problems)
}

fn phase(part: &mut Part<'_>) -> PhaseDef {
    let (key, name) = part.named();
    let interrupt_events = part.texts("interruptEvents");
    if let Some(interruptible) = part.flag("interruptible")
        && interruptible == interrupt_events.is_empty()
    {
        part.report(
            "interruptible",
            if interruptible { "needs `interruptEvents`" } else { "must be true, as there are `interruptEvents`" },
        );
    }
    PhaseDef {
        autonomous: part.flag("autonomous").unwrap_or(false),
        interrupt_events,
        open_for: part.parsed("openFor"),
        tasks: part.list("tasks", task),
        description: part.text("description"),
        key,
        name,
    }
}

fn task(part: &mut Part<'_>) -> TaskDef {
    let (key, name) = part.named();
    TaskDef {
        fan_out: part.flag("fanOut").unwrap_or(false),
        depends_on: part.texts("dependsOn"),
        fail_when: part.parsed("failWhen"),
        when: part.text("when"),
        due_in: part.parsed("dueIn"),
        steps: part.list("steps", step),
        description: part.text("description"),
        key,
        name,
    }
}

fn step(part: &mut Part<'_>) -> StepDef {
    let (key, name) = part.named();
    let kind = part.text("type");
    if kind.is_none() {
        part.report("type", "is required");
    }
    let assigned_to = part.word("assignedTo");
    if assigned_to.is_none() {
        part.report("assignedTo", "is required: HUMAN, AGENT or WORKFLOW");
    }
    let defaults = StepDef::default();
    StepDef {
        kind: kind.unwrap_or_default(),
        assigned_to: assigned_to.unwrap_or(defaults.assigned_to),
        agent: part.text("agent"),
        assignee: part.text("assignee"),
        role: part.word("role"),
        content_source: part.word("contentSource"),
        trigger: part.parsed("trigger").unwrap_or_default(),
        when: part.text("when"),
        due_in: part.parsed("dueIn"),
        config: part.object("config").map(Json),
        result_schema: part.object("resultSchema").map(Json),
        approval: part.below("approval", |part| {
            let defaults = ApprovalDef::default();
            ApprovalDef {
                needed: part.number("needed").unwrap_or(defaults.needed),
                self_approval: part.flag("selfApproval").unwrap_or(defaults.self_approval),
            }
        }),
        retry: part.below("retry", |part| RetryDef {
            pause: part.parsed("pause"),
            most: part.parsed("most"),
            jitter: part.number("jitter"),
        }),
        max_attempts: part.number("maxAttempts").unwrap_or(defaults.max_attempts),
        description: part.text("description"),
        key,
        name,
    }
}

/// An object being parsed; fields that were not read by its end are reported as unknown.
pub struct Part<'a> {
    path: String,
    fields: Map<String, Value>,
    /// The fields that were read.
    known: Vec<String>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Part<'a> {
    /// Starts parsing an object at a path.
    pub fn of(value: &Value, path: &str, problems: &'a mut Vec<Problem>) -> Self {
        let fields = match value {
            // Snake case is accepted: `depends_on` is `dependsOn`.
            Value::Object(fields) => fields.iter().map(|(name, value)| (camel(name), value.clone())).collect(),
            other => {
                if problems.len() < limits::PROBLEMS {
                    problems.push(Problem::new(path, format!("must be an object, not {}", what(other))));
                }
                Map::new()
            }
        };
        Self { path: path.to_owned(), fields, known: Vec::new(), problems }
    }

    /// Returns the path of a field.
    pub fn at(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    /// Reports a problem with a field.
    pub fn report(&mut self, field: &str, message: impl Into<String>) {
        // Each problem has its full path: without a bound, the size of all problems would be
        // quadratic in the number of unknown fields.
        if self.problems.len() < limits::PROBLEMS {
            let at = self.at(&validate::printable(field));
            self.problems.push(Problem::new(at, message));
        }
    }

    /// Takes a field's value; null counts as absent.
    pub fn take(&mut self, field: &str) -> Option<Value> {
        if !self.known.iter().any(|known| known == field) {
            self.known.push(field.to_owned());
        }
        self.fields.remove(field).filter(|value| !value.is_null())
    }

    fn wrong<T>(&mut self, field: &str, expected: &str, value: &Value) -> Option<T> {
        self.report(field, format!("must be {expected}, not {}", what(value)));
        None
    }

    /// Takes a string.
    pub fn text(&mut self, field: &str) -> Option<String> {
        match self.take(field)? {
            Value::String(text) => Some(text),
            other => self.wrong(field, "a string", &other),
        }
    }

    /// Takes a boolean.
    pub fn flag(&mut self, field: &str) -> Option<bool> {
        match self.take(field)? {
            Value::Bool(flag) => Some(flag),
            other => self.wrong(field, "true or false", &other),
        }
    }

    /// Takes an integer.
    pub fn number(&mut self, field: &str) -> Option<i32> {
        let value = self.take(field)?;
        match value.as_i64().and_then(|number| i32::try_from(number).ok()) {
            Some(number) => Some(number),
            None => self.wrong(field, "a whole number", &value),
        }
    }

    /// Takes a string and parses it.
    pub fn parsed<T: FromStr<Err = String>>(&mut self, field: &str) -> Option<T> {
        match self.text(field)?.parse() {
            Ok(value) => Some(value),
            Err(why) => {
                self.report(field, why);
                None
            }
        }
    }

    /// Takes a value of an enumeration, case-insensitively.
    pub fn word<T: serde::de::DeserializeOwned>(&mut self, field: &str) -> Option<T> {
        let text = self.text(field)?;
        match serde_json::from_value(Value::String(text.to_uppercase())) {
            Ok(word) => Some(word),
            Err(err) => {
                let message = err.to_string();
                let message = message.split(" at line").next().unwrap_or_default().to_owned();
                self.report(field, message);
                None
            }
        }
    }

    /// Takes an object of any form.
    pub fn object(&mut self, field: &str) -> Option<Value> {
        match self.take(field)? {
            object @ Value::Object(_) => Some(object),
            other => self.wrong(field, "an object", &other),
        }
    }

    /// Takes a list of strings; a single string is a list of one.
    pub fn texts(&mut self, field: &str) -> Vec<String> {
        match self.take(field) {
            None => Vec::new(),
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(items)) => {
                let mut texts = Vec::new();
                for item in items {
                    match item {
                        Value::String(text) => texts.push(text),
                        other => self.report(field, format!("must contain only strings, not {}", what(&other))),
                    }
                }
                texts
            }
            Some(other) => {
                self.report(field, format!("must be a list, not {}", what(&other)));
                Vec::new()
            }
        }
    }

    /// Takes an object and parses it with `read`.
    pub fn below<T>(&mut self, field: &str, read: impl FnOnce(&mut Part<'_>) -> T) -> Option<T> {
        let value = self.take(field)?;
        let path = self.at(field);
        let mut part = Part::of(&value, &path, self.problems);
        let done = read(&mut part);
        part.end();
        Some(done)
    }

    /// Takes a list of objects and parses each with `read`. In paths, an item is named by its key,
    /// or by its index if it has none.
    pub fn list<T>(&mut self, field: &str, read: impl Fn(&mut Part<'_>) -> T) -> Vec<T> {
        let items = match self.take(field) {
            Some(Value::Array(items)) => items,
            None => {
                self.report(field, "is required; it must be a list");
                return Vec::new();
            }
            Some(other) => {
                self.report(field, format!("must be a list, not {}", what(&other)));
                return Vec::new();
            }
        };
        let path = self.at(field);
        let each = items.iter().enumerate().map(|(i, item)| {
            let named = item.get("key").or_else(|| item.get("name")).and_then(Value::as_str);
            let named = named.map_or_else(|| i.to_string(), |name| validate::printable(&key_of(name)));
            let mut part = Part::of(item, &format!("{path}.{named}"), self.problems);
            let done = read(&mut part);
            part.end();
            done
        });
        each.collect()
    }

    /// Takes key and name; a missing one is derived from the other.
    pub fn named(&mut self) -> (String, String) {
        let (key, name) = (self.text("key"), self.text("name"));
        if key.is_none() && name.is_none() {
            self.report("key", "is required");
        }
        let key = key.unwrap_or_else(|| key_of(name.as_deref().unwrap_or_default()));
        let name = name.unwrap_or_else(|| key.clone());
        let fits = !key.is_empty()
            && key.len() <= limits::KEY_CHARS
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        if !fits {
            self.report(
                "key",
                format!(
                    "`{}`: only letters, digits, _ and - are allowed, at most {} of them",
                    validate::printable(&key),
                    limits::KEY_CHARS
                ),
            );
        }
        if let Err(err) = validate::name("name", &name) {
            self.report("name", without_field("name", &err));
        }
        (key, name)
    }

    /// Reports all fields that were not read as unknown.
    pub fn end(mut self) {
        let left: Vec<String> = self.fields.keys().cloned().collect();
        let known = self.known.join(", ");
        for name in left {
            self.report(&validate::printable(&name), format!("is unknown; known fields: {known}"));
        }
    }
}

pub(super) fn what(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
        other => format!("`{}`", validate::printable(&other.to_string())),
    }
}

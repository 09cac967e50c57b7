//! The built-in kinds of steps, and the rules for the `config` of each.

use entity::definition::{ApprovalDef, Definition, Span, StepDef, TaskDef};
use entity::step::Executor;
use serde_json::Value;

use super::without_field;
use crate::domain::audience::record;
use crate::domain::content::cel::VARIABLES;
use crate::domain::content::{cel, templating};

/// Headers for the target and framing of a request; a step must not set them.
pub const FRAMING: [&str; 12] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "keep-alive",
    "upgrade",
    "te",
    "trailer",
    "expect",
];

/// Drafts one message.
pub const DRAFT: &str = "draft_message";
/// A person reviews all messages of a run.
pub const REVIEW: &str = "review_messages";
/// Sends one message.
pub const SEND: &str = "send_message";
/// A person calls one record.
pub const CALL: &str = "call";
/// A person handles one reply.
pub const HANDLE_REPLY: &str = "handle_reply";
/// Summarises the outcome of the run.
pub const SUMMARISE: &str = "summarise";
/// Renders and sends one mail.
pub const EMAIL: &str = "email";
/// Calls an API.
pub const API_CALL: &str = "api_call";
/// Waits for a duration or until a time.
pub const WAIT: &str = "wait";
/// Decides on tasks to skip.
pub const DECISION: &str = "decision";
/// Updates the record.
pub const UPDATE_RECORD: &str = "update_record";

/// The kinds that contact a record: each sends a message or makes a call.
pub const MESSAGES: [&str; 3] = [SEND, EMAIL, CALL];

/// The kinds that the engine's own workflows perform.
pub const BUILT_IN: &[&str] = &[DRAFT, SEND, SUMMARISE, EMAIL, API_CALL, WAIT, DECISION, UPDATE_RECORD];

/// True if the engine's own workflows perform steps of this kind.
pub fn is_built_in(kind: &str) -> bool {
    BUILT_IN.contains(&kind)
}

/// True if steps of this kind draft or send the message of a recipient.
pub fn is_message(kind: &str) -> bool {
    matches!(kind, DRAFT | SEND | CALL)
}

/// True if an external program or an agent performs the step.
pub fn is_external(step: &StepDef) -> bool {
    match step.assigned_to {
        Executor::Human => false,
        Executor::Agent => true,
        Executor::Workflow => !is_built_in(&step.kind),
    }
}

/// The approval that a step requires. A step that the engine performs itself requires none: runs
/// from before the rule may declare one, and their messages may have been sent.
pub fn approval_of(step: &StepDef) -> Option<ApprovalDef> {
    step.approval.filter(|_| step.assigned_to == Executor::Human || is_external(step))
}

/// Checks a step's settings. Returns pairs of field and message.
pub(super) fn problems(definition: &Definition, task: &TaskDef, step: &StepDef) -> Vec<(String, String)> {
    if step.assigned_to != Executor::Workflow {
        return Vec::new();
    }
    let mut found = Found { config: step.settings(), problems: Vec::new() };
    match step.kind.as_str() {
        EMAIL => {
            found.template("subject", true);
            found.template("body", true);
            found.only(&["subject", "body"]);
        }
        API_CALL => {
            found.api_call();
            found.only(&["method", "url", "headers", "body", "expect", "output", "timeout"]);
        }
        WAIT => {
            found.wait();
            found.only(&["duration", "until"]);
        }
        DECISION => {
            found.decision(definition, task);
            found.only(&["cases", "otherwise"]);
        }
        UPDATE_RECORD => {
            found.update_record();
            found.only(&["stage", "attributes", "lastContacted"]);
        }
        _ => {}
    }
    found.problems
}

struct Found<'a> {
    config: &'a Value,
    problems: Vec<(String, String)>,
}

impl Found<'_> {
    fn push_problem(&mut self, field: &str, why: impl Into<String>) {
        let at = if field.is_empty() { "config".to_owned() } else { format!("config.{field}") };
        self.problems.push((at, why.into()));
    }

    fn only(&mut self, known: &[&str]) {
        let unknown: Vec<String> =
            self.config.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
        for name in unknown.into_iter().filter(|name| !known.contains(&name.as_str())) {
            self.push_problem(&name, format!("is unknown; known fields: {}", known.join(", ")));
        }
    }

    /// Checks that a field, if present, is a template that parses.
    fn template(&mut self, field: &str, needed: bool) {
        let text = self.config[field].as_str();
        match text {
            Some(text) => {
                if let Err(err) = templating::check(field, text) {
                    self.push_problem(field, without_field(field, &err));
                }
            }
            None if needed => self.push_problem(field, "is required: a text, optionally with placeholders"),
            None => {}
        }
    }

    fn condition(&mut self, field: &str, source: Option<&str>) {
        let checked = match source {
            Some(source) => cel::check(source, VARIABLES),
            None => Err("is required: a condition in CEL".into()),
        };
        if let Err(why) = checked {
            self.push_problem(field, why);
        }
    }

    fn api_call(&mut self) {
        let method = self.config["method"].as_str().unwrap_or("GET");
        if !["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method) {
            self.push_problem("method", "must be GET, POST, PUT, PATCH or DELETE");
        }
        self.template("url", true);
        if let Some(url) = self.config["url"].as_str()
            && !["http://", "https://", "{{"].iter().any(|begins| url.starts_with(begins))
        {
            self.push_problem("url", "must begin with http:// or https://, or with a placeholder");
        }
        let headers = self.config["headers"].as_object().cloned().unwrap_or_default();
        for (name, value) in &headers {
            if FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing)) {
                self.push_problem(&format!("headers.{name}"), "is set by the server itself");
                continue;
            }
            let checked = value.as_str().ok_or_else(|| "must be a string".to_owned());
            let checked =
                checked.and_then(|text| templating::check(name, text).map_err(|err| without_field(name, &err)));
            if let Err(why) = checked {
                self.push_problem(&format!("headers.{name}"), why);
            }
        }
        for (field, text) in texts(&self.config["body"]) {
            if let Err(err) = templating::check("body", &text) {
                self.push_problem(&format!("body{field}"), without_field("body", &err));
            }
        }
        let statuses = &self.config["expect"];
        let fits = |value: &Value| value.as_u64().is_some_and(|code| (100..600).contains(&code));
        if !statuses.is_null() && !statuses.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(fits)) {
            self.push_problem("expect", "must be a list of HTTP statuses, like [200, 201]");
        }
        let output = self.config["output"].as_object().cloned().unwrap_or_default();
        for (name, pointer) in &output {
            if !pointer.as_str().is_some_and(|pointer| pointer.is_empty() || pointer.starts_with('/')) {
                self.push_problem(
                    &format!("output.{name}"),
                    "must be a JSON pointer into the response body, like /data/id",
                );
            }
        }
        if let Some(timeout) = self.config["timeout"].as_str() {
            match timeout.parse::<Span>() {
                Ok(span) if span.0 <= crate::kernel::limits::CALL_MOST => {}
                _ => self.push_problem("timeout", format!("must be at most {:?}", crate::kernel::limits::CALL_MOST)),
            }
        }
    }

    fn wait(&mut self) {
        match (self.config["duration"].as_str(), self.config["until"].as_str()) {
            (Some(span), None) => {
                if let Err(why) = span.parse::<Span>() {
                    self.push_problem("duration", why);
                }
            }
            (None, Some(until)) => {
                if let Err(err) = templating::check("until", until) {
                    self.push_problem("until", without_field("until", &err));
                }
            }
            _ => self.push_problem("", "give either `duration` or `until` (a time, or a template for one)"),
        }
    }

    fn decision(&mut self, definition: &Definition, mine: &TaskDef) {
        let tasks: Vec<&TaskDef> = definition.phases.iter().flat_map(|phase| &phase.tasks).collect();
        let cases = self.config["cases"].as_array().cloned().unwrap_or_default();
        if cases.is_empty() {
            self.push_problem("cases", "is required: a list of {when, skip}");
        }
        let skips = |found: &mut Self, field: &str, value: &Value| {
            for key in names(value) {
                match tasks.iter().find(|task| task.key == key) {
                    None => found.push_problem(field, format!("there is no task `{key}`")),
                    Some(task) if task.key == mine.key => found.push_problem(field, "must not skip its own task"),
                    Some(task) if mine.fan_out && !task.fan_out => {
                        found.push_problem(
                            field,
                            format!("a decision for one record can't skip `{key}`, a task for the whole run"),
                        );
                    }
                    Some(_) => {}
                }
            }
        };
        for (i, case) in cases.iter().enumerate() {
            self.condition(&format!("cases.{i}.when"), case["when"].as_str());
            skips(self, &format!("cases.{i}.skip"), &case["skip"]);
        }
        let otherwise = self.config["otherwise"].clone();
        skips(self, "otherwise", &otherwise);
    }

    fn update_record(&mut self) {
        let config = self.config;
        if config["stage"].is_null() && config["attributes"].is_null() && config["lastContacted"].is_null() {
            self.push_problem("", "give at least one of `stage`, `attributes`, `lastContacted`");
        }
        self.template("stage", false);
        if !config["attributes"].is_null() {
            match record::check_attributes("attributes", &config["attributes"]) {
                Err(err) => self.push_problem("attributes", without_field("attributes", &err)),
                Ok(attributes) => {
                    for (name, text) in texts(&attributes) {
                        if let Err(err) = templating::check("attributes", &text) {
                            self.push_problem(&format!("attributes{name}"), without_field("attributes", &err));
                        }
                    }
                }
            }
        }
    }
}

/// Returns a single key, or a list of keys, as a list.
pub fn names(value: &Value) -> Vec<String> {
    match value {
        Value::String(key) => vec![key.clone()],
        Value::Array(keys) => keys.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// Returns all strings in a value, each with its path.
fn texts(value: &Value) -> Vec<(String, String)> {
    match value {
        Value::String(text) => vec![(String::new(), text.clone())],
        Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(i, item)| texts(item).into_iter().map(move |(at, text)| (format!(".{i}{at}"), text)))
            .collect(),
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, item)| texts(item).into_iter().map(move |(at, text)| (format!(".{name}{at}"), text)))
            .collect(),
        _ => Vec::new(),
    }
}

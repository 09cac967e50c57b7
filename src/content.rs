//! Content from templates: minijinja with strict blanks and bounds.
//!
//! Record data are values, never source. Blanks: `{{ first_name }}` (attributes, then the campaign's variables) and
//! `record`, `campaign`, `sender` for the rest.

use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};
use serde_json::{Map, json};

use crate::error::{Refusal, Result};
use crate::{gate, input, limits};

/// Refuses a source that does not parse, or is too long.
pub fn check(field: &str, source: &str) -> Result<()> {
    if source.len() > limits::TEMPLATE_BYTES {
        return Err(Refusal::input(field, format!("at most {} bytes", limits::TEMPLATE_BYTES)).into());
    }
    check_tags(field, source)?;
    let env = environment();
    let template = env.template_from_str(source).map_err(|err| Refusal::input(field, told(&err)))?;
    // What is not offered shows only when it is rendered.
    let blanks: Map<String, serde_json::Value> =
        template.undeclared_variables(false).into_iter().map(|name| (name, json!("x"))).collect();
    match template.render(Value::from(Serde(&blanks))) {
        Err(err)
            if matches!(err.kind(), ErrorKind::UnknownFilter | ErrorKind::UnknownFunction | ErrorKind::UnknownTest) =>
        {
            Err(Refusal::input(field, told(&err)).into())
        }
        _ => Ok(()),
    }
}

/// A message as it will go out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// One line; none where the channel has none.
    pub subject: Option<String>,
    /// The text.
    pub body: String,
}

/// What is rendered: sources and the values they share.
#[derive(Clone, Debug)]
pub struct Source {
    /// The subject's template.
    pub subject: Option<String>,
    /// The body's template.
    pub body: String,
    /// The campaign's variables.
    pub variables: Map<String, serde_json::Value>,
    /// The campaign's name.
    pub campaign: String,
    /// The name of whom it comes from.
    pub sender: String,
}

/// What a record brings to a rendering; a test recipient without a sample record brings placeholders.
pub fn values(record: Option<&entity::record::Model>) -> Map<String, serde_json::Value> {
    let mut values = Map::new();
    if let Some(record) = record {
        if let Some(attributes) = record.attributes.as_object() {
            values.extend(attributes.clone());
        }
        for (key, value) in [
            ("name", Some(&record.name)),
            ("email", record.email.as_ref()),
            ("phone", record.phone.as_ref()),
            ("stage", record.stage.as_ref()),
            ("time_zone", record.time_zone.as_ref()),
            ("kind", Some(&record.kind)),
            ("external_id", record.external_id.as_ref()),
        ] {
            if let Some(value) = value {
                values.insert(key.to_owned(), json!(value));
            }
        }
    }
    values
}

/// A value for every blank of a source, `[first_name]` for `first_name`: for when there is no record to sample.
pub fn placeholders(source: &Source) -> Map<String, serde_json::Value> {
    let env = environment();
    let mut values = Map::new();
    for text in source.subject.iter().chain([&source.body]) {
        if let Ok(template) = env.template_from_str(text) {
            for name in template.undeclared_variables(false) {
                if !matches!(name.as_str(), "record" | "campaign" | "sender") && !source.variables.contains_key(&name) {
                    values.insert(name.clone(), json!(format!("[{name}]")));
                }
            }
        }
    }
    values
}

/// Renders one message. The error says which blank or line is at fault.
pub fn render(source: &Source, values: &Map<String, serde_json::Value>) -> std::result::Result<Message, String> {
    let mut all = source.variables.clone();
    all.extend(values.clone());
    all.insert("record".into(), json!(values));
    all.insert("campaign".into(), json!({ "name": source.campaign }));
    all.insert("sender".into(), json!({ "name": source.sender }));
    let context = Value::from(Serde(&all));
    let env = environment();
    let subject = match &source.subject {
        Some(template) => Some(one_line(&fill(&env, "subject", template, &context)?)?),
        None => None,
    };
    let body = fill(&env, "body", &source.body, &context)?;
    if body.trim().is_empty() {
        return Err("the body renders to nothing".into());
    }
    Ok(Message { subject, body })
}

/// The same off the async threads, for many, with a deadline.
pub async fn render_all(
    source: Source,
    all: Vec<Map<String, serde_json::Value>>,
) -> Result<Vec<std::result::Result<Message, String>>> {
    let work = tokio::task::spawn_blocking(move || {
        let begun = std::time::Instant::now();
        let late = || begun.elapsed() > limits::RENDER_TIME;
        all.iter()
            .map(|values| if late() { Err("rendering took too long".into()) } else { render(&source, values) })
            .collect()
    });
    work.await.map_err(crate::error::Error::ours)
}

/// A subject as it may stand in a header: one line, not blank, bounded.
pub fn one_line(text: &str) -> std::result::Result<String, String> {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return Err("the subject renders to nothing".into());
    }
    if line.chars().nth(limits::SUBJECT_CHARS).is_some() {
        return Err(format!("the subject is longer than {} characters", limits::SUBJECT_CHARS));
    }
    Ok(line)
}

/// Only what can't multiply what it is given: fuel counts steps, not memory.
fn environment() -> Environment<'static> {
    use minijinja::{filters, tests};
    let mut env = Environment::empty();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_fuel(Some(limits::RENDER_FUEL));
    env.set_recursion_limit(50);
    env.add_filter("upper", filters::upper);
    env.add_filter("lower", filters::lower);
    env.add_filter("title", filters::title);
    env.add_filter("capitalize", filters::capitalize);
    env.add_filter("trim", filters::trim);
    env.add_filter("default", filters::default);
    env.add_filter("length", filters::length);
    env.add_filter("first", filters::first);
    env.add_filter("last", filters::last);
    env.add_filter("round", filters::round);
    env.add_filter("int", filters::int);
    env.add_filter("abs", filters::abs);
    env.add_test("defined", tests::is_defined);
    env.add_test("undefined", tests::is_undefined);
    env.add_test("none", tests::is_none);
    env.add_test("number", tests::is_number);
    env.add_test("string", tests::is_string);
    env
}

/// Refuses the statements that could pile up text in memory (`set`, `with` …), and too many operators that join it.
fn check_tags(field: &str, source: &str) -> Result<()> {
    let mut rest = source;
    let mut joins = 0;
    while let Some(at) = rest.find("{%").into_iter().chain(rest.find("{{")).min() {
        let (statement, tag) = (&rest[at..at + 2] == "{%", &rest[at + 2..]);
        let end = tag.find(if statement { "%}" } else { "}}" }).unwrap_or(tag.len());
        joins += tag[..end].matches(['~', '+', '*']).count();
        let word = tag.trim_start_matches(['-', '+']).split_whitespace().next().unwrap_or_default();
        if statement && !STATEMENTS.contains(&word) {
            let message =
                format!("the statement `{}` is not offered; there are {}", input::shown(word), STATEMENTS.join(", "));
            return Err(Refusal::input(field, message).into());
        }
        rest = &tag[end..];
    }
    if joins > limits::TEMPLATE_JOINS {
        return Err(Refusal::input(field, format!("at most {} of ~ + *", limits::TEMPLATE_JOINS)).into());
    }
    Ok(())
}

const STATEMENTS: [&str; 6] = ["if", "elif", "else", "endif", "for", "endfor"];

fn fill(env: &Environment<'_>, what: &str, source: &str, context: &Value) -> std::result::Result<String, String> {
    let template = env.template_from_str(source).map_err(|err| format!("{what}: {}", told(&err)))?;
    let mut bounded = Bounded { text: Vec::new(), left: limits::RENDERED_BYTES };
    match template.render_captured_to(context.clone(), &mut bounded) {
        Ok(_) => {
            let text = String::from_utf8(bounded.text).map_err(|_| format!("{what}: is not text"))?;
            gate::text(&text).map_err(|unfit| format!("{what}: it renders to a text that {unfit}"))?;
            Ok(text)
        }
        Err(err) if err.kind() == ErrorKind::UndefinedError => {
            let unknown: Vec<String> = template
                .undeclared_variables(true)
                .into_iter()
                .filter(|name| lookup(context, name).is_none())
                .collect();
            let mut unknown = unknown;
            unknown.sort();
            let names = if unknown.is_empty() { told(&err) } else { format!("unknown blank {}", unknown.join(", ")) };
            Err(format!("{what}: {names}"))
        }
        Err(err) => Err(format!("{what}: {}", told(&err))),
    }
}

/// One text, filled with values. The error says which blank or line is at fault.
pub fn text(what: &str, source: &str, values: &Map<String, serde_json::Value>) -> std::result::Result<String, String> {
    fill(&environment(), what, source, &Value::from(Serde(values)))
}

/// A value in which every text is filled.
pub fn filled(
    what: &str,
    value: &serde_json::Value,
    values: &Map<String, serde_json::Value>,
) -> std::result::Result<serde_json::Value, String> {
    use serde_json::Value as Json;
    Ok(match value {
        Json::String(source) => Json::String(text(what, source, values)?),
        Json::Array(items) => {
            Json::Array(items.iter().map(|item| filled(what, item, values)).collect::<std::result::Result<_, _>>()?)
        }
        Json::Object(fields) => {
            let each =
                fields.iter().map(|(name, item)| Ok((name.clone(), filled(&format!("{what}.{name}"), item, values)?)));
            Json::Object(each.collect::<std::result::Result<_, String>>()?)
        }
        other => other.clone(),
    })
}

fn lookup(context: &Value, path: &str) -> Option<Value> {
    let mut at = context.clone();
    for part in path.split('.') {
        at = at.get_attr(part).ok()?;
        if at.is_undefined() {
            return None;
        }
    }
    Some(at)
}

fn told(err: &minijinja::Error) -> String {
    let what = err.detail().map_or_else(|| err.kind().to_string(), |detail| format!("{}: {detail}", err.kind()));
    match err.line() {
        Some(line) => format!("{what} (line {line})"),
        None => what,
    }
}

struct Bounded {
    text: Vec<u8>,
    left: usize,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.left = self
            .left
            .checked_sub(bytes.len())
            .ok_or_else(|| std::io::Error::other(format!("longer than {} bytes", limits::RENDERED_BYTES)))?;
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

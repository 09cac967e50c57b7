//! Renders content from templates: minijinja with strict placeholders, within the [`budget`].
//!
//! Record data are values, never source. Placeholders have the same names in every template:
//! `{{ first_name }}` (the record's fields and attributes, then the campaign's variables), and
//! `record`, `variables`, `campaign`, `sender`.

mod deadline;
mod fields;
mod growth;
mod template;

use std::time::Instant;

use entity::id::{Id, OrgId};
use serde_json::{Map, json};

use crate::domain::content::cel::Condition;
use crate::kernel::budget::{self, EvaluationPool};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::limits;
use template::{Context, Template};

/// Rejects a source that does not parse, is too long, or could exceed the budget.
pub fn check(field: &str, source: &str) -> Result<()> {
    let verdict = budget::verdict("template", source, || {
        let template = Template::fresh(source)?;
        template.unknown().map_or(Ok(()), |why| Err(why.to_owned()))
    });
    verdict.map_err(|why| Refusal::input(field, why).into())
}

/// A rendered message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The subject, a single line; `None` for channels without one.
    pub subject: Option<String>,
    /// The text.
    pub body: String,
}

/// Input of a rendering: the templates and the values that all recipients share.
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
    /// The sender's name.
    pub sender: String,
}

/// Returns the values of a record for a rendering; a test recipient without a sample record uses
/// [`placeholders`] instead.
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

/// Returns a record as conditions and templates see it: its own fields, with its attributes beside
/// them and under `attributes`.
pub(crate) fn record(record: &entity::record::Model) -> serde_json::Value {
    let mut all = values(Some(record));
    all.insert("id".into(), json!(record.id));
    all.insert("attributes".into(), record.attributes.clone());
    all.insert("unsubscribed".into(), json!(record.unsubscribed_at.is_some()));
    all.insert("last_contacted_at".into(), json!(record.last_contacted_at));
    serde_json::Value::Object(all)
}

/// Returns a value for every placeholder of a source, `[first_name]` for `first_name`, for use
/// without a sample record.
pub fn placeholders(source: &Source) -> Map<String, serde_json::Value> {
    let mut values = Map::new();
    for text in source.subject.iter().chain([&source.body]) {
        if let Ok(template) = Template::read(text) {
            for name in template.blanks(false) {
                let given = ["record", "attributes", "variables", "campaign", "sender"].contains(&name.as_str());
                if !given && !source.variables.contains_key(&name) {
                    values.insert(name.clone(), json!(format!("[{name}]")));
                }
            }
        }
    }
    values
}

/// Renders one message before a deadline. The error names the placeholder or line at fault.
fn render(
    source: &Source,
    values: &Map<String, serde_json::Value>,
    until: Instant,
) -> std::result::Result<Message, String> {
    let mut record = values.clone();
    record.entry("attributes").or_insert_with(|| json!(values));
    let mut all = Map::new();
    all.insert("record".into(), serde_json::Value::Object(record));
    all.insert("variables".into(), json!(source.variables));
    all.insert("campaign".into(), json!({ "name": source.campaign }));
    all.insert("sender".into(), json!({ "name": source.sender }));
    let context = Context::of(&all);
    let fill = |what: &str, source: &str| {
        Template::read(source).map_err(|why| format!("{what}: {why}"))?.fill(what, &context, until)
    };
    let subject = match &source.subject {
        Some(template) => Some(one_line(&fill("subject", template)?)?),
        None => None,
    };
    let body = fill("body", &source.body)?;
    if body.trim().is_empty() {
        return Err("the body renders to nothing".into());
    }
    Ok(Message { subject, body })
}

/// Renders a message for each set of values, off the async threads and before a deadline. The total
/// size of a request's messages is bounded. Errors: LIMIT_EXCEEDED.
pub async fn render_all(
    source: Source,
    all: Vec<Map<String, serde_json::Value>>,
) -> Result<Vec<std::result::Result<Message, String>>> {
    let late = || Err("rendering took too long".to_owned());
    Ok(render_in_time(None, source, all).await?.into_iter().map(|one| one.unwrap_or_else(late)).collect())
}

/// Same as [`render_all`], for an org's step if it is not for a request, with `None` for messages
/// that were not reached in time.
pub async fn render_in_time(
    org: Option<OrgId>,
    source: Source,
    all: Vec<Map<String, serde_json::Value>>,
) -> Result<Vec<Option<std::result::Result<Message, String>>>> {
    in_time(org, all.len(), move |i, until| render(&source, &all[i], until)).await
}

/// A step's own mail templates, and the conditions for sending.
#[derive(Clone, Debug)]
pub struct StepMail {
    /// The subject's template.
    pub subject: String,
    /// The body's template.
    pub body: String,
    /// Conditions in CEL.
    pub when: Vec<String>,
}

/// Renders mails, each with its values, like [`render_all`]. A mail is empty if its conditions are
/// not met.
pub async fn render_mails(
    all: Vec<(StepMail, Map<String, serde_json::Value>)>,
) -> Result<Vec<std::result::Result<Message, String>>> {
    let late = || Err("rendering took too long".to_owned());
    let count = all.len();
    let one = move |i: usize, until: Instant| {
        let (of, values): &(StepMail, _) = &all[i];
        let holds = |source: &String| Condition::parse(source).and_then(|when| when.holds(values)).unwrap_or(false);
        match of.when.iter().all(holds) {
            true => render_mail(&of.subject, &of.body, values, until),
            false => Ok(Message { subject: None, body: String::new() }),
        }
    };
    Ok(in_time(None, count, one).await?.into_iter().map(|one| one.unwrap_or_else(late)).collect())
}

/// Renders a mail from the templates of its subject and its body.
pub fn render_mail(
    subject: &str,
    body: &str,
    values: &Map<String, serde_json::Value>,
    until: Instant,
) -> std::result::Result<Message, String> {
    let subject = one_line(&text("subject", subject, values, until)?)?;
    let body = text("body", body, values, until)?;
    if body.trim().is_empty() {
        return Err("the body renders to nothing".into());
    }
    Ok(Message { subject: Some(subject), body })
}

/// True if a template uses a name.
pub fn mentions(source: &str, name: &str) -> bool {
    Template::read(source).is_ok_and(|template| template.blanks(false).contains(name))
}

async fn in_time(
    org: Option<OrgId>,
    count: usize,
    render: impl Fn(usize, Instant) -> std::result::Result<Message, String> + Send + 'static,
) -> Result<Vec<Option<std::result::Result<Message, String>>>> {
    // Messages rendered for a request count towards the size of its response.
    let request = crate::kernel::cost::current();
    let lane = if request.is_some() { EvaluationPool::Request } else { EvaluationPool::Engine };
    let org = request.as_ref().map(|request| request.owner().org).or(org).map(|org| org.uuid());
    budget::run_for(lane, org, move |end| {
        let mut left = if lane == EvaluationPool::Request { limits::PREVIEWED_BYTES } else { usize::MAX };
        let mut one = |i: usize, until: Instant| {
            let message = render(i, until)?;
            if let Some(request) = &request {
                request.count_response_bytes(message.body.len()).map_err(|refusal| refusal.message)?;
            }
            left = left
                .checked_sub(message.body.len())
                .ok_or_else(|| format!("the messages are longer than {} bytes together", limits::PREVIEWED_BYTES))?;
            Ok(message)
        };
        // All belong to one org, so there are no turns to take between them.
        budget::in_turn(&vec![(); count], end, &mut one)
    })
    .await
}

/// Normalizes a subject for a header: one line, not blank, bounded.
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

/// Renders one text with values. The error names the placeholder or line at fault.
/// May take up to a step's time: call it within [`budget::run`].
pub fn text(
    what: &str,
    source: &str,
    values: &Map<String, serde_json::Value>,
    until: Instant,
) -> std::result::Result<String, String> {
    text_of(what, source, &Context::of(values), until)
}

fn text_of(what: &str, source: &str, values: &Context, until: Instant) -> std::result::Result<String, String> {
    Template::read(source).map_err(|why| format!("{what}: {why}"))?.fill(what, values, until)
}

/// Renders every text within a JSON value.
pub fn filled(
    what: &str,
    value: &serde_json::Value,
    values: &Map<String, serde_json::Value>,
    until: Instant,
) -> std::result::Result<serde_json::Value, String> {
    filled_of(what, value, &Context::of(values), until)
}

fn filled_of(
    what: &str,
    value: &serde_json::Value,
    values: &Context,
    until: Instant,
) -> std::result::Result<serde_json::Value, String> {
    use serde_json::Value as Json;
    Ok(match value {
        Json::String(source) => Json::String(text_of(what, source, values, until)?),
        Json::Array(items) => {
            let each = items.iter().map(|item| filled_of(what, item, values, until));
            Json::Array(each.collect::<std::result::Result<_, _>>()?)
        }
        Json::Object(fields) => {
            let each = fields
                .iter()
                .map(|(name, item)| Ok((name.clone(), filled_of(&format!("{what}.{name}"), item, values, until)?)));
            Json::Object(each.collect::<std::result::Result<_, String>>()?)
        }
        other => other.clone(),
    })
}

/// Describes a rendering error, with its line.
fn describe(err: &minijinja::Error) -> String {
    let mut what = err.detail().map_or_else(|| err.kind().to_string(), |detail| format!("{}: {detail}", err.kind()));
    if err.kind() == minijinja::ErrorKind::SyntaxError
        && err.detail().is_some_and(|detail| detail.contains("identifier"))
    {
        what.push_str(": a name of several words is written `first_name`, or `record[\"First Name\"]`");
    }
    match err.line() {
        Some(line) => format!("{what} (line {line})"),
        None => what,
    }
}

//! Parses a manifest into its declared objects and all problems of form.

use std::collections::HashMap;

use entity::AgentKind;
use serde_json::Value;

use super::{Declaration, Found, Item};
use crate::domain::audience::record::filter::RecordFilter;
use crate::domain::content::yaml::YamlDocument;
use crate::domain::content::yaml::key_of;
use crate::domain::plan::run_template::read::Part;
use crate::domain::plan::run_template::{self, layer};
use crate::kernel::{limits, storable};

/// The sections in the order of application: referenced objects come before those that refer to
/// them.
const SECTIONS: [&str; 8] =
    ["goals", "writers", "reviewers", "messageTemplates", "segments", "agents", "functions", "runTemplates"];

/// Returns everything that is declared, and the problems.
pub(super) fn items(written: &YamlDocument) -> (Vec<Item>, Vec<Found>) {
    let whole = |message| vec![Found { path: "manifest".into(), written_at: None, message }];
    let (mut items, mut wrong) = (Vec::new(), Vec::new());
    if written.value.is_null() {
        let message = format!("the manifest is empty; its sections are {}", SECTIONS.join(", "));
        return (items, whole(message));
    }
    let mut root = Part::of(&written.value, "", &mut wrong);
    let mut sections = Vec::new();
    for section in SECTIONS {
        match root.take(section) {
            None => {}
            Some(Value::Array(all)) => sections.push((section, all)),
            Some(_) => root.report(section, "must be a list"),
        }
    }
    root.end();
    let count: usize = sections.iter().map(|(_, all): &(&str, Vec<Value>)| all.len()).sum();
    if count > limits::MANIFEST_ITEMS {
        let message = format!("declares {count} objects: at most {} are allowed", limits::MANIFEST_ITEMS);
        return (items, whole(message));
    }
    let mut seen = HashMap::new();
    let mut written_at_by_path: HashMap<String, String> = HashMap::new();
    for (section, all) in sections {
        for (i, value) in all.iter().enumerate() {
            let named = value.get("key").or_else(|| value.get("name")).and_then(Value::as_str);
            let written_at = format!("{section}.{i}");
            let nth = value.get("nth").and_then(Value::as_u64);
            // Only the first of several objects with the same name has a path by name.
            let path = match (named, nth) {
                (Some(name), None | Some(1)) => format!("{section}.{}", key_of(name)),
                _ => written_at.clone(),
            };
            let what = if section == "runTemplates" {
                Some(parse_run_template(value, &path, &mut wrong))
            } else {
                let mut part = Part::of(value, &path, &mut wrong);
                if part.number("nth").is_some_and(|nth| nth < 1) {
                    part.report("nth", "must be 1 or more: the number among those of this name, oldest first");
                }
                let what = parse_item(section, &mut part);
                part.end();
                what
            };
            written_at_by_path.entry(path.clone()).or_insert_with(|| written_at.clone());
            // Agents and functions share one namespace.
            let noun = if section == "functions" { "agents" } else { section };
            if let Some(name) = named
                && let Some(before) = seen.insert((noun, normalized_name(name), nth.unwrap_or(1)), written_at.clone())
            {
                let line = written.line(&before).map(|line| format!(", first in line {line}")).unwrap_or_default();
                let how =
                    if section == "runTemplates" { "" } else { "; give each its own `nth` if several are intended" };
                let message = format!("`{name}` is declared twice{line}{how}");
                wrong.push(run_template::Problem::new(written_at.as_str(), message));
            }
            // An unreadable object has been reported as a problem already.
            if let Some(what) = what {
                let nth = nth.and_then(|nth| usize::try_from(nth).ok()).filter(|nth| *nth > 0);
                items.push(Item { path, index_path: written_at, nth, declaration: what });
            }
        }
    }
    let each = wrong.into_iter().map(|problem| {
        // The path of an object has two parts, without further dots.
        let end = problem.path.match_indices('.').nth(1).map(|(end, _)| end);
        let place = end.and_then(|end| Some((written_at_by_path.get(&problem.path[..end])?, end)));
        let written_at = place.map(|(at, end)| format!("{at}{}", &problem.path[end..]));
        Found { path: problem.path, written_at, message: problem.message }
    });
    (items, each.collect())
}

/// Normalizes a name as it will be stored.
fn normalized_name(name: &str) -> String {
    storable::nfc(name.trim()).into_owned()
}

/// Parses one object; `None` if it has problems that leave nothing to apply.
fn parse_item(section: &str, part: &mut Part<'_>) -> Option<Declaration> {
    let name = part.text("name").map(|name| normalized_name(&name));
    Some(match section {
        "goals" => Declaration::Goal(crate::domain::content::goal::Fields {
            name,
            description: Some(part.text("description").unwrap_or_default()),
        }),
        "writers" => Declaration::Writer(crate::domain::content::writer::Fields {
            name,
            kind: Some(part.word("kind").unwrap_or(entity::writer::WriterKind::Templated)),
            instructions: Some(part.text("instructions").unwrap_or_default()),
            body: Some(part.text("body")),
        }),
        "reviewers" => {
            let fields = crate::domain::content::reviewer::Fields {
                name,
                member_id: None,
                policy: Some(part.word("policy").unwrap_or(entity::reviewer::ReviewPolicy::Any)),
            };
            Declaration::Reviewer(fields, part.text("member"))
        }
        "messageTemplates" => Declaration::MessageTemplate(crate::domain::content::message_template::Fields {
            name,
            channel: part.word("channel"),
            subject: part.text("subject"),
            body: part.text("body"),
        }),
        "segments" => {
            let filter = match part.take("filter").map(RecordFilter::parse) {
                Some(Err(wrong)) => {
                    let joint = if wrong.path.is_empty() { "" } else { "." };
                    part.report(&format!("filter{joint}{}", wrong.path), wrong.message);
                    return None;
                }
                filter => filter.and_then(Result::ok),
            };
            Declaration::Segment(Box::new(crate::domain::audience::segment::Fields { name, filter, record_ids: None }))
        }
        section => {
            let kind = match section {
                "functions" => AgentKind::Function,
                _ => part.word("kind").unwrap_or(AgentKind::Outside),
            };
            Declaration::Agent(crate::domain::plan::agent::Fields {
                name,
                description: Some(part.text("description").unwrap_or_default()),
                kind: Some(kind),
                filter: Some(part.text("filter").unwrap_or_else(|| "true".into())),
                context: Some(part.text("context").unwrap_or_default()),
                output_schema: Some(part.object("outputSchema")),
                instructions: Some(part.text("instructions").unwrap_or_default()),
            })
        }
    })
}

fn parse_run_template(value: &Value, path: &str, wrong: &mut Vec<run_template::Problem>) -> Declaration {
    let mut part = Part::of(value, path, wrong);
    let name = part.text("name").map(|name| normalized_name(&name));
    let key = part.text("key").or_else(|| name.as_deref().map(|name| key_of(name).replace('_', "-")));
    let base = part.text("base");
    let overrides = part.take("overrides").map(|given| layer::overrides(&given));
    let overrides = match overrides {
        Some(Ok(overrides)) => Some(overrides),
        Some(Err(why)) => {
            part.report("overrides", why);
            None
        }
        None => base.as_ref().map(|_| Default::default()),
    };
    let mut fields = run_template::Fields {
        key,
        name,
        description: Some(part.text("description").unwrap_or_default()),
        kind: part.word("kind"),
        overrides,
        ..Default::default()
    };
    if base.is_none()
        && let Some(phases) = part.take("phases")
    {
        let structure = serde_json::json!({ "phases": phases });
        let (definition, problems) = run_template::read::definition(&structure, "", "");
        fields.problems = problems;
        fields.definition = Some(definition);
    }
    part.end();
    Declaration::RunTemplate(fields, base)
}

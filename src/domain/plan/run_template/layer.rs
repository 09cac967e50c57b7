//! Resolves layers: applies the overrides of the org's template and of the campaign to a structure,
//! by path, and records the layer that each part came from.

use std::collections::BTreeMap;

use async_graphql::{Json, SimpleObject};
use entity::definition::{Definition, Layer, Override, OverrideOp, Overrides};
use serde_json::{Map, Value};

use super::Problem;
use super::read::definition;
use crate::domain::content::yaml::camel;
use crate::kernel::limits;

/// A structure after layering.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The definition that runs are created from.
    pub definition: Definition,
    /// The layer of each part, by its path.
    pub origins: BTreeMap<String, Layer>,
    /// Problems of form, or with an override.
    pub problems: Vec<Problem>,
}

/// A part of a structure and the layer it came from.
#[derive(Clone, Debug, SimpleObject)]
pub struct PartOrigin {
    /// Path of the part, by keys: `phases.in_flight.tasks.send`; for a field set by an override,
    /// the path of the field.
    pub path: String,
    /// The layer.
    pub layer: Layer,
}

/// The changes of one layer.
#[derive(Clone, Copy, Debug)]
pub struct Changes<'a> {
    /// The layer.
    pub layer: Layer,
    /// The changes, in order.
    pub overrides: &'a Overrides,
}

/// Applies the changes to the base, one layer after the other.
pub fn resolve(base: &Definition, layer: Layer, changes: &[Changes<'_>]) -> Resolved {
    let mut origins = BTreeMap::new();
    let mut problems = Vec::new();
    let mut tree = serde_json::to_value(base).unwrap_or_default();
    mark(&tree, "", layer, &mut origins);
    for change in changes {
        for one in &change.overrides.0 {
            match apply(&mut tree, one) {
                Ok(touched) => {
                    // A replaced part loses its descendants.
                    let below = format!("{touched}.");
                    origins.retain(|path, _| *path != touched && !path.starts_with(&below));
                    if let Some(part) = find_part(&tree, &touched) {
                        origins.insert(touched.clone(), change.layer);
                        mark(part, &touched, change.layer, &mut origins);
                    }
                }
                Err(why) => problems.push(Problem::new(&one.path, why)),
            }
        }
    }
    let (definition, wrong) = definition(&tree, &base.template, "");
    problems.extend(wrong);
    Resolved { definition, origins, problems }
}

/// Records the layer of every part below: phases, tasks and steps.
fn mark(part: &Value, path: &str, layer: Layer, origins: &mut BTreeMap<String, Layer>) {
    let lists: &[&str] = &["phases", "tasks", "steps"];
    if let Value::Array(items) = part {
        for item in items {
            if let Some(key) = item["key"].as_str() {
                let path = format!("{path}.{key}");
                origins.insert(path.clone(), layer);
                mark(item, &path, layer, origins);
            }
        }
    }
    for list in lists {
        if let Some(items) = part.get(*list) {
            let path = if path.is_empty() { (*list).to_owned() } else { format!("{path}.{list}") };
            mark(items, &path, layer, origins);
        }
    }
}

fn find_part<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(tree, |at, segment| match at {
        Value::Array(items) => items.iter().find(|item| item["key"] == segment),
        Value::Object(fields) => fields.get(segment),
        _ => None,
    })
}

/// Applies one override and returns the path of the part that it changed.
fn apply(tree: &mut Value, change: &Override) -> Result<String, String> {
    let path = normalized_path(&change.path)?;
    let segments: Vec<&str> = path.split('.').collect();
    let (last, parents) = segments.split_last().ok_or("the path names no part")?;
    let mut at = tree;
    let mut walked = Vec::new();
    for segment in parents {
        at = step_into(at, segment).ok_or_else(|| missing(segment, &walked))?;
        walked.push(*segment);
    }
    let value = change.value.as_ref().map(|value| with_keys(value.0.clone()));
    match (change.op, value) {
        (OverrideOp::Remove, None) => remove(at, last).ok_or_else(|| missing(last, &walked))?,
        (OverrideOp::Remove, Some(_)) => return Err("`REMOVE` takes no value".into()),
        (OverrideOp::Replace | OverrideOp::Add, None) => return Err("needs a value".into()),
        (OverrideOp::Replace, Some(value)) => replace(at, last, value).ok_or_else(|| missing(last, &walked))?,
        (OverrideOp::Add, Some(value)) => {
            return add(at, last, value, change.before.as_deref()).map(|key| match key {
                Some(key) => format!("{path}.{key}"),
                None => path.clone(),
            });
        }
    }
    Ok(path)
}

fn step_into<'a>(at: &'a mut Value, segment: &str) -> Option<&'a mut Value> {
    match at {
        Value::Array(items) => items.iter_mut().find(|item| item["key"] == segment),
        Value::Object(fields) => fields.get_mut(segment),
        _ => None,
    }
}

fn missing(segment: &str, walked: &[&str]) -> String {
    let at = if walked.is_empty() { "the structure".to_owned() } else { walked.join(".") };
    format!("{at} has no `{segment}`")
}

fn remove(at: &mut Value, last: &str) -> Option<()> {
    match at {
        Value::Array(items) => {
            let found = items.iter().position(|item| item["key"] == last)?;
            items.remove(found);
        }
        Value::Object(fields) => {
            fields.remove(last)?;
        }
        _ => return None,
    }
    Some(())
}

fn replace(at: &mut Value, last: &str, mut value: Value) -> Option<()> {
    match at {
        Value::Array(items) => {
            let item = items.iter_mut().find(|item| item["key"] == last)?;
            // A part keeps its key unless the value has another.
            if let Some(fields) = value.as_object_mut() {
                fields.entry("key").or_insert_with(|| last.into());
            }
            *item = value;
        }
        // An absent field is set; parsing the result later reports it if it is unknown.
        Value::Object(fields) => {
            fields.insert(last.to_owned(), value);
        }
        _ => return None,
    }
    Some(())
}

/// Adds to a list. Returns the key of a single added part, `None` for several.
fn add(at: &mut Value, last: &str, value: Value, before: Option<&str>) -> Result<Option<String>, String> {
    if let Value::Object(fields) = at
        && !fields.contains_key(last)
    {
        fields.insert(last.to_owned(), value);
        return Ok(None);
    }
    let list = step_into(at, last).and_then(Value::as_array_mut);
    let list = list.ok_or_else(|| format!("`{last}` is not a list: `ADD` needs a list"))?;
    let place = match before {
        Some(key) => list
            .iter()
            .position(|item| item["key"] == key)
            .ok_or_else(|| format!("the list has no `{key}` to insert before"))?,
        None => list.len(),
    };
    let is_single = !value.is_array();
    let added = if let Value::Array(items) = value { items } else { vec![value] };
    for item in &added {
        if let Some(key) = item["key"].as_str()
            && list.iter().any(|there| there["key"] == key)
        {
            return Err(format!("the list already has `{key}`: use `REPLACE`"));
        }
    }
    let key = is_single.then(|| added[0]["key"].as_str().map(str::to_owned)).flatten();
    list.splice(place..place, added);
    Ok(key)
}

/// Normalizes a path: fields in camelCase, keys unchanged.
fn normalized_path(path: &str) -> Result<String, String> {
    if path.is_empty() || path.len() > 400 {
        return Err("must be a path like `phases.in_flight.tasks.send`".into());
    }
    let mut after_list = false;
    let segments: Vec<String> = path
        .split('.')
        .map(|segment| {
            let is_key = after_list;
            after_list = !is_key && matches!(segment, "phases" | "tasks" | "steps");
            if is_key { segment.to_owned() } else { camel(segment) }
        })
        .collect();
    if segments[0] != "phases" {
        return Err("the path must begin with `phases`".into());
    }
    Ok(segments.join("."))
}

/// Adds keys, derived from the name, to parts without one.
fn with_keys(mut value: Value) -> Value {
    match &mut value {
        Value::Array(items) => items.iter_mut().for_each(|item| *item = with_keys(item.take())),
        Value::Object(fields) => {
            if !fields.contains_key("key")
                && let Some(name) = fields.get("name").and_then(Value::as_str)
            {
                let key = crate::domain::content::yaml::key_of(name);
                fields.insert("key".into(), key.into());
            }
            for list in ["phases", "tasks", "steps"] {
                if let Some(items) = fields.get_mut(list) {
                    *items = with_keys(items.take());
                }
            }
        }
        _ => {}
    }
    value
}

/// Parses overrides: a list, or a map of paths in which null removes and everything else replaces.
pub fn overrides(value: &Value) -> Result<Overrides, String> {
    let count = value.as_array().map(Vec::len).or_else(|| value.as_object().map(Map::len)).unwrap_or_default();
    if count > limits::OVERRIDES {
        return Err(format!("has {count} changes: at most {} are allowed", limits::OVERRIDES));
    }
    match value {
        Value::Null => Ok(Overrides::default()),
        Value::Object(map) => Ok(Overrides(shorthand(map))),
        Value::Array(_) => {
            let mut list = value.clone();
            // The operation is case-insensitive; the default is REPLACE.
            for item in list.as_array_mut().into_iter().flatten() {
                if let Some(fields) = item.as_object_mut() {
                    let op = fields.get("op").and_then(Value::as_str).unwrap_or("replace").to_uppercase();
                    fields.insert("op".into(), op.into());
                }
            }
            serde_json::from_value(list).map_err(|err| format!("invalid list of overrides: {err}"))
        }
        _ => Err("must be a map of paths, or a list of {path, op, value}".into()),
    }
}

fn shorthand(map: &Map<String, Value>) -> Vec<Override> {
    let each = map.iter().map(|(path, value)| {
        let op = if value.is_null() { OverrideOp::Remove } else { OverrideOp::Replace };
        let value = (!value.is_null()).then(|| Json(value.clone()));
        Override { path: path.clone(), op, value, before: None }
    });
    each.collect()
}

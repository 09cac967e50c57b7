//! Null propagation for errors, as in section 6.4.4 of the specification: a failed field is null if
//! its type allows it, otherwise its nearest nullable ancestor is. The executor omits failed
//! fields, whatever their type.

use std::collections::HashMap;

use async_graphql::indexmap::IndexMap;
use async_graphql::parser::types::{BaseType, Type};
use async_graphql::{Name, PathSegment, ServerError, Value};

use super::key_order::{Below, Key, Shape, TYPE};

/// The positions of errors as a tree of paths.
#[derive(Debug, Default)]
struct Failed<'a> {
    keys: HashMap<&'a str, Failed<'a>>,
    items: HashMap<usize, Failed<'a>>,
}

/// Completes a response's data according to its errors. Does nothing if no error has a path.
pub(super) fn complete(shape: &Shape, data: &mut Value, errors: &[ServerError]) {
    let mut failed = Failed::default();
    for error in errors.iter().filter(|error| !error.path.is_empty()) {
        let mut at = &mut failed;
        for segment in &error.path {
            at = match segment {
                PathSegment::Field(name) => at.keys.entry(name.as_str()).or_default(),
                PathSegment::Index(index) => at.items.entry(*index).or_default(),
            };
        }
    }
    if failed.keys.is_empty() {
        return;
    }
    let mut object = match std::mem::take(data) {
        Value::Object(object) => object,
        _ => IndexMap::new(),
    };
    if keys(shape, &mut object, &failed) {
        *data = Value::Object(object);
    }
}

/// Returns false if the object becomes null because of its failed fields.
fn keys(shape: &Shape, object: &mut IndexMap<Name, Value>, failed: &Failed<'_>) -> bool {
    for key in &shape.keys {
        let Some(failed) = failed.keys.get(key.name.as_str()) else { continue };
        let value = object.entry(key.name.clone()).or_insert(Value::Null);
        let Key { ty: Some(ty), below, .. } = key else { continue };
        if !value_of(ty, below, value, failed) {
            return false;
        }
    }
    true
}

/// Returns false if the parent becomes null because of the value.
fn value_of(ty: &Type, below: &Below, value: &mut Value, failed: &Failed<'_>) -> bool {
    let holds = match (&ty.base, &mut *value) {
        (BaseType::List(of), Value::List(items)) => {
            items.iter_mut().enumerate().all(|(index, item)| match failed.items.get(&index) {
                Some(failed) => value_of(of, below, item, failed),
                None => true,
            })
        }
        (BaseType::Named(_), Value::Null) if !failed.keys.is_empty() && !matches!(below, Below::Leaf) => {
            // All fields of the object failed.
            let mut object = IndexMap::new();
            let holds = of_object(below, &mut object, failed);
            *value = Value::Object(object);
            holds
        }
        (BaseType::Named(_), Value::Object(object)) if !matches!(below, Below::Leaf) => {
            of_object(below, object, failed)
        }
        (_, Value::Null) => false,
        _ => true,
    };
    if !holds {
        *value = Value::Null;
    }
    holds || ty.nullable
}

fn of_object(below: &Below, object: &mut IndexMap<Name, Value>, failed: &Failed<'_>) -> bool {
    match below {
        Below::Leaf => true,
        Below::Object(shape) => keys(shape, object, failed),
        Below::Abstract(shapes) => {
            let shape = match object.get(TYPE) {
                Some(Value::String(name)) => shapes.get(name.as_str()),
                _ => None,
            };
            shape.is_none_or(|shape| keys(shape, object, failed))
        }
    }
}

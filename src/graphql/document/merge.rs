//! Merges duplicate fields: the executor would execute each of them, and so carry out a mutation
//! twice.

use std::collections::{HashMap, HashSet};

use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, Field, FragmentDefinition, OperationDefinition, OperationType, Selection,
    SelectionSet,
};
use async_graphql::{Name, Positioned, ServerError};

use super::fields::about;
use super::types::Types;
use crate::kernel::limits;

type Fragments = HashMap<Name, Positioned<FragmentDefinition>>;

/// Merges the fields of each selection set that have the same key and the same directives; at the
/// root of a mutation also those of its fragments. Returns the document as it was if there were
/// such fields: they determine the order of keys also where they stood behind others.
pub(super) fn merge(types: &Types, document: &mut ExecutableDocument) -> Option<ExecutableDocument> {
    let before = document.clone();
    let mut merged = false;
    let ExecutableDocument { operations, fragments } = document;
    let each: Vec<&mut Positioned<OperationDefinition>> = match operations {
        DocumentOperations::Single(operation) => vec![operation],
        DocumentOperations::Multiple(all) => all.values_mut().collect(),
    };
    for operation in each {
        let set = &mut operation.node.selection_set.node;
        if operation.node.ty == OperationType::Mutation {
            let mut flat = Vec::new();
            flatten(types, fragments, std::mem::take(&mut set.items), &mut flat, 0);
            set.items = flat;
        }
        merged |= within(set);
    }
    for fragment in fragments.values_mut() {
        merged |= within(&mut fragment.node.selection_set.node);
    }
    merged.then_some(before)
}

/// Inlines the root's inline fragments that always apply; all other selections stay as they are.
fn flatten(
    types: &Types,
    fragments: &Fragments,
    items: Vec<Positioned<Selection>>,
    flat: &mut Vec<Positioned<Selection>>,
    level: usize,
) {
    let is_root = |condition: &Name| types.mutation.as_ref() == Some(condition);
    for item in items {
        let (condition, directives, set) = match &item.node {
            Selection::InlineFragment(inline) => {
                let condition = inline.node.type_condition.as_ref().map(|condition| &condition.node.on.node);
                (condition, &inline.node.directives, &inline.node.selection_set.node)
            }
            Selection::FragmentSpread(spread) => match fragments.get(&spread.node.fragment_name.node) {
                Some(fragment) => {
                    let condition = &fragment.node.type_condition.node.on.node;
                    (Some(condition), &spread.node.directives, &fragment.node.selection_set.node)
                }
                None => {
                    flat.push(item);
                    continue;
                }
            },
            Selection::Field(_) => {
                flat.push(item);
                continue;
            }
        };
        // Validation regards a named fragment as used only if it is spread.
        let is_spread = matches!(item.node, Selection::FragmentSpread(_));
        if !directives.is_empty() || is_spread || level > limits::DOCUMENT_NESTING || !condition.is_none_or(is_root) {
            flat.push(item);
        } else {
            let inner = set.items.clone();
            flatten(types, fragments, inner, flat, level + 1);
        }
    }
}

/// Returns true if fields were merged.
fn within(set: &mut SelectionSet) -> bool {
    let mut any = false;
    let mut known: HashMap<Name, Vec<usize>> = HashMap::new();
    let mut merged: Vec<Positioned<Selection>> = Vec::with_capacity(set.items.len());
    for item in std::mem::take(&mut set.items) {
        if let Selection::Field(field) = &item.node {
            let same_key = known.entry(field.node.response_key().node.clone()).or_default();
            let first = same_key.iter().copied().find(|at| is_same_field(merged.get(*at), &field.node));
            match first.and_then(|at| merged.get_mut(at)) {
                Some(Positioned { node: Selection::Field(first), .. }) => {
                    first.node.selection_set.node.items.extend(field.node.selection_set.node.items.iter().cloned());
                    any = true;
                    continue;
                }
                _ => same_key.push(merged.len()),
            }
        }
        merged.push(item);
    }
    // Thousands of equal fields became one.
    merged.shrink_to_fit();
    for item in &mut merged {
        any |= match &mut item.node {
            Selection::Field(field) => within(&mut field.node.selection_set.node),
            Selection::InlineFragment(inline) => within(&mut inline.node.selection_set.node),
            Selection::FragmentSpread(_) => false,
        };
    }
    set.items = merged;
    any
}

fn is_same_field(first: Option<&Positioned<Selection>>, field: &Field) -> bool {
    let Some(Positioned { node: Selection::Field(first), .. }) = first else { return false };
    let directives = |field: &Field| -> Vec<_> {
        field.directives.iter().map(|of| (of.node.name.node.clone(), of.node.arguments.clone())).collect()
    };
    // A field with a selection and one without are not merged: validation rejects the one that is
    // wrong for the field's type.
    first.node.name.node == field.name.node
        && first.node.selection_set.node.items.is_empty() == field.selection_set.node.items.is_empty()
        && directives(&first.node) == directives(field)
}

/// Returns errors for variables that an operation declares twice.
pub(super) fn repeated_variables(document: &ExecutableDocument) -> Vec<ServerError> {
    let mut errors = Vec::new();
    for (_, operation) in document.operations.iter() {
        let mut names = HashSet::new();
        for variable in &operation.node.variable_definitions {
            let name = &variable.node.name;
            if !names.insert(&name.node) {
                let message = format!("the variable `${}` is declared twice", name.node);
                errors.push(about(&name.node, message, Some(name.pos)));
            }
        }
    }
    errors
}

/// Returns errors for root fields of mutations that would still be executed twice: those in named
/// fragments, and in fragments with conditions.
pub(super) fn repeated_root_fields(document: &ExecutableDocument) -> Vec<ServerError> {
    let mut errors = Vec::new();
    for (_, operation) in document.operations.iter() {
        if operation.node.ty == OperationType::Mutation {
            let mut keys = HashSet::new();
            roots(document, &operation.node.selection_set.node, &mut keys, &mut errors, 0);
        }
    }
    errors
}

fn roots<'a>(
    document: &'a ExecutableDocument,
    set: &'a SelectionSet,
    keys: &mut HashSet<&'a Name>,
    errors: &mut Vec<ServerError>,
    level: usize,
) {
    for selection in &set.items {
        if errors.len() >= 20 || level > limits::DOCUMENT_NESTING {
            return;
        }
        match &selection.node {
            Selection::Field(field) => {
                let key = &field.node.response_key().node;
                if field.node.name.node != "__typename" && !keys.insert(key) {
                    let message = format!("`{key}` is selected twice at the root of the mutation: select it once");
                    errors.push(ServerError::new(message, Some(selection.pos)));
                }
            }
            Selection::InlineFragment(inline) => {
                roots(document, &inline.node.selection_set.node, keys, errors, level + 1);
            }
            Selection::FragmentSpread(spread) => {
                if let Some(fragment) = document.fragments.get(&spread.node.fragment_name.node) {
                    roots(document, &fragment.node.selection_set.node, keys, errors, level + 1);
                }
            }
        }
    }
}

//! Fields that are asked for twice are executed once: the executor would execute each of them, and a mutation would be carried
//! out twice.

use std::collections::{HashMap, HashSet};

use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, Field, FragmentDefinition, OperationDefinition, OperationType, Selection,
    SelectionSet,
};
use async_graphql::{Name, Positioned, ServerError};

use super::types::Types;
use crate::kernel::limits;

type Fragments = HashMap<Name, Positioned<FragmentDefinition>>;

/// Merges the fields of each selection that have the same key and the same directives; at the root of a mutation those of
/// its fragments, too.
pub(super) fn merge(types: &Types, document: &mut ExecutableDocument) {
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
        within(set);
    }
    for fragment in fragments.values_mut() {
        within(&mut fragment.node.selection_set.node);
    }
}

/// Writes out the inline fragments of a root that always apply; all others stay as they are.
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
        // A named fragment stays known to the validation as used only where it is spread.
        let stays = matches!(item.node, Selection::FragmentSpread(_));
        if !directives.is_empty() || stays || level > limits::DOCUMENT_NESTING || !condition.is_none_or(is_root) {
            flat.push(item);
        } else {
            let inner = set.items.clone();
            flatten(types, fragments, inner, flat, level + 1);
        }
    }
}

fn within(set: &mut SelectionSet) {
    let mut known: HashMap<Name, Vec<usize>> = HashMap::new();
    let mut kept: Vec<Positioned<Selection>> = Vec::with_capacity(set.items.len());
    for item in std::mem::take(&mut set.items) {
        if let Selection::Field(field) = &item.node {
            let alike = known.entry(field.node.response_key().node.clone()).or_default();
            let first = alike.iter().copied().find(|at| is_like(kept.get(*at), &field.node));
            match first.and_then(|at| kept.get_mut(at)) {
                Some(Positioned { node: Selection::Field(first), .. }) => {
                    first.node.selection_set.node.items.extend(field.node.selection_set.node.items.iter().cloned());
                    continue;
                }
                _ => alike.push(kept.len()),
            }
        }
        kept.push(item);
    }
    for item in &mut kept {
        match &mut item.node {
            Selection::Field(field) => within(&mut field.node.selection_set.node),
            Selection::InlineFragment(inline) => within(&mut inline.node.selection_set.node),
            Selection::FragmentSpread(_) => {}
        }
    }
    set.items = kept;
}

fn is_like(first: Option<&Positioned<Selection>>, field: &Field) -> bool {
    let Some(Positioned { node: Selection::Field(first), .. }) = first else { return false };
    let directives = |field: &Field| -> Vec<_> {
        field.directives.iter().map(|of| (of.node.name.node.clone(), of.node.arguments.clone())).collect()
    };
    first.node.name.node == field.name.node && directives(&first.node) == directives(field)
}

/// The root fields of mutations that would still be carried out twice: those of named fragments, and of conditions.
pub(super) fn twice(document: &ExecutableDocument) -> Vec<ServerError> {
    let mut wrong = Vec::new();
    for (_, operation) in document.operations.iter() {
        if operation.node.ty == OperationType::Mutation {
            let mut keys = HashSet::new();
            roots(document, &operation.node.selection_set.node, &mut keys, &mut wrong, 0);
        }
    }
    wrong
}

fn roots<'a>(
    document: &'a ExecutableDocument,
    set: &'a SelectionSet,
    keys: &mut HashSet<&'a Name>,
    wrong: &mut Vec<ServerError>,
    level: usize,
) {
    for selection in &set.items {
        if wrong.len() >= 20 || level > limits::DOCUMENT_NESTING {
            return;
        }
        match &selection.node {
            Selection::Field(field) => {
                let key = &field.node.response_key().node;
                if field.node.name.node != "__typename" && !keys.insert(key) {
                    let message = format!("`{key}` comes twice at the root of the mutation: write it once");
                    wrong.push(ServerError::new(message, Some(selection.pos)));
                }
            }
            Selection::InlineFragment(inline) => {
                roots(document, &inline.node.selection_set.node, keys, wrong, level + 1);
            }
            Selection::FragmentSpread(spread) => {
                if let Some(fragment) = document.fragments.get(&spread.node.fragment_name.node) {
                    roots(document, &fragment.node.selection_set.node, keys, wrong, level + 1);
                }
            }
        }
    }
}

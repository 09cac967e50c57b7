//! Names the field that an error of the executor's validation is about.

use async_graphql::ServerError;
use async_graphql::parser::types::{ExecutableDocument, Selection, SelectionSet};

use crate::kernel::{limits, quote};

/// Sets the field of those errors that lie at a field of the document: the path of its response
/// keys, which begins at the operation or fragment.
pub fn with_paths(document: &ExecutableDocument, mut errors: Vec<ServerError>) -> Vec<ServerError> {
    errors.truncate(limits::REPORTED_ERRORS);
    let operations = document.operations.iter().map(|(_, operation)| &operation.node.selection_set.node);
    let fragments = document.fragments.values().map(|fragment| &fragment.node.selection_set.node);
    let mut path = Vec::new();
    for set in operations.chain(fragments) {
        within(set, &mut path, &mut errors);
    }
    errors
}

fn within<'a>(set: &'a SelectionSet, path: &mut Vec<&'a str>, errors: &mut [ServerError]) {
    for selection in &set.items {
        match &selection.node {
            Selection::Field(field) => {
                path.push(field.node.response_key().node.as_str());
                let here = |error: &&mut ServerError| {
                    error.extensions.is_none() && error.locations.first() == Some(&field.pos)
                };
                for error in errors.iter_mut().filter(here) {
                    let shown: Vec<String> = path.iter().map(|key| quote::printable(key)).collect();
                    let at: String = shown.join(".").chars().take(limits::ERROR_MESSAGE_CHARS).collect();
                    error.extensions.get_or_insert_default().set("field", at);
                }
                within(&field.node.selection_set.node, path, errors);
                path.pop();
            }
            Selection::InlineFragment(inline) => within(&inline.node.selection_set.node, path, errors),
            Selection::FragmentSpread(_) => {}
        }
    }
}

/// The name that a message of the validation is about: the first one in quotes.
pub(super) fn quoted(message: &str) -> Option<&str> {
    const ABOUT: [&str; 10] = [
        "Unknown field ",
        "Unknown argument ",
        "Unknown type ",
        "Unknown directive ",
        "Unknown fragment",
        "Field",
        "Fragment ",
        "Variable ",
        "Directive ",
        "Duplicate directive ",
    ];
    if !ABOUT.iter().any(|begins| message.starts_with(begins)) {
        return None;
    }
    let name = message.split('"').nth(1)?.trim_start_matches(['@', '$']);
    (!name.is_empty()).then_some(name)
}

//! Names the field that an error of a document is about: the path of the field's response keys; the
//! name of the argument, variable, fragment, directive, type or operation; otherwise the parameter of
//! the request that has the document.

use async_graphql::parser::types::{ExecutableDocument, Selection, SelectionSet};
use async_graphql::{PathSegment, Pos, ServerError};

use crate::kernel::{limits, quote};

/// The request's parameter with the document, for errors that are about no named part of it.
pub const DOCUMENT_PARAMETER: &str = "query";

/// An error of a document rule about a name in the document.
pub(super) fn about(name: &str, message: impl Into<String>, pos: Option<Pos>) -> ServerError {
    let mut error = ServerError::new(message, pos);
    error.extensions.get_or_insert_default().set("field", quote::printable(name));
    error
}

/// The field of an error that has none: the path in the response, the name that the message is about,
/// or the document.
pub(super) fn field_of(error: &ServerError) -> String {
    let mut path = String::new();
    for segment in &error.path {
        match segment {
            PathSegment::Field(key) if path.is_empty() => path.push_str(&quote::printable(key)),
            PathSegment::Field(key) => path.extend([".", &quote::printable(key)]),
            PathSegment::Index(index) => path.push_str(&format!("[{index}]")),
        }
    }
    match path.is_empty() {
        true => quoted(&error.message).unwrap_or(DOCUMENT_PARAMETER).to_owned(),
        false => path.chars().take(limits::ERROR_MESSAGE_CHARS).collect(),
    }
}

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

/// The name that a message of the executor's validation is about: the first one in quotes, or the
/// condition of an inline fragment, which stands after the type around it.
fn quoted(message: &str) -> Option<&str> {
    const ABOUT: [&str; 14] = [
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
        "There can only be one ",
        "Invalid value for argument ",
        "Invalid default value for argument",
        "Cannot spread fragment ",
    ];
    if !ABOUT.iter().any(|begins| message.starts_with(begins)) {
        return None;
    }
    let nth = if message.starts_with("Fragment cannot be spread here ") { 3 } else { 1 };
    let name = message.split('"').nth(nth)?.trim_start_matches(['@', '$']);
    (!name.is_empty()).then_some(name)
}

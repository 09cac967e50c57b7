//! Rejects directives that are unknown, misplaced, repeated or without their argument: rules 5.7 and
//! 5.4 of the specification. The executor's validation sees neither those of variable definitions
//! nor those of `__typename`.

use std::collections::HashSet;

use async_graphql::parser::types::{Directive, ExecutableDocument, Selection, SelectionSet};
use async_graphql::{Name, Pos, Positioned, ServerError};

use super::fields::about;
use crate::kernel::limits;
use crate::kernel::validate;

/// The directives of executable documents. Each is for fields and fragments, stands at most once at
/// each, and takes `if`, which is required.
const KNOWN: [&str; 2] = ["skip", "include"];

/// The directives of the schema's own text.
const OF_SCHEMAS: [&str; 3] = ["deprecated", "specifiedBy", "oneOf"];

/// Returns the errors in a document's directives.
pub(super) fn misplaced(document: &ExecutableDocument) -> Vec<ServerError> {
    let mut errors = Vec::new();
    for (_, operation) in document.operations.iter() {
        let operation = &operation.node;
        none_at("an operation", &operation.directives, &mut errors);
        for variable in &operation.variable_definitions {
            none_at("the definition of a variable", &variable.node.directives, &mut errors);
        }
        selections(&operation.selection_set.node, &mut errors);
    }
    for fragment in document.fragments.values() {
        none_at("the definition of a fragment", &fragment.node.directives, &mut errors);
        selections(&fragment.node.selection_set.node, &mut errors);
    }
    errors.sort_by_key(|error: &ServerError| error.locations.first().copied().map(|pos| (pos.line, pos.column)));
    errors.truncate(limits::REPORTED_ERRORS);
    errors
}

/// Rejects all directives, at a place where none may stand.
fn none_at(place: &str, directives: &[Positioned<Directive>], errors: &mut Vec<ServerError>) {
    for directive in directives {
        if is_known(directive, errors) {
            let name = &directive.node.name.node;
            push(errors, name, directive.pos, format!("the directive `@{name}` can't be used on {place}"));
        }
    }
}

/// Walks selections. Their nesting is bounded by the parser.
fn selections(set: &SelectionSet, errors: &mut Vec<ServerError>) {
    for selection in &set.items {
        check(selection.node.directives(), errors);
        match &selection.node {
            Selection::Field(field) => selections(&field.node.selection_set.node, errors),
            Selection::InlineFragment(inline) => selections(&inline.node.selection_set.node, errors),
            Selection::FragmentSpread(_) => {}
        }
    }
}

/// Checks the directives of one selection.
fn check(directives: &[Positioned<Directive>], errors: &mut Vec<ServerError>) {
    let mut seen = HashSet::new();
    for directive in directives {
        let name = &directive.node.name.node;
        if !is_known(directive, errors) {
            continue;
        }
        if !KNOWN.contains(&name.as_str()) {
            push(errors, name, directive.pos, format!("the directive `@{name}` is for schemas only"));
        } else if !seen.insert(name) {
            push(errors, name, directive.pos, format!("the directive `@{name}` is repeated: give it once"));
        } else {
            arguments(directive, name, errors);
        }
    }
}

fn arguments(directive: &Positioned<Directive>, name: &Name, errors: &mut Vec<ServerError>) {
    let mut has_condition = false;
    for (argument, _) in &directive.node.arguments {
        if argument.node != "if" {
            let argument_name = validate::printable(&argument.node);
            push(errors, name, argument.pos, format!("the directive `@{name}` has no argument `{argument_name}`"));
        } else if std::mem::replace(&mut has_condition, true) {
            push(errors, "if", argument.pos, format!("the argument `if` of `@{name}` is given twice"));
        }
    }
    if !has_condition {
        push(errors, name, directive.pos, format!("the directive `@{name}` requires the argument `if`"));
    }
}

fn is_known(directive: &Positioned<Directive>, errors: &mut Vec<ServerError>) -> bool {
    let name = directive.node.name.node.as_str();
    let known = KNOWN.contains(&name) || OF_SCHEMAS.contains(&name);
    if !known {
        push(errors, name, directive.pos, format!("unknown directive `@{}`", validate::printable(name)));
    }
    known
}

fn push(errors: &mut Vec<ServerError>, name: &str, pos: Pos, message: String) {
    // The last ones are cut off after they are sorted.
    if errors.len() < 2 * limits::REPORTED_ERRORS {
        errors.push(about(name, message, Some(pos)));
    }
}

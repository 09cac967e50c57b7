//! Takes the operations of a document apart. The executor validates and counts a document as a
//! whole, with the variables of one request, which belong to one operation only.

use std::collections::HashSet;

use async_graphql::parser::types::{
    BaseType, DocumentOperations, ExecutableDocument, OperationDefinition, Selection, SelectionSet, Type,
};
use async_graphql::{Name, Positioned, Request, Value, Variables};

/// Returns the document with one of its operations and the fragments that it uses.
pub(super) fn alone(document: &ExecutableDocument, name: Option<&str>) -> ExecutableDocument {
    match among_others(document, name) {
        Some(found) => with_fragments(document, found, &uses(document, &found.1.node)),
        None => document.clone(),
    }
}

/// Returns the document with one of its operations, and without the fragments that only others use.
/// Validation rejects fragments that no operation uses.
pub(super) fn with_unused_fragments(document: &ExecutableDocument, name: Option<&str>) -> ExecutableDocument {
    let Some(found) = among_others(document, name) else { return document.clone() };
    let mut kept = uses(document, &found.1.node);
    let mut used = HashSet::new();
    for (_, operation) in document.operations.iter() {
        used.extend(uses(document, &operation.node));
    }
    kept.extend(document.fragments.keys().filter(|name| !used.contains(name)));
    with_fragments(document, found, &kept)
}

/// Makes requests for all operations but one, each alone, one after the other. Required variables get a value of their
/// type where the size of a list depends on it.
pub(super) fn others<'a>(
    document: &'a ExecutableDocument,
    name: Option<&'a str>,
) -> impl Iterator<Item = Request> + Send + 'a {
    let all = match &document.operations {
        DocumentOperations::Multiple(all) => Some(all),
        DocumentOperations::Single(_) => None,
    };
    let others = all.into_iter().flatten().filter(move |(of, _)| name.is_some_and(|name| of.as_str() != name));
    let request = move |(of, operation): (&Name, &Positioned<OperationDefinition>)| {
        let mut variables = Variables::default();
        for definition in operation.node.variable_definitions.iter().map(|definition| &definition.node) {
            let ty = &definition.var_type.node;
            if let Some(value) = placeholder(ty).filter(|_| !ty.nullable && definition.default_value.is_none()) {
                variables.insert(definition.name.node.clone(), value);
            }
        }
        let mut request = Request::new("").variables(variables).operation_name(of.to_string());
        request.set_parsed_query(alone(document, Some(of)));
        request
    };
    others.map(request)
}

/// A value of a type from which the executor computes the size of lists.
fn placeholder(ty: &Type) -> Option<Value> {
    match &ty.base {
        BaseType::List(_) => Some(Value::List(Vec::new())),
        BaseType::Named(name) => match name.as_str() {
            "Int" => Some(Value::from(0)),
            "ID" | "String" => Some(Value::from("")),
            _ => None,
        },
    }
}

type Found<'a> = (&'a Name, &'a Positioned<OperationDefinition>);

/// Returns an operation of a document that has others.
fn among_others<'a>(document: &'a ExecutableDocument, name: Option<&str>) -> Option<Found<'a>> {
    let DocumentOperations::Multiple(all) = &document.operations else { return None };
    all.get_key_value(name?).filter(|_| all.len() > 1)
}

fn with_fragments(document: &ExecutableDocument, found: Found<'_>, kept: &HashSet<&Name>) -> ExecutableDocument {
    let (name, operation) = found;
    let kept = document.fragments.iter().filter(|(name, _)| kept.contains(name));
    ExecutableDocument {
        operations: DocumentOperations::Multiple([(name.clone(), operation.clone())].into_iter().collect()),
        fragments: kept.map(|(name, fragment)| (name.clone(), fragment.clone())).collect(),
    }
}

/// Returns the fragments that an operation uses, also through others.
fn uses<'a>(document: &'a ExecutableDocument, operation: &'a OperationDefinition) -> HashSet<&'a Name> {
    let mut found = HashSet::new();
    collect(document, &operation.selection_set.node, &mut found);
    found
}

fn collect<'a>(document: &'a ExecutableDocument, set: &'a SelectionSet, found: &mut HashSet<&'a Name>) {
    for selection in &set.items {
        match &selection.node {
            Selection::Field(field) => collect(document, &field.node.selection_set.node, found),
            Selection::InlineFragment(inline) => collect(document, &inline.node.selection_set.node, found),
            Selection::FragmentSpread(spread) => {
                let name = &spread.node.fragment_name.node;
                if let Some(fragment) = document.fragments.get(name).filter(|_| found.insert(name)) {
                    collect(document, &fragment.node.selection_set.node, found);
                }
            }
        }
    }
}

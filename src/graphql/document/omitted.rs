//! Removes nullable variables without a value from a document: their arguments and fields count as
//! not given.

use std::collections::HashSet;

use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, OperationDefinition, Selection, SelectionSet,
};
use async_graphql::{Name, Positioned};
use async_graphql_value::Value;

/// Removes the uses of variables without a value: arguments and input fields are omitted, list
/// items become null.
pub(super) fn remove_absent(document: &mut ExecutableDocument, absent: &[Name]) {
    let absent: &HashSet<&Name> = &absent.iter().collect();
    let each: Vec<&mut Positioned<OperationDefinition>> = match &mut document.operations {
        DocumentOperations::Single(operation) => vec![operation],
        DocumentOperations::Multiple(all) => all.values_mut().collect(),
    };
    for operation in each {
        operation.node.variable_definitions.retain(|definition| !absent.contains(&definition.node.name.node));
        leave_out_of(&mut operation.node.selection_set.node, absent);
    }
    for fragment in document.fragments.values_mut() {
        leave_out_of(&mut fragment.node.selection_set.node, absent);
    }
}

fn leave_out_of(set: &mut SelectionSet, absent: &HashSet<&Name>) {
    for selection in &mut set.items {
        match &mut selection.node {
            Selection::Field(field) => {
                let has_value = |name: &Name| !absent.contains(name);
                field.node.arguments.retain_mut(|(_, value)| strip_absent(&mut value.node, &has_value));
                leave_out_of(&mut field.node.selection_set.node, absent);
            }
            Selection::InlineFragment(inline) => leave_out_of(&mut inline.node.selection_set.node, absent),
            Selection::FragmentSpread(_) => {}
        }
    }
}

/// Removes variables without a value from a value; returns false if the value itself is such a
/// variable.
pub fn strip_absent(value: &mut Value, has_value: &dyn Fn(&Name) -> bool) -> bool {
    match value {
        Value::Variable(name) => return has_value(name),
        Value::List(items) => {
            for item in items {
                if !strip_absent(item, has_value) {
                    *item = Value::Null;
                }
            }
        }
        Value::Object(fields) => fields.retain(|_, item| strip_absent(item, has_value)),
        _ => {}
    }
    true
}

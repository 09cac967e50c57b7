//! Nullable variables without a value: what they would give is not given.

use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, OperationDefinition, Selection, SelectionSet,
};
use async_graphql::{Name, Positioned};
use async_graphql_value::Value;

/// Takes out of a document what is given by variables without a value: arguments and fields of input objects are then not
/// given, items of lists are null.
pub(super) fn leave_out(document: &mut ExecutableDocument, absent: &[Name]) {
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

fn leave_out_of(set: &mut SelectionSet, absent: &[Name]) {
    for selection in &mut set.items {
        match &mut selection.node {
            Selection::Field(field) => {
                let has_value = |name: &Name| !absent.contains(name);
                field.node.arguments.retain_mut(|(_, value)| keep(&mut value.node, &has_value));
                leave_out_of(&mut field.node.selection_set.node, absent);
            }
            Selection::InlineFragment(inline) => leave_out_of(&mut inline.node.selection_set.node, absent),
            Selection::FragmentSpread(_) => {}
        }
    }
}

/// Keeps of a value what has one: false for a variable without a value, and such variables are taken out of objects.
pub fn keep(value: &mut Value, has_value: &dyn Fn(&Name) -> bool) -> bool {
    match value {
        Value::Variable(name) => return has_value(name),
        Value::List(items) => {
            for item in items {
                if !keep(item, has_value) {
                    *item = Value::Null;
                }
            }
        }
        Value::Object(fields) => fields.retain(|_, item| keep(item, has_value)),
        _ => {}
    }
    true
}

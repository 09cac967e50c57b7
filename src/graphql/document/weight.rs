//! Size of a parsed document in memory, which is up to a hundred times that of its text: `a ` is two
//! bytes of text and a field with five empty lists.

use async_graphql::parser::types::{Directive, ExecutableDocument, Selection, SelectionSet};
use async_graphql::{Name, Positioned, Value as ConstValue};
use async_graphql_value::Value;

use super::key_order::{Below, Shape};

/// Approximate size of a field or value in memory, in bytes, besides its text. A field takes some
/// 200, its name 50 more. A value takes 72 in each of its copies: in the checked request, in the
/// executor's, and as an argument.
pub(super) const EACH: usize = 250;

/// Size of a value or of a field of an object where expanded variables are bounded, besides its text.
/// A body without fragments has at most one value for each two bytes, and always passes.
const EXPANDED: usize = 32;

/// Approximate size of a key of an answer's shape, in bytes.
const KEY: usize = 150;

/// Returns the approximate size of a document.
pub(super) fn of(document: &ExecutableDocument) -> usize {
    let operations = document.operations.iter().map(|(_, operation)| {
        let operation = &operation.node;
        let variables = operation.variable_definitions.iter().map(|definition| {
            let default = definition.node.default_value.as_ref().map_or(0, |value| bytes(&value.node));
            EACH + definition.node.name.node.len() + default + directives(&definition.node.directives)
        });
        EACH + variables.sum::<usize>() + directives(&operation.directives) + selections(&operation.selection_set.node)
    });
    let fragments = document
        .fragments
        .values()
        .map(|fragment| EACH + directives(&fragment.node.directives) + selections(&fragment.node.selection_set.node));
    operations.sum::<usize>() + fragments.sum::<usize>()
}

/// Returns the approximate size of an answer's shape.
pub(super) fn of_shape(shape: &Shape) -> usize {
    let below = |below: &Below| match below {
        Below::Leaf => 0,
        Below::Object(shape) => of_shape(shape),
        Below::Abstract(shapes) => shapes.values().map(|shape| KEY + of_shape(shape)).sum(),
    };
    shape.keys.iter().map(|key| KEY + below(&key.below)).sum()
}

/// Returns the approximate size of a value, in all copies that a request holds.
pub(super) fn bytes(value: &ConstValue) -> usize {
    measured(value, EACH, field)
}

/// Returns the size of a value by which expanded variables are bounded.
pub(super) fn expanded(value: &ConstValue) -> usize {
    measured(value, EXPANDED, |name, value| EXPANDED + name.len() + value)
}

fn measured(value: &ConstValue, each: usize, field: fn(&Name, usize) -> usize) -> usize {
    let below = match value {
        ConstValue::String(text) => text.len(),
        ConstValue::Binary(bytes) => bytes.len(),
        ConstValue::Enum(name) => name.len(),
        ConstValue::List(items) => items.iter().map(|item| measured(item, each, field)).sum(),
        ConstValue::Object(fields) => {
            fields.iter().map(|(name, value)| field(name, measured(value, each, field))).sum()
        }
        ConstValue::Null | ConstValue::Number(_) | ConstValue::Boolean(_) => 0,
    };
    each + below
}

/// The size of a field of an object: its name is shared by the copies of the value.
fn field(name: &Name, value: usize) -> usize {
    2 * name.len() + 64 + value
}

/// Recurses into selections, whose nesting the parser bounds.
fn selections(set: &SelectionSet) -> usize {
    let selection = |selection: &Positioned<Selection>| {
        let below = match &selection.node {
            Selection::Field(field) => {
                let field = &field.node;
                let alias = field.alias.as_ref().map_or(0, |alias| alias.node.len());
                let arguments =
                    field.arguments.iter().map(|(name, value)| EACH + name.node.len() + literal(&value.node));
                let arguments = arguments.sum::<usize>();
                alias + field.name.node.len() + arguments + selections(&field.selection_set.node)
            }
            Selection::InlineFragment(inline) => selections(&inline.node.selection_set.node),
            Selection::FragmentSpread(spread) => spread.node.fragment_name.node.len(),
        };
        EACH + directives(selection.node.directives()) + below
    };
    set.items.iter().map(selection).sum()
}

fn directives(all: &[Positioned<Directive>]) -> usize {
    let directive = |directive: &Positioned<Directive>| {
        let arguments = directive.node.arguments.iter().map(|(name, value)| name.node.len() + literal(&value.node));
        EACH + directive.node.name.node.len() + arguments.sum::<usize>()
    };
    all.iter().map(directive).sum()
}

fn literal(value: &Value) -> usize {
    match value {
        Value::Variable(name) | Value::Enum(name) => EACH + name.len(),
        Value::String(text) => EACH + text.len(),
        Value::Binary(bytes) => EACH + bytes.len(),
        Value::List(items) => EACH + items.iter().map(literal).sum::<usize>(),
        Value::Object(fields) => EACH + fields.iter().map(|(name, value)| field(name, literal(value))).sum::<usize>(),
        Value::Null | Value::Number(_) | Value::Boolean(_) => EACH,
    }
}

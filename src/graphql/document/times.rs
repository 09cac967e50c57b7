//! Truncates times in a document to microseconds before execution. The databases store no more, so
//! a stored time equals the time given. Variables are truncated where they are checked.

use async_graphql::parser::types::{
    BaseType, DocumentOperations, ExecutableDocument, OperationType, Selection, SelectionSet, Type,
};
use async_graphql_value::Value;
use chrono::{DateTime, SecondsFormat, Utc};

use super::types::{Fields, Slot, Types};
use crate::kernel::storable;

/// Returns the truncated text of a time; none if it does not change, or is rejected elsewhere.
pub(super) fn truncated(text: &str) -> Option<String> {
    let time = text.parse::<DateTime<Utc>>().ok()?;
    let truncated = storable::time(time).ok().filter(|truncated| *truncated != time)?;
    Some(truncated.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

/// Truncates the time literals of a document.
pub(super) fn truncate_all(types: &Types, document: &mut ExecutableDocument) {
    let operations = match &mut document.operations {
        DocumentOperations::Single(operation) => vec![operation],
        DocumentOperations::Multiple(all) => all.values_mut().collect(),
    };
    for operation in operations {
        let root = match operation.node.ty {
            OperationType::Query => &types.query,
            OperationType::Mutation => &types.mutation,
            OperationType::Subscription => &types.subscription,
        };
        let fields = root.as_ref().and_then(|root| types.objects.get(root));
        selections(types, fields, &mut operation.node.selection_set.node);
    }
    for fragment in document.fragments.values_mut() {
        let fields = types.objects.get(&fragment.node.type_condition.node.on.node);
        selections(types, fields, &mut fragment.node.selection_set.node);
    }
}

fn selections(types: &Types, fields: Option<&Fields>, set: &mut SelectionSet) {
    for selection in &mut set.items {
        match &mut selection.node {
            Selection::Field(field) => {
                let field = &mut field.node;
                let known = fields.and_then(|fields| fields.get(&field.name.node));
                let slots = known.map(|known| known.arguments.as_slice()).unwrap_or_default();
                for (name, given) in &mut field.arguments {
                    if let Some(slot) = slots.iter().find(|slot| slot.name == name.node) {
                        value(types, &slot.ty, &mut given.node);
                    }
                }
                let below = known.and_then(|known| types.objects.get(&known.ty));
                selections(types, below, &mut field.selection_set.node);
            }
            Selection::InlineFragment(inline) => {
                let fields = match &inline.node.type_condition {
                    Some(condition) => types.objects.get(&condition.node.on.node),
                    None => fields,
                };
                selections(types, fields, &mut inline.node.selection_set.node);
            }
            Selection::FragmentSpread(_) => {}
        }
    }
}

fn value(types: &Types, ty: &Type, given: &mut Value) {
    match (&ty.base, given) {
        (BaseType::List(of), Value::List(items)) => items.iter_mut().for_each(|item| value(types, of, item)),
        (BaseType::List(of), single) => value(types, of, single),
        (BaseType::Named(name), Value::Object(fields)) => {
            let slots: &[Slot] = types.inputs.get(name).map(Vec::as_slice).unwrap_or_default();
            for slot in slots {
                if let Some(item) = fields.get_mut(&slot.name) {
                    value(types, &slot.ty, item);
                }
            }
        }
        (BaseType::Named(name), Value::String(text)) if name == "DateTime" => {
            if let Some(truncated) = truncated(text) {
                *text = truncated;
            }
        }
        _ => {}
    }
}

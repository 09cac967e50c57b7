//! Rejects variables whose type does not match their position: the specification's rule 5.8.5. The
//! executor's own rule ignores lists and input objects.

use std::collections::HashMap;

use async_graphql::parser::types::{BaseType, Type, VariableDefinition};
use async_graphql::{Name, Positioned};
use async_graphql_value::ConstValue;

use super::values::{Problem, Use};
use crate::kernel::error::Refusal;
use crate::kernel::limits;

/// The uses of each variable, in the order of the document.
pub(super) type ByName<'a> = HashMap<&'a Name, Vec<&'a Use>>;

/// Groups uses by variable: a document may have thousands of both.
pub(super) fn by_name(uses: &[Use]) -> ByName<'_> {
    let mut all = ByName::new();
    for found in uses {
        all.entry(&found.variable).or_default().push(found);
    }
    all
}

/// Returns the disallowed usages of an operation's variables.
pub(super) fn disallowed_usages(definitions: &[Positioned<VariableDefinition>], uses: &ByName<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for Positioned { node: definition, .. } in definitions {
        for found in uses.get(&definition.name.node).into_iter().flatten() {
            let Some(ty) = found.ty.as_ref().filter(|ty| !is_allowed(definition, ty, found.default.is_some())) else {
                continue;
            };
            if problems.len() >= limits::REPORTED_ERRORS {
                return problems;
            }
            let (name, declared) = (&definition.name.node, &definition.var_type.node);
            let message = format!("the variable `${name}` of type `{declared}` is used where `{ty}` is expected");
            problems.push(Problem { refusal: Refusal::input(&found.path, message), pos: found.pos });
        }
    }
    problems
}

fn is_allowed(definition: &VariableDefinition, position: &Type, position_has_default: bool) -> bool {
    let ty = &definition.var_type.node;
    let default = definition.default_value.as_ref().map(|value| &value.node);
    let has_default = default.is_some_and(|value| *value != ConstValue::Null);
    if !position.nullable && ty.nullable {
        // A value exists in either case; an explicit null is rejected by the check of values.
        return (has_default || position_has_default) && fits_base(&ty.base, &position.base);
    }
    fits(ty, position)
}

fn fits(ty: &Type, position: &Type) -> bool {
    (position.nullable || !ty.nullable) && fits_base(&ty.base, &position.base)
}

fn fits_base(ty: &BaseType, position: &BaseType) -> bool {
    match (ty, position) {
        (BaseType::List(ty), BaseType::List(position)) => fits(ty, position),
        (BaseType::Named(ty), BaseType::Named(position)) => ty == position,
        _ => false,
    }
}

//! Variables where their type does not fit: the specification's rule 5.8.5. The executor's own rule does not look into lists
//! and input objects.

use async_graphql::Positioned;
use async_graphql::parser::types::{BaseType, Type, VariableDefinition};
use async_graphql_value::ConstValue;

use super::values::{Problem, Use};
use crate::kernel::error::Refusal;
use crate::kernel::limits;

/// The usages of an operation's variables that the rule does not allow.
pub(super) fn wrong(definitions: &[Positioned<VariableDefinition>], uses: &[Use]) -> Vec<Problem> {
    let mut wrong = Vec::new();
    for Positioned { node: definition, .. } in definitions {
        for found in uses.iter().filter(|found| found.variable == definition.name.node) {
            let Some(ty) = found.ty.as_ref().filter(|ty| !is_allowed(definition, ty, found.default.is_some())) else {
                continue;
            };
            if wrong.len() >= limits::TOLD_ERRORS {
                return wrong;
            }
            let (name, declared) = (&definition.name.node, &definition.var_type.node);
            let message = format!("the variable `${name}` of type `{declared}` stands where `{ty}` is expected");
            wrong.push(Problem { refusal: Refusal::input(&found.path, message), pos: found.pos });
        }
    }
    wrong
}

fn is_allowed(definition: &VariableDefinition, place: &Type, place_has_default: bool) -> bool {
    let ty = &definition.var_type.node;
    let default = definition.default_value.as_ref().map(|value| &value.node);
    let has_default = default.is_some_and(|value| *value != ConstValue::Null);
    if !place.nullable && ty.nullable {
        // A value is there either way; null, where it is given, is refused with the values.
        return (has_default || place_has_default) && fits_base(&ty.base, &place.base);
    }
    fits(ty, place)
}

fn fits(ty: &Type, place: &Type) -> bool {
    (place.nullable || !ty.nullable) && fits_base(&ty.base, &place.base)
}

fn fits_base(ty: &BaseType, place: &BaseType) -> bool {
    match (ty, place) {
        (BaseType::List(ty), BaseType::List(place)) => fits(ty, place),
        (BaseType::Named(ty), BaseType::Named(place)) => ty == place,
        _ => false,
    }
}

//! The schema's types as a table: arguments, input objects, enums, and the fields of each type.
//! Read once from the printed schema, so it cannot differ from what clients see.

use std::collections::HashMap;
use std::sync::LazyLock;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    BaseType, InputValueDefinition, OperationType, Type, TypeKind, TypeSystemDefinition,
};
use async_graphql::{Name, Positioned, Value as ConstValue};

use super::introspection;

/// An argument, or a field of an input object.
#[derive(Debug)]
pub(super) struct Slot {
    pub name: Name,
    pub ty: Type,
    pub default: Option<ConstValue>,
}

impl Slot {
    /// True if a value is required.
    pub(super) fn required(&self) -> bool {
        !self.ty.nullable && self.default.is_none()
    }
}

/// A field of an object or interface.
#[derive(Debug)]
pub(super) struct Field {
    /// The innermost type, without lists and non-null.
    pub ty: Name,
    /// The full type.
    pub whole: Type,
    pub arguments: Vec<Slot>,
}

/// The fields of an object or interface, by name.
pub(super) type Fields = HashMap<Name, Field>;

/// The types of a schema.
#[derive(Debug, Default)]
pub(super) struct Types {
    pub inputs: HashMap<Name, Vec<Slot>>,
    pub enums: HashMap<Name, Vec<Name>>,
    pub scalars: Vec<Name>,
    pub objects: HashMap<Name, Fields>,
    /// Object types of each interface and union.
    pub possible: HashMap<Name, Vec<Name>>,
    pub query: Option<Name>,
    pub mutation: Option<Name>,
    pub subscription: Option<Name>,
}

/// Returns the types of this program's schema.
pub(super) fn all() -> &'static Types {
    static ALL: LazyLock<Types> = LazyLock::new(|| {
        Types::read(&crate::graphql::sdl()).unwrap_or_else(|err| {
            // Without the table, all checks are left to the executor.
            tracing::error!(error = %err, "parsing the printed schema failed");
            Types::default()
        })
    });
    &ALL
}

impl Types {
    fn read(sdl: &str) -> Result<Self, async_graphql::parser::Error> {
        let mut types = Self::default();
        let mut definitions = parse_schema(sdl)?.definitions;
        definitions.extend(parse_schema(introspection::TYPES)?.definitions);
        for definition in definitions {
            match definition {
                TypeSystemDefinition::Schema(schema) => {
                    types.query = schema.node.query.map(|name| name.node);
                    types.mutation = schema.node.mutation.map(|name| name.node);
                    types.subscription = schema.node.subscription.map(|name| name.node);
                }
                TypeSystemDefinition::Type(of) => types.add(of.node.name.node, of.node.kind),
                TypeSystemDefinition::Directive(_) => {}
            }
        }
        let entry = types.objects.remove(introspection::ENTRY).unwrap_or_default();
        if let Some(query) = types.query.as_ref().and_then(|query| types.objects.get_mut(query)) {
            query.extend(entry);
        }
        Ok(types)
    }

    fn add(&mut self, name: Name, kind: TypeKind) {
        match kind {
            TypeKind::Scalar => self.scalars.push(name),
            TypeKind::Object(object) => {
                for interface in object.implements {
                    self.possible.entry(interface.node).or_default().push(name.clone());
                }
                self.objects.insert(name, fields(object.fields));
            }
            TypeKind::Interface(interface) => {
                self.possible.entry(name.clone()).or_default();
                self.objects.insert(name, fields(interface.fields));
            }
            TypeKind::Union(union) => {
                self.possible.entry(name).or_default().extend(union.members.into_iter().map(|member| member.node));
            }
            TypeKind::Enum(of) => {
                self.enums.insert(name, of.values.into_iter().map(|value| value.node.value.node).collect());
            }
            TypeKind::InputObject(input) => {
                self.inputs.insert(name, slots(input.fields));
            }
        }
    }

    /// Returns the root type of an operation.
    pub(super) fn root(&self, of: OperationType) -> Option<&Name> {
        match of {
            OperationType::Query => self.query.as_ref(),
            OperationType::Mutation => self.mutation.as_ref(),
            OperationType::Subscription => self.subscription.as_ref(),
        }
    }

    /// True if a fragment with this type condition applies to the object type.
    pub(super) fn applies(&self, condition: &Name, object: &Name) -> bool {
        condition == object || self.possible.get(condition).is_some_and(|possible| possible.contains(object))
    }
}

fn fields(fields: Vec<Positioned<async_graphql::parser::types::FieldDefinition>>) -> Fields {
    let field = |field: Positioned<async_graphql::parser::types::FieldDefinition>| {
        let ty = innermost(&field.node.ty.node.base).clone();
        let whole = field.node.ty.node;
        (field.node.name.node, Field { ty, whole, arguments: slots(field.node.arguments) })
    };
    fields.into_iter().map(field).collect()
}

fn slots(slots: Vec<Positioned<InputValueDefinition>>) -> Vec<Slot> {
    let slot = |slot: Positioned<InputValueDefinition>| Slot {
        name: slot.node.name.node,
        ty: slot.node.ty.node,
        default: slot.node.default_value.map(|value| value.node),
    };
    slots.into_iter().map(slot).collect()
}

/// Returns the type without its lists.
pub(super) fn innermost(base: &BaseType) -> &Name {
    match base {
        BaseType::Named(name) => name,
        BaseType::List(item) => innermost(&item.base),
    }
}

//! Reads the arguments of an operation's fields and directives: the problems with their literals,
//! and the variables in them.

use std::collections::HashSet;

use async_graphql::parser::types::{
    BaseType, Directive, ExecutableDocument, OperationDefinition, Selection, SelectionSet, Type,
};
use async_graphql::{Name, Pos, Positioned};
use async_graphql_value::Value;

use super::types::{Fields, Slot, Types};
use super::values::{Place, Values};

/// Visits the arguments of an operation and of the fragments that it spreads, each once.
pub(super) struct Walk<'a> {
    types: &'a Types,
    document: &'a ExecutableDocument,
    pub values: Values<'a>,
    /// Names of arguments by the positions of their values.
    pub arguments: Vec<(Pos, Name)>,
    open: HashSet<&'a Name>,
}

impl<'a> Walk<'a> {
    /// Walks an operation.
    pub(super) fn of(types: &'a Types, document: &'a ExecutableDocument, operation: &'a OperationDefinition) -> Self {
        let mut walk =
            Self { types, document, values: Values::new(types), arguments: Vec::new(), open: HashSet::new() };
        let fields = types.root(operation.ty).and_then(|root| types.objects.get(root));
        walk.directives(&operation.directives);
        walk.selections(fields, &operation.selection_set.node);
        walk
    }

    /// `fields` is `None` for an unknown type, which the executor's validation reports.
    fn selections(&mut self, fields: Option<&'a Fields>, set: &'a SelectionSet) {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => {
                    let field = &field.node;
                    let known = fields.and_then(|fields| fields.get(&field.name.node));
                    self.arguments(known.map(|known| known.arguments.as_slice()), &field.arguments, selection.pos);
                    self.directives(&field.directives);
                    let below = known.and_then(|known| self.types.objects.get(&known.ty));
                    self.selections(below, &field.selection_set.node);
                }
                Selection::InlineFragment(inline) => {
                    self.directives(&inline.node.directives);
                    let fields = match &inline.node.type_condition {
                        Some(condition) => self.types.objects.get(&condition.node.on.node),
                        None => fields,
                    };
                    self.selections(fields, &inline.node.selection_set.node);
                }
                Selection::FragmentSpread(spread) => {
                    self.directives(&spread.node.directives);
                    let name = &spread.node.fragment_name.node;
                    let Some(fragment) = self.document.fragments.get(name) else { continue };
                    if self.open.insert(name) {
                        let fields = self.types.objects.get(&fragment.node.type_condition.node.on.node);
                        self.selections(fields, &fragment.node.selection_set.node);
                    }
                }
            }
        }
    }

    fn arguments(&mut self, slots: Option<&'a [Slot]>, given: &[(Positioned<Name>, Positioned<Value>)], pos: Pos) {
        for (name, value) in given {
            self.values.at(value.pos);
            self.arguments.push((value.pos, name.node.clone()));
            match slots.map(|slots| slots.iter().find(|slot| slot.name == name.node)) {
                Some(Some(slot)) => {
                    self.values.begin(&name.node, |values| values.literal(Place::from(slot), &value.node));
                }
                Some(None) => self.values.problem(&name.node, "unknown argument of this field"),
                None => self.values.begin(&name.node, |values| values.uses_within(&value.node)),
            }
        }
        for slot in slots.into_iter().flatten() {
            if slot.required() && !given.iter().any(|(name, _)| name.node == slot.name) {
                self.values.at(pos);
                self.values.problem(&slot.name, "is required");
            }
        }
    }

    fn directives(&mut self, directives: &[Positioned<Directive>]) {
        let flag = Type { base: BaseType::Named(Name::new("Boolean")), nullable: false };
        for directive in directives {
            for (name, value) in &directive.node.arguments {
                self.values.at(value.pos);
                if name.node == "if" {
                    self.values.begin("if", |values| values.literal(Place { ty: &flag, default: None }, &value.node));
                } else {
                    self.values.begin(&name.node, |values| values.uses_within(&value.node));
                }
            }
        }
    }
}

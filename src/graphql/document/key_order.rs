//! Orders a response's keys as in the document, as CollectFields in the specification requires. The
//! executor writes them in order of resolution.

use std::cell::Cell;
use std::collections::HashMap;

use async_graphql::indexmap::IndexMap;
use async_graphql::indexmap::map::Entry;
use async_graphql::parser::types::{Directive, ExecutableDocument, Selection, SelectionSet, Type};
use async_graphql::{Name, Positioned, Value, Variables};

use super::types::{self, Fields, Types};
use crate::kernel::limits;

/// Alias of the `__typename` selections that are added to objects of abstract types. It is removed
/// from the response. The space keeps it apart from all aliases of clients: no document can have it.
pub(super) const TYPE: &str = "its type";

/// The keys of an object in order.
#[derive(Debug, Default)]
pub struct Shape {
    pub(super) keys: Vec<Key>,
    /// True if something below may also be out of order.
    nested: bool,
    /// True if `__typename` was added to its selection, which the client did not request.
    typed: bool,
}

/// A key of an object.
#[derive(Debug)]
pub(super) struct Key {
    pub name: Name,
    /// The type of its value; none if unknown (introspection).
    pub ty: Option<Type>,
    pub below: Below,
}

/// The content of a key's value.
#[derive(Debug)]
pub(super) enum Below {
    /// A scalar or an enum.
    Leaf,
    /// An object of one type, or a list of them.
    Object(Shape),
    /// An object of an abstract type: its runtime type selects the shape.
    Abstract(HashMap<Name, Shape>),
}

impl Shape {
    /// Returns the shape of an operation's response.
    ///
    /// Without variables, selections that depend on them are assumed to be included; the flag is
    /// true if other variables may lead to another order.
    pub(super) fn of(
        types: &Types,
        document: &ExecutableDocument,
        root: Option<&Name>,
        set: &SelectionSet,
        variables: Option<&Variables>,
    ) -> (Self, bool) {
        let collect = Collect { types, document, variables, in_doubt: Cell::new(false) };
        let shape = collect.shape(root, &[(set, Inclusion::Certain)], 0);
        (shape, collect.in_doubt.get())
    }

    /// Orders the keys of a response's data.
    pub fn order(&self, value: &mut Value) {
        match value {
            Value::Object(object) if self.sorts() => {
                if self.typed {
                    object.shift_remove(TYPE);
                }
                if !self.is_ordered(object) {
                    self.sort(object);
                }
                if self.nested {
                    for Key { name: key, below, .. } in &self.keys {
                        match below {
                            Below::Object(shape) if !shape.sorts() => {}
                            Below::Leaf => {}
                            Below::Object(shape) => object.get_mut(key).into_iter().for_each(|item| shape.order(item)),
                            Below::Abstract(shapes) => {
                                object.get_mut(key).into_iter().for_each(|item| by_type(shapes, item))
                            }
                        }
                    }
                }
            }
            Value::List(items) => items.iter_mut().for_each(|item| self.order(item)),
            _ => {}
        }
    }

    /// True if there are keys to order or to remove.
    fn sorts(&self) -> bool {
        self.nested || self.typed || self.keys.len() > 1
    }

    fn is_ordered(&self, object: &IndexMap<Name, Value>) -> bool {
        // Keys may be missing: skipped by a directive, or because of an error.
        let mut expected = self.keys.iter();
        object.keys().all(|key| expected.any(|expected| expected.name == *key))
    }

    fn sort(&self, object: &mut IndexMap<Name, Value>) {
        let mut sorted = IndexMap::with_capacity(object.len());
        for key in &self.keys {
            if let Some((key, value)) = object.swap_remove_entry(&key.name) {
                sorted.insert(key, value);
            }
        }
        sorted.append(object);
        *object = sorted;
    }
}

fn by_type(shapes: &HashMap<Name, Shape>, value: &mut Value) {
    match value {
        Value::List(items) => items.iter_mut().for_each(|item| by_type(shapes, item)),
        Value::Object(object) => {
            let Some(Value::String(name)) = object.shift_remove(TYPE) else { return };
            if let Some(shape) = shapes.get(name.as_str()) {
                shape.order(value);
            }
        }
        _ => {}
    }
}

struct Collect<'a> {
    types: &'a Types,
    document: &'a ExecutableDocument,
    variables: Option<&'a Variables>,
    /// True once a key occurs again whose first occurrence may be skipped: its position depends on
    /// the variables.
    in_doubt: Cell<bool>,
}

/// The fields under one key, and their type.
struct Merged<'a> {
    ty: Option<&'a types::Field>,
    sets: Vec<(&'a SelectionSet, Inclusion)>,
    inclusion: Inclusion,
}

/// Effect of `@skip` and `@include` on a selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inclusion {
    Certain,
    ByVariable,
    None,
}

/// Fragments already spread, each with the inclusion of its first spread.
type Spread<'a> = Vec<(&'a Name, Inclusion)>;

impl<'a> Collect<'a> {
    fn shape(&self, object: Option<&'a Name>, sets: &[(&'a SelectionSet, Inclusion)], level: usize) -> Shape {
        let mut keys: IndexMap<&Name, Merged<'_>> = IndexMap::new();
        let fields = object.and_then(|object| self.types.objects.get(object));
        let mut spread = Vec::new();
        // A single set is there whenever its object is.
        let only = sets.len() == 1;
        for (set, inclusion) in sets {
            let inclusion = if only { Inclusion::Certain } else { *inclusion };
            self.collect(object, fields, set, inclusion, &mut spread, &mut keys);
        }
        let key = |(name, merged): (&'a Name, Merged<'a>)| {
            let ty = merged.ty.map(|field| field.whole.clone());
            Key { name: name.clone(), ty, below: self.below(merged, level) }
        };
        let keys: Vec<Key> = keys.into_iter().map(key).collect();
        let nested = keys.iter().any(|key| match &key.below {
            Below::Leaf => false,
            Below::Object(shape) => shape.sorts(),
            Below::Abstract(_) => true,
        });
        let typed = keys.iter().any(|key| key.name == TYPE);
        Shape { keys, nested, typed }
    }

    fn below(&self, Merged { ty, sets, .. }: Merged<'a>, level: usize) -> Below {
        // Nesting of documents is bounded by the parser; this bound covers documents that bypass
        // it.
        if sets.iter().all(|(set, _)| set.items.is_empty()) || level > limits::DOCUMENT_NESTING {
            return Below::Leaf;
        }
        let ty = ty.map(|field| &field.ty);
        let possible = ty.and_then(|ty| self.types.possible.get(ty));
        match possible.filter(|_| sets.iter().any(|(set, _)| selects_type(set))) {
            Some(possible) => {
                let shape = |object: &'a Name| (object.clone(), self.shape(Some(object), &sets, level + 1));
                Below::Abstract(possible.iter().map(shape).collect())
            }
            None => Below::Object(self.shape(ty, &sets, level + 1)),
        }
    }

    fn collect(
        &self,
        object: Option<&'a Name>,
        fields: Option<&'a Fields>,
        set: &'a SelectionSet,
        enclosing: Inclusion,
        spread: &mut Spread<'a>,
        keys: &mut IndexMap<&'a Name, Merged<'a>>,
    ) {
        // If the type is unknown (introspection), every fragment is assumed to apply.
        let applies = |condition: &Name| object.is_none_or(|object| self.types.applies(condition, object));
        for selection in &set.items {
            let inclusion = match (self.inclusion(selection.node.directives()), enclosing) {
                (Inclusion::None, _) => continue,
                (Inclusion::Certain, enclosing) => enclosing,
                (Inclusion::ByVariable, _) => Inclusion::ByVariable,
            };
            match &selection.node {
                Selection::Field(field) => {
                    let field = &field.node;
                    match keys.entry(&field.response_key().node) {
                        Entry::Occupied(mut found) => {
                            self.note_repeat(found.get().inclusion);
                            found.get_mut().sets.push((&field.selection_set.node, inclusion));
                        }
                        Entry::Vacant(place) => {
                            let ty = fields.and_then(|fields| fields.get(&field.name.node));
                            place.insert(Merged { ty, sets: vec![(&field.selection_set.node, inclusion)], inclusion });
                        }
                    }
                }
                Selection::InlineFragment(inline) => {
                    let condition = inline.node.type_condition.as_ref();
                    if condition.is_none_or(|condition| applies(&condition.node.on.node)) {
                        self.collect(object, fields, &inline.node.selection_set.node, inclusion, spread, keys);
                    }
                }
                Selection::FragmentSpread(of) => {
                    let name = &of.node.fragment_name.node;
                    let Some(fragment) = self.document.fragments.get(name) else { continue };
                    if let Some((_, first)) = spread.iter().find(|(found, _)| *found == name) {
                        self.note_repeat(*first);
                    } else if applies(&fragment.node.type_condition.node.on.node) {
                        spread.push((name, inclusion));
                        self.collect(object, fields, &fragment.node.selection_set.node, inclusion, spread, keys);
                    }
                }
            }
        }
    }

    fn note_repeat(&self, first: Inclusion) {
        if first == Inclusion::ByVariable {
            self.in_doubt.set(true);
        }
    }

    fn inclusion(&self, directives: &[Positioned<Directive>]) -> Inclusion {
        let mut inclusion = Inclusion::Certain;
        for Positioned { node: directive, .. } in directives {
            let skip_value = match directive.name.node.as_str() {
                "skip" => true,
                "include" => false,
                _ => continue,
            };
            let given = match directive.get_argument("if").map(|value| &value.node) {
                Some(async_graphql_value::Value::Boolean(given)) => Some(*given),
                Some(async_graphql_value::Value::Variable(name)) => {
                    match self.variables.and_then(|variables| variables.get(name)) {
                        Some(Value::Boolean(given)) => Some(*given),
                        _ => None,
                    }
                }
                _ => None,
            };
            match given {
                Some(given) if given == skip_value => return Inclusion::None,
                Some(_) => {}
                None => inclusion = Inclusion::ByVariable,
            }
        }
        inclusion
    }
}

fn selects_type(set: &SelectionSet) -> bool {
    set.items.iter().any(|selection| match &selection.node {
        Selection::Field(field) => field.node.alias.as_ref().is_some_and(|alias| alias.node == TYPE),
        _ => false,
    })
}

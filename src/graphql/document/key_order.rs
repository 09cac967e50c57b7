//! The order of an answer's keys: that of the document, as the specification's CollectFields has it. The executor writes
//! them as they were resolved.

use std::collections::HashMap;

use async_graphql::indexmap::IndexMap;
use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, Field, FragmentDefinition, InlineFragment, OperationType, Selection,
    SelectionSet, Type,
};
use async_graphql::{Name, Positioned, Value};

use super::types::{self, Fields, Types};
use crate::kernel::limits;

/// The alias under which an object of an abstract type is asked for its type. It does not reach the client.
pub(super) const TYPE: &str = "__sortie_type";

/// The keys of an object, in order.
#[derive(Debug, Default)]
pub struct Shape {
    pub(super) keys: Vec<Key>,
    /// True if something below may be out of order, too.
    nested: bool,
    /// True if its objects were asked for their type, which the client did not ask for.
    typed: bool,
}

/// A key of an object.
#[derive(Debug)]
pub(super) struct Key {
    pub name: Name,
    /// The type of its value; none where it is not known (introspection).
    pub ty: Option<Type>,
    pub below: Below,
}

/// What stands below a key.
#[derive(Debug)]
pub(super) enum Below {
    /// A scalar or an enum.
    Leaf,
    /// An object of one type, or a list of such.
    Object(Shape),
    /// An object whose type decides.
    Abstract(HashMap<Name, Shape>),
}

impl Shape {
    /// The shape of an operation's answer.
    pub(super) fn of(types: &Types, document: &ExecutableDocument, root: Option<&Name>, set: &SelectionSet) -> Self {
        Collect { types, document }.shape(root, &[set], 0)
    }

    /// Puts the keys of an answer's data in order.
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

    /// True if there is something to put in order, or to take out.
    fn sorts(&self) -> bool {
        self.nested || self.typed || self.keys.len() > 1
    }

    fn is_ordered(&self, object: &IndexMap<Name, Value>) -> bool {
        // Keys may be missing: skipped by a directive, or failed.
        let mut wanted = self.keys.iter();
        object.keys().all(|key| wanted.any(|wanted| wanted.name == *key))
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
}

/// The fields under one key, and the type of what they give.
struct Merged<'a> {
    ty: Option<&'a types::Field>,
    sets: Vec<&'a SelectionSet>,
}

impl<'a> Collect<'a> {
    fn shape(&self, object: Option<&'a Name>, sets: &[&'a SelectionSet], level: usize) -> Shape {
        let mut keys: IndexMap<&Name, Merged<'_>> = IndexMap::new();
        let fields = object.and_then(|object| self.types.objects.get(object));
        let mut spread = Vec::new();
        for set in sets {
            self.collect(object, fields, set, &mut spread, &mut keys);
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

    fn below(&self, Merged { ty, sets }: Merged<'a>, level: usize) -> Below {
        // A guard bounds the nesting of documents; this bound is for what comes without it.
        if sets.iter().all(|set| set.items.is_empty()) || level > limits::DOCUMENT_NESTING {
            return Below::Leaf;
        }
        let ty = ty.map(|field| &field.ty);
        let possible = ty.and_then(|ty| self.types.possible.get(ty));
        match possible.filter(|_| sets.iter().any(|set| asks_for_type(set))) {
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
        spread: &mut Vec<&'a Name>,
        keys: &mut IndexMap<&'a Name, Merged<'a>>,
    ) {
        // Where the type is not known (introspection), every fragment is taken to apply.
        let applies = |condition: &Name| object.is_none_or(|object| self.types.applies(condition, object));
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => {
                    let field = &field.node;
                    let ty = fields.and_then(|fields| fields.get(&field.name.node));
                    let merged =
                        keys.entry(&field.response_key().node).or_insert_with(|| Merged { ty, sets: Vec::new() });
                    merged.sets.push(&field.selection_set.node);
                }
                Selection::InlineFragment(inline) => {
                    let condition = inline.node.type_condition.as_ref();
                    if condition.is_none_or(|condition| applies(&condition.node.on.node)) {
                        self.collect(object, fields, &inline.node.selection_set.node, spread, keys);
                    }
                }
                Selection::FragmentSpread(of) => {
                    let name = &of.node.fragment_name.node;
                    let Some(fragment) = self.document.fragments.get(name) else { continue };
                    if !spread.contains(&name) && applies(&fragment.node.type_condition.node.on.node) {
                        spread.push(name);
                        self.collect(object, fields, &fragment.node.selection_set.node, spread, keys);
                    }
                }
            }
        }
    }
}

fn asks_for_type(set: &SelectionSet) -> bool {
    set.items.iter().any(|selection| match &selection.node {
        Selection::Field(field) => field.node.alias.as_ref().is_some_and(|alias| alias.node == TYPE),
        _ => false,
    })
}

/// Asks objects of abstract types for their type, where fragments depend on it; and objects of which all else may be left
/// out by a directive, which the executor would answer as null.
pub(super) fn ask_for_types(types: &Types, document: &mut ExecutableDocument) {
    let root = |ty: OperationType| match ty {
        OperationType::Query => types.query.as_ref(),
        OperationType::Mutation => types.mutation.as_ref(),
        OperationType::Subscription => types.subscription.as_ref(),
    };
    match &mut document.operations {
        DocumentOperations::Single(operation) => {
            ask(types, root(operation.node.ty), &mut operation.node.selection_set.node);
        }
        DocumentOperations::Multiple(all) => {
            for operation in all.values_mut() {
                ask(types, root(operation.node.ty), &mut operation.node.selection_set.node);
            }
        }
    }
    for Positioned { node: FragmentDefinition { type_condition, selection_set, .. }, .. } in
        document.fragments.values_mut()
    {
        ask(types, Some(&type_condition.node.on.node), &mut selection_set.node);
    }
}

fn ask(types: &Types, parent: Option<&Name>, set: &mut SelectionSet) {
    let fields = parent.and_then(|parent| types.objects.get(parent));
    for selection in &mut set.items {
        let pos = selection.pos;
        in_fragment(selection);
        match &mut selection.node {
            Selection::Field(field) => {
                let ty = fields.and_then(|fields| fields.get(&field.node.name.node)).map(|field| &field.ty);
                let below = &mut field.node.selection_set.node;
                ask(types, ty, below);
                let fragments = below.items.iter().any(|item| !matches!(item.node, Selection::Field(_)));
                let is_abstract = ty.is_some_and(|ty| types.possible.contains_key(ty));
                if (fragments && is_abstract) || (!below.items.is_empty() && !has_certain(below)) {
                    let field = Field {
                        alias: Some(Positioned::new(Name::new(TYPE), pos)),
                        name: Positioned::new(Name::new("__typename"), pos),
                        arguments: Vec::new(),
                        directives: Vec::new(),
                        selection_set: Positioned::new(SelectionSet::default(), pos),
                    };
                    below.items.push(Positioned::new(Selection::Field(Positioned::new(field, pos)), pos));
                }
            }
            Selection::InlineFragment(inline) => {
                let condition = inline.node.type_condition.as_ref().map(|condition| &condition.node.on.node);
                ask(types, condition.or(parent), &mut inline.node.selection_set.node);
            }
            Selection::FragmentSpread(_) => {}
        }
    }
}

/// True if at least one field is there whatever the directives say.
fn has_certain(set: &SelectionSet) -> bool {
    set.items.iter().any(|selection| match &selection.node {
        Selection::Field(field) => field.node.directives.is_empty(),
        Selection::InlineFragment(inline) => {
            let bare = inline.node.type_condition.is_none() && inline.node.directives.is_empty();
            bare && has_certain(&inline.node.selection_set.node)
        }
        // To look into it is dearer than to ask for the type.
        Selection::FragmentSpread(_) => false,
    })
}

/// Puts the directives of a `__typename` on a fragment around it: there the executor's validation sees them, and the variables
/// in them.
fn in_fragment(selection: &mut Positioned<Selection>) {
    let pos = selection.pos;
    if let Selection::Field(field) = &mut selection.node
        && field.node.name.node == "__typename"
        && !field.node.directives.is_empty()
    {
        let directives = std::mem::take(&mut field.node.directives);
        let items = vec![Positioned::new(Selection::Field(field.clone()), pos)];
        let selection_set = Positioned::new(SelectionSet { items }, pos);
        let inline = InlineFragment { type_condition: None, directives, selection_set };
        selection.node = Selection::InlineFragment(Positioned::new(inline, pos));
    }
}

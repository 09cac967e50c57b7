//! Rejects different fields under one key: the specification's rule 5.3.2 in two walks, one over
//! the fields' types, one over names and arguments. Each field is compared with the first of its
//! kind only, so the walks are linear in the document. Also checks selections of `__typename`,
//! which the executor's validation ignores.

use std::collections::HashMap;

use async_graphql::indexmap::IndexMap;
use async_graphql::parser::types::{BaseType, ExecutableDocument, Field, OperationType, Selection, SelectionSet, Type};
use async_graphql::{Name, Pos, ServerError};

use super::types::{Types, innermost};
use crate::kernel::limits;

/// Maximum number of steps per document: far more than any document within the limits needs.
const STEPS: usize = 200_000;

/// A field at its position in the document.
#[derive(Clone, Copy)]
struct Found<'a> {
    /// The type that the field is selected on; none if unknown.
    parent: Option<&'a Name>,
    field: &'a Field,
    pos: Pos,
    ty: Option<&'a Type>,
}

struct Walk<'a> {
    types: &'a Types,
    document: &'a ExecutableDocument,
    steps: usize,
    errors: Vec<ServerError>,
}

/// Returns the errors of a document's overlapping fields.
pub(super) fn conflicts(types: &Types, document: &ExecutableDocument) -> Vec<ServerError> {
    let mut walk = Walk { types, document, steps: 0, errors: Vec::new() };
    for (_, operation) in document.operations.iter() {
        let root = match operation.node.ty {
            OperationType::Query => &types.query,
            OperationType::Mutation => &types.mutation,
            OperationType::Subscription => &types.subscription,
        };
        let set = &operation.node.selection_set.node;
        let mut all = Vec::new();
        walk.collect(root.as_ref(), set, &mut Vec::new(), &mut all);
        walk.same_shape(&all, 0);
        walk.same_field(&all, 0);
    }
    let mut errors = walk.errors;
    if walk.steps >= STEPS {
        errors.push(ServerError::new("the document's fields overlap in too many ways", None));
    }
    errors.truncate(20);
    errors
}

impl<'a> Walk<'a> {
    fn is_over(&mut self, level: usize) -> bool {
        self.steps += 1;
        self.steps >= STEPS || level > limits::DOCUMENT_NESTING || self.errors.len() >= 20
    }

    fn collect(
        &mut self,
        parent: Option<&'a Name>,
        set: &'a SelectionSet,
        spread: &mut Vec<&'a Name>,
        all: &mut Vec<Found<'a>>,
    ) {
        let fields = parent.and_then(|parent| self.types.objects.get(parent));
        for selection in &set.items {
            self.steps += 1;
            if self.steps >= STEPS {
                return;
            }
            match &selection.node {
                Selection::Field(field) => {
                    let field = &field.node;
                    let ty = fields.and_then(|fields| fields.get(&field.name.node)).map(|known| &known.whole);
                    let bare = field.arguments.is_empty() && field.selection_set.node.items.is_empty();
                    if field.name.node == "__typename" && !bare && self.errors.len() < 20 {
                        let message = "`__typename` accepts neither arguments nor a selection";
                        self.errors.push(ServerError::new(message, Some(selection.pos)));
                    }
                    all.push(Found { parent, field, pos: selection.pos, ty });
                }
                Selection::InlineFragment(inline) => {
                    let condition = inline.node.type_condition.as_ref().map(|condition| &condition.node.on.node);
                    self.collect(condition.or(parent), &inline.node.selection_set.node, spread, all);
                }
                Selection::FragmentSpread(of) => {
                    let name = &of.node.fragment_name.node;
                    let Some(fragment) = self.document.fragments.get(name) else { continue };
                    if !spread.contains(&name) {
                        spread.push(name);
                        let on = &fragment.node.type_condition.node.on.node;
                        self.collect(Some(on), &fragment.node.selection_set.node, spread, all);
                    }
                }
            }
        }
    }

    /// Collects the selections below the fields of one key.
    fn below(&mut self, fields: &[Found<'a>]) -> Vec<Found<'a>> {
        let (mut all, mut spread) = (Vec::new(), HashMap::<Option<&Name>, Vec<&'a Name>>::new());
        for found in fields {
            let parent = found.ty.map(|ty| innermost(&ty.base));
            let spread = spread.entry(parent).or_default();
            self.collect(parent, &found.field.selection_set.node, spread, &mut all);
        }
        all
    }

    fn by_key(fields: &[Found<'a>]) -> IndexMap<&'a Name, Vec<Found<'a>>> {
        let mut keys: IndexMap<&Name, Vec<Found<'_>>> = IndexMap::new();
        for found in fields {
            keys.entry(&found.field.response_key().node).or_default().push(*found);
        }
        keys
    }

    fn conflict(&mut self, key: &Name, one: &Found<'a>, other: &Found<'a>, reason: &str) {
        let message = format!(
            "Fields \"{key}\" conflict because {reason}. Use different aliases on the fields to fetch both if this was \
             intentional."
        );
        let mut error = ServerError::new(message, Some(one.pos));
        error.locations.push(other.pos);
        self.errors.push(error);
    }

    /// Checks that a key has a single type, whatever the object's type is.
    fn same_shape(&mut self, fields: &[Found<'a>], level: usize) {
        for (key, fields) in Self::by_key(fields) {
            if self.is_over(level) {
                return;
            }
            let mut typed = fields.iter().filter(|found| found.ty.is_some());
            if let Some(first) = typed.next()
                && let Some(other) = typed.find(|other| !self.is_same_shape(first.ty, other.ty))
            {
                self.conflict(key, first, other, "they return conflicting types");
                continue;
            }
            let below = self.below(&fields);
            self.same_shape(&below, level + 1);
        }
    }

    fn is_same_shape(&self, one: Option<&Type>, other: Option<&Type>) -> bool {
        let (Some(one), Some(other)) = (one, other) else { return true };
        one.nullable == other.nullable
            && match (&one.base, &other.base) {
                (BaseType::List(one), BaseType::List(other)) => self.is_same_shape(Some(one), Some(other)),
                (BaseType::Named(one), BaseType::Named(other)) => {
                    one == other || (self.is_composite(one) && self.is_composite(other))
                }
                _ => false,
            }
    }

    fn is_composite(&self, name: &Name) -> bool {
        self.types.objects.contains_key(name) || self.types.possible.contains_key(name)
    }

    /// Checks that a key has a single field and arguments, if one object may have both selections.
    fn same_field(&mut self, fields: &[Found<'a>], level: usize) {
        for (key, fields) in Self::by_key(fields) {
            if self.is_over(level) {
                return;
            }
            let is_abstract = |parent: &Name| self.types.possible.contains_key(parent);
            let (mut anywhere, mut concrete) = (Vec::new(), IndexMap::<&Name, Vec<Found<'_>>>::new());
            for found in &fields {
                match found.parent.filter(|parent| !is_abstract(parent)) {
                    Some(parent) => concrete.entry(parent).or_default().push(*found),
                    None => anywhere.push(*found),
                }
            }
            let mut groups: Vec<Vec<Found<'_>>> = concrete.into_values().collect();
            if groups.is_empty() {
                groups.push(Vec::new());
            }
            for mut group in groups {
                group.extend_from_slice(&anywhere);
                self.group(key, &group, level);
            }
        }
    }

    fn group(&mut self, key: &Name, group: &[Found<'a>], level: usize) {
        let Some((first, others)) = group.split_first() else { return };
        let mut known = first.field.arguments.iter().map(|(name, value)| (&name.node, &value.node)).collect::<Vec<_>>();
        known.sort_by_key(|(name, _)| *name);
        for other in others {
            self.steps += 1;
            let (one_name, other_name) = (&first.field.name.node, &other.field.name.node);
            if one_name != other_name {
                let reason = format!("\"{one_name}\" and \"{other_name}\" are different fields");
                return self.conflict(key, first, other, &reason);
            }
            let mut given: Vec<_> =
                other.field.arguments.iter().map(|(name, value)| (&name.node, &value.node)).collect();
            given.sort_by_key(|(name, _)| *name);
            if known != given {
                return self.conflict(key, first, other, "they have differing arguments");
            }
        }
        let below = self.below(group);
        self.same_field(&below, level + 1);
    }
}

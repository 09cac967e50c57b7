//! Adds `__typename` to selections on abstract types before execution; the runtime type determines
//! the key order of the response.

use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, Field, FragmentDefinition, InlineFragment, Selection, SelectionSet,
};
use async_graphql::{Name, Positioned};

use super::key_order::TYPE;
use super::types::Types;

/// Adds `__typename` to objects of abstract types where fragments depend on it, and to objects
/// whose fields may all be skipped by directives, which the executor would return as null.
pub(super) fn add_typenames(types: &Types, document: &mut ExecutableDocument) {
    match &mut document.operations {
        DocumentOperations::Single(operation) => {
            add_types(types, types.root(operation.node.ty), &mut operation.node.selection_set.node);
        }
        DocumentOperations::Multiple(all) => {
            for operation in all.values_mut() {
                add_types(types, types.root(operation.node.ty), &mut operation.node.selection_set.node);
            }
        }
    }
    for Positioned { node: FragmentDefinition { type_condition, selection_set, .. }, .. } in
        document.fragments.values_mut()
    {
        add_types(types, Some(&type_condition.node.on.node), &mut selection_set.node);
    }
}

fn add_types(types: &Types, parent: Option<&Name>, set: &mut SelectionSet) {
    let fields = parent.and_then(|parent| types.objects.get(parent));
    for selection in &mut set.items {
        let pos = selection.pos;
        wrap_directives(selection);
        match &mut selection.node {
            Selection::Field(field) => {
                let ty = fields.and_then(|fields| fields.get(&field.node.name.node)).map(|field| &field.ty);
                let below = &mut field.node.selection_set.node;
                add_types(types, ty, below);
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
                add_types(types, condition.or(parent), &mut inline.node.selection_set.node);
            }
            Selection::FragmentSpread(_) => {}
        }
    }
}

/// True if at least one field is included whatever the directives say.
fn has_certain(set: &SelectionSet) -> bool {
    set.items.iter().any(|selection| match &selection.node {
        Selection::Field(field) => field.node.directives.is_empty(),
        Selection::InlineFragment(inline) => {
            let bare = inline.node.type_condition.is_none() && inline.node.directives.is_empty();
            bare && has_certain(&inline.node.selection_set.node)
        }
        // Looking into the fragment costs more than an additional `__typename`.
        Selection::FragmentSpread(_) => false,
    })
}

/// Wraps a `__typename` with directives in a fragment that carries them: there the executor's
/// validation sees the directives and their variables.
fn wrap_directives(selection: &mut Positioned<Selection>) {
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

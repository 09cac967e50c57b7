//! Documents as the executor gets them: objects of abstract types are asked for their type, by which the keys of the answer
//! are put in order.

use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, Field, FragmentDefinition, InlineFragment, Selection, SelectionSet,
};
use async_graphql::{Name, Positioned};

use super::key_order::TYPE;
use super::types::Types;

/// Asks objects of abstract types for their type, where fragments depend on it; and objects of which all else may be left
/// out by a directive, which the executor would answer as null.
pub(super) fn ask_for_types(types: &Types, document: &mut ExecutableDocument) {
    match &mut document.operations {
        DocumentOperations::Single(operation) => {
            ask(types, types.root(operation.node.ty), &mut operation.node.selection_set.node);
        }
        DocumentOperations::Multiple(all) => {
            for operation in all.values_mut() {
                ask(types, types.root(operation.node.ty), &mut operation.node.selection_set.node);
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

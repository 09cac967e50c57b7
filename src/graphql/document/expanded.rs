//! Uses of a request's variables: the executor copies a variable for each use.

use std::collections::HashMap;

use async_graphql::parser::types::{Directive, ExecutableDocument, OperationDefinition, Selection, SelectionSet};
use async_graphql::{Name, Positioned};
use async_graphql_value::Value;

/// Number of uses per variable, with all fragments expanded.
pub(super) type Uses = HashMap<Name, usize>;

/// Counts the uses of an operation's variables.
pub(super) fn uses(document: &ExecutableDocument, of: &OperationDefinition) -> Uses {
    let mut walk = Walk { document, known: HashMap::new() };
    let mut all = walk.selections(&of.selection_set.node);
    directives(&of.directives, &mut all);
    all
}

struct Walk<'a> {
    document: &'a ExecutableDocument,
    /// The uses within fragments; empty while a fragment is being walked.
    known: HashMap<&'a Name, Uses>,
}

impl<'a> Walk<'a> {
    fn selections(&mut self, set: &'a SelectionSet) -> Uses {
        let mut all = Uses::new();
        for selection in &set.items {
            directives(selection.node.directives(), &mut all);
            let below = match &selection.node {
                Selection::Field(field) => {
                    for (_, value) in &field.node.arguments {
                        within(&value.node, &mut all);
                    }
                    self.selections(&field.node.selection_set.node)
                }
                Selection::InlineFragment(inline) => self.selections(&inline.node.selection_set.node),
                Selection::FragmentSpread(spread) => self.fragment(&spread.node.fragment_name.node),
            };
            for (name, times) in below {
                let sum = all.entry(name).or_default();
                *sum = sum.saturating_add(times);
            }
        }
        all
    }

    fn fragment(&mut self, name: &'a Name) -> Uses {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        // A fragment that does not exist or spreads itself is rejected elsewhere.
        let Some(fragment) = self.document.fragments.get(name) else { return Uses::new() };
        self.known.insert(name, Uses::new());
        let mut uses = self.selections(&fragment.node.selection_set.node);
        directives(&fragment.node.directives, &mut uses);
        self.known.insert(name, uses.clone());
        uses
    }
}

fn directives(all: &[Positioned<Directive>], uses: &mut Uses) {
    for (_, value) in all.iter().flat_map(|directive| &directive.node.arguments) {
        within(&value.node, uses);
    }
}

fn within(value: &Value, uses: &mut Uses) {
    match value {
        Value::Variable(name) => {
            let times = uses.entry(name.clone()).or_default();
            *times = times.saturating_add(1);
        }
        Value::List(items) => items.iter().for_each(|item| within(item, uses)),
        Value::Object(fields) => fields.values().for_each(|value| within(value, uses)),
        _ => {}
    }
}

//! Checks the limits of documents before the executor sees them. The executor's own walks follow
//! every fragment again at each use, and so are only safe for documents whose expanded size is
//! known. This is one walk with one memo per fragment.

use std::collections::HashMap;

use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, Field, OperationDefinition, OperationType, Selection, SelectionSet,
};
use async_graphql::{Name, Variables};
use serde_json::Value;

use super::error::RequestError;
use crate::graphql::document;
use crate::kernel::limits;

/// The operation to execute, as far as the transport needs it.
#[derive(Debug)]
pub struct Operation {
    /// Query, mutation or subscription.
    pub kind: OperationType,
    /// The root fields, each with its name in the response.
    pub roots: Vec<Root>,
}

impl Operation {
    /// True if it asks for something of the schema itself.
    pub fn asks_schema(&self) -> bool {
        self.roots.iter().any(|root| matches!(root.field.as_str(), "__schema" | "__type"))
    }
}

/// A root field.
#[derive(Clone, Debug)]
pub struct Root {
    /// The field's name in the schema.
    pub field: String,
    /// The field's name in the response.
    pub alias: String,
    /// The `input` argument of a mutation.
    pub input: Value,
    /// The `after` argument of a subscription; `None` for null.
    pub after: Option<Value>,
    /// The variable that holds that argument, if any; of a mutation, one that is in its input.
    pub after_variable: Option<String>,
}

/// Parses a document and checks its limits. Returns it with the approximate size of its
/// introspection, in fields of the response.
pub fn parse_within_limits(text: &str) -> Result<(ExecutableDocument, usize), RequestError> {
    if text.len() > limits::DOCUMENT_BYTES {
        return Err(RequestError::limit(format!("the document is longer than {} bytes", limits::DOCUMENT_BYTES)));
    }
    let document = document::parse(text).map_err(|err| RequestError::errors(&[err]))?;
    if document.operations.iter().nth(OPERATIONS).is_some() {
        return Err(RequestError::limit(format!("the document has more than {OPERATIONS} operations")));
    }
    check_variable_counts(&document)?;
    let mut walk = Walk { document: &document, known: HashMap::new(), open: Vec::new(), level: 0 };
    // All operations, not only the requested one: the executor validates all of them.
    let mut all = Weight::default();
    for (_, operation) in document.operations.iter() {
        let directives = operation.node.directives.len()
            + operation.node.variable_definitions.iter().map(|variable| variable.node.directives.len()).sum::<usize>();
        all = all.and(walk.weigh(&operation.node.selection_set.node)?).and(Weight { directives, ..Weight::default() });
    }
    all.within_limits()?;
    Ok((document, all.introspection))
}

/// Rejects an operation with too many variables: each is looked up, checked and validated.
fn check_variable_counts(document: &ExecutableDocument) -> Result<(), RequestError> {
    let most = limits::VARIABLES;
    match document.operations.iter().any(|(_, operation)| operation.node.variable_definitions.len() > most) {
        true => Err(RequestError::limit(format!("an operation of the document has more than {most} variables"))),
        false => Ok(()),
    }
}

/// The requested operation of a document whose limits were checked.
pub fn operation(
    document: &ExecutableDocument,
    name: Option<&str>,
    variables: &Variables,
) -> Result<Operation, RequestError> {
    let operation = select(&document.operations, name)?;
    let mut roots = Vec::new();
    collect(document, &operation.selection_set.node, &mut roots);
    let roots: Vec<Root> = roots.into_iter().map(|field| root(field, operation, variables)).collect();
    if roots.len() > limits::QUERY_ROOTS {
        return Err(RequestError::limit(format!("at most {} root fields in one operation", limits::QUERY_ROOTS)));
    }
    check_subscriptions(document)?;
    Ok(Operation { kind: operation.ty, roots })
}

/// Rejects subscriptions with several root fields, whose streams the executor would run
/// concurrently. The specification forbids them in all operations of a document (5.2.3.1).
fn check_subscriptions(document: &ExecutableDocument) -> Result<(), RequestError> {
    for (name, operation) in document.operations.iter() {
        let mut roots = Vec::new();
        if operation.node.ty == OperationType::Subscription {
            collect(document, &operation.node.selection_set.node, &mut roots);
            if roots.len() != 1 {
                let error = RequestError::document("a subscription must have exactly one root field");
                return Err(error.of_field(name.map_or("subscription", Name::as_str)));
            }
        }
    }
    Ok(())
}

/// Maximum number of operations of a document: each is validated on its own.
const OPERATIONS: usize = 200;

/// The size of a selection with every fragment expanded.
#[derive(Clone, Copy, Debug, Default)]
struct Weight {
    selections: usize,
    aliases: usize,
    directives: usize,
    depth: usize,
    /// The approximate size of the introspection response, in fields.
    introspection: usize,
    /// The same for selections that are not known to be below `__schema` or `__type` yet.
    below: usize,
}

impl Weight {
    /// The sum with a sibling.
    fn and(self, other: Self) -> Self {
        Self {
            selections: self.selections.saturating_add(other.selections),
            aliases: self.aliases.saturating_add(other.aliases),
            directives: self.directives.saturating_add(other.directives),
            depth: self.depth.max(other.depth),
            introspection: self.introspection.saturating_add(other.introspection),
            below: self.below.saturating_add(other.below),
        }
    }

    /// The weight of a field with this selection below it. The executor does not bound
    /// introspection, so its size is estimated from the schema's lists: a long type has some 40
    /// fields, and all types together have as many fields as 30 such types.
    fn of_field(self, name: &str) -> Self {
        let times = match name {
            "fields" => 40,
            "types" => 30,
            "inputFields" => 2,
            _ => 1,
        };
        // A type has two or three wrappers at most, however deep `ofType` is nested.
        let is_chain = name == "ofType" && self.below <= WRAPPERS;
        let below = if is_chain { self.below.min(4) } else { self.below };
        let below = below.saturating_add(1).saturating_mul(times);
        match name {
            "__schema" | "__type" => Self { introspection: self.introspection.saturating_add(below), below: 0, ..self },
            _ => Self { below, ..self },
        }
    }

    fn within_limits(self) -> Result<(), RequestError> {
        let bounds = [
            (self.selections, limits::QUERY_SELECTIONS, "fields and fragments, with fragments expanded"),
            (self.aliases, limits::QUERY_ALIASES, "aliases"),
            (self.directives, limits::QUERY_DIRECTIVES, "directives"),
            (self.depth, limits::QUERY_DEPTH, "levels"),
            (self.introspection, limits::INTROSPECTION, "introspection fields, counted as the response has them"),
        ];
        match bounds.into_iter().find(|(found, most, _)| found > most) {
            Some((_, most, what)) => Err(RequestError::limit(format!("the document has more than {most} {what}"))),
            None => Ok(()),
        }
    }
}

/// Maximum weight below an `ofType` that selects only kinds and names of further wrappers.
const WRAPPERS: usize = 8;

struct Walk<'a> {
    document: &'a ExecutableDocument,
    known: HashMap<&'a str, Weight>,
    open: Vec<&'a str>,
    level: usize,
}

impl<'a> Walk<'a> {
    /// Recurses into selections and fragments, no deeper than braces may nest.
    fn weigh(&mut self, set: &'a SelectionSet) -> Result<Weight, RequestError> {
        if self.level >= limits::DOCUMENT_NESTING {
            let most = limits::DOCUMENT_NESTING;
            return Err(RequestError::limit(format!("selections and fragments nest deeper than {most}")));
        }
        self.level += 1;
        let weight = self.sum(set);
        self.level -= 1;
        weight
    }

    fn sum(&mut self, set: &'a SelectionSet) -> Result<Weight, RequestError> {
        let mut all = Weight::default();
        for selection in &set.items {
            let (below, aliases, level) = match &selection.node {
                Selection::Field(field) => {
                    let below = self.weigh(&field.node.selection_set.node)?;
                    (below.of_field(field.node.name.node.as_str()), usize::from(field.node.alias.is_some()), 1)
                }
                Selection::InlineFragment(inline) => (self.weigh(&inline.node.selection_set.node)?, 0, 0),
                Selection::FragmentSpread(spread) => (self.spread(&spread.node.fragment_name.node)?, 0, 0),
            };
            let own =
                Weight { selections: 1, aliases, directives: selection.node.directives().len(), ..Weight::default() };
            let below = Weight { depth: below.depth.saturating_add(level), ..below };
            all = all.and(own).and(below);
        }
        Ok(all)
    }

    fn spread(&mut self, name: &'a str) -> Result<Weight, RequestError> {
        if let Some(known) = self.known.get(name) {
            return Ok(*known);
        }
        if self.open.contains(&name) {
            return Err(RequestError::document(format!("the fragment `{name}` spreads itself")).of_field(name));
        }
        // The executor reports an unknown fragment, with its location.
        let Some(fragment) = self.document.fragments.get(name) else { return Ok(Weight::default()) };
        self.open.push(name);
        let weight = self.weigh(&fragment.node.selection_set.node)?;
        let own = Weight { directives: fragment.node.directives.len(), ..Weight::default() };
        self.open.pop();
        self.known.insert(name, weight.and(own));
        Ok(weight.and(own))
    }
}

fn select<'a>(operations: &'a DocumentOperations, name: Option<&str>) -> Result<&'a OperationDefinition, RequestError> {
    let mut all = operations.iter();
    let found = match name {
        Some(name) => all.find(|(of, _)| of.is_some_and(|of| of.as_str() == name)).map(|(_, operation)| operation),
        None => match (all.next(), all.next()) {
            (Some((_, operation)), None) => Some(operation),
            _ => {
                let message = "the document has several operations: select one by `operationName`";
                return Err(RequestError::document(message).of_field("operationName"));
            }
        },
    };
    match (found, name) {
        (Some(operation), _) => Ok(&operation.node),
        (None, name) => {
            let message = format!("the document has no operation `{}`", name.unwrap_or_default());
            Err(RequestError::document(message).of_field("operationName"))
        }
    }
}

fn root(field: &Field, operation: &OperationDefinition, variables: &Variables) -> Root {
    let mut variable = None;
    let mut value = |argument: &str, of: OperationType| {
        let given = field.get_argument(argument).filter(|_| operation.ty == of)?;
        let mut given = given.node.clone();
        let default = |name: &Name| {
            let mut definitions = operation.variable_definitions.iter().map(|definition| &definition.node);
            definitions.find(|definition| definition.name.node == *name)?.default_value.as_ref()
        };
        document::strip_absent(&mut given, &|name| variables.contains_key(name) || default(name).is_some());
        let known = given.into_const_with(|name: Name| {
            let value = variables.get(&name).or_else(|| default(&name).map(|value| &value.node));
            variable = Some(name.to_string());
            Ok::<_, std::convert::Infallible>(value.cloned().unwrap_or_default())
        });
        known.ok()?.into_json().ok()
    };
    let input = value("input", OperationType::Mutation).unwrap_or_default();
    let after = value("after", OperationType::Subscription).filter(|after| !after.is_null());
    let alias = field.response_key().node.to_string();
    Root { field: field.name.node.to_string(), alias, input, after, after_variable: variable }
}

/// Collects the root fields, also from fragments. Called only for documents that `Walk` found to be
/// small and without cycles.
fn collect<'a>(document: &'a ExecutableDocument, set: &'a SelectionSet, roots: &mut Vec<&'a Field>) {
    for selection in &set.items {
        match &selection.node {
            Selection::Field(field) => roots.push(&field.node),
            Selection::InlineFragment(inline) => collect(document, &inline.node.selection_set.node, roots),
            Selection::FragmentSpread(spread) => {
                if let Some(fragment) = document.fragments.get(&spread.node.fragment_name.node) {
                    collect(document, &fragment.node.selection_set.node, roots);
                }
            }
        }
    }
}

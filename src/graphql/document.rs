//! A document, read against the schema before it is executed: what its arguments and variables may hold, and in which order
//! the keys of its answer come.
//!
//! The executor alone reads a nullable variable without a value as null, checks variables only together with the whole
//! document, and writes keys as they were resolved. So every way in passes here first: HTTP, sockets, streams, and the
//! contexts of agents. A plan is made once per document; what a request costs then grows with its variables only.

mod expanded;
pub mod key_order;
mod merge;
mod null_propagation;
mod omitted;
mod overlap;
mod shape;
pub mod text;
mod times;
mod types;
pub mod validation;
mod values;

use std::any::TypeId;
use std::collections::HashSet;
use std::sync::Arc;

use async_graphql::parser::types::{
    BaseType, Directive, DocumentOperations, ExecutableDocument, OperationDefinition, OperationType, Selection,
    SelectionSet, Type, VariableDefinition,
};
use async_graphql::{Name, Pos, Positioned, Request, Response, ServerError, Value as ConstValue, Variables};
use async_graphql_value::Value;

use crate::kernel::error::{Error, Refusal};
use crate::kernel::limits;
use expanded::Uses;
use key_order::Shape;
pub use omitted::keep;
use omitted::leave_out;
pub use shape::{AnswerShape, coded};
pub use text::parse;
use types::{Fields, Slot, Types};
use values::{Place, Problem, Values};

/// The plan of a document: of each of its operations.
#[derive(Debug)]
pub struct Plan {
    operations: Vec<(Option<Name>, Operation)>,
    /// What is wrong with the document as such, and is not found by the executor's validation.
    wrong: Vec<ServerError>,
}

#[derive(Debug)]
struct Operation {
    /// Problems of the literals.
    problems: Vec<Problem>,
    variables: Vec<Variable>,
    uses: Uses,
    outline: Arc<AnswerShape>,
}

#[derive(Debug)]
struct Variable {
    name: Name,
    ty: Type,
    default: Option<ConstValue>,
    /// The path of the field that it is given to first.
    path: String,
    /// The path of the first of its places that takes no null.
    non_null: Option<String>,
    /// The path of the first of its places that takes no null and has no default: there it must have a value.
    needed: Option<String>,
    /// Its places of another list type than its own: it must fit each of them.
    places: Vec<(String, Type)>,
    pos: Pos,
}

/// A request whose values fit.
#[derive(Clone, Debug)]
pub struct Checked {
    operation_name: Option<String>,
    variables: Variables,
    bytes: usize,
    /// Nullable variables without a value.
    absent: Vec<Name>,
    outline: Arc<AnswerShape>,
}

impl Plan {
    /// Reads a document, and prepares it: objects of abstract types are asked for their type, and a nullable variable that
    /// is given to a place with a default has that default (as the specification allows and the executor does not).
    pub fn of(document: &mut ExecutableDocument) -> Self {
        let types = types::all();
        let mut wrong = overlap::wrong(types, document);
        if wrong.is_empty() {
            merge::merge(types, document);
            wrong = merge::twice(document);
        }
        key_order::ask_for_types(types, document);
        times::cut_all(types, document);
        let mut operations = Vec::new();
        let mut defaults = Vec::new();
        for (name, operation) in document.operations.iter() {
            let (plan, more) = Operation::of(types, document, &operation.node);
            operations.push((name.cloned(), plan));
            defaults.push(more);
        }
        let each: Vec<&mut Positioned<OperationDefinition>> = match &mut document.operations {
            DocumentOperations::Single(operation) => vec![operation],
            DocumentOperations::Multiple(all) => all.values_mut().collect(),
        };
        for (operation, defaults) in each.into_iter().zip(defaults) {
            for (name, default) in defaults {
                for definition in &mut operation.node.variable_definitions {
                    if definition.node.name.node == name {
                        definition.node.default_value = Some(Positioned::new(default.clone(), definition.pos));
                    }
                }
            }
        }
        Self { operations, wrong: wrong.into_iter().map(coded).collect() }
    }

    /// Checks and coerces the variables of a request for an operation. Errors are request errors: BAD_USER_INPUT, with the
    /// field's path.
    pub fn check(&self, name: Option<&str>, mut given: Variables) -> Result<Checked, Vec<ServerError>> {
        if !self.wrong.is_empty() {
            return Err(self.wrong.clone());
        }
        let operation_name = name.map(str::to_owned);
        let found = match name {
            None => self.operations.first().filter(|_| self.operations.len() == 1),
            Some(name) => self.operations.iter().find(|(of, _)| of.as_ref().is_some_and(|of| of == name)),
        };
        // An operation that is not there is reported by the executor.
        let Some((_, operation)) = found else {
            return Ok(Checked {
                operation_name,
                variables: given,
                bytes: 0,
                absent: Vec::new(),
                outline: Arc::default(),
            });
        };
        let mut values = Values::new(types::all());
        let mut expanded = 0;
        let (mut variables, mut absent) = (Variables::default(), Vec::new());
        for variable in &operation.variables {
            values.at(variable.pos);
            let mut value = match (given.remove(&variable.name), &variable.default) {
                (Some(value), _) => value,
                (None, Some(default)) => default.clone(),
                (None, None) if variable.ty.nullable => {
                    if let Some(path) = &variable.needed {
                        values
                            .problem(path, format!("must not be null: the variable `${}` has no value", variable.name));
                    }
                    absent.push(variable.name.clone());
                    continue;
                }
                (None, None) => {
                    values.problem(&variable.path, format!("the variable `${}` is required", variable.name));
                    continue;
                }
            };
            let times = operation.uses.get(&variable.name).copied().unwrap_or_default();
            expanded = usize::saturating_add(expanded, expanded::bytes(&value).saturating_mul(times));
            if expanded > limits::EXPANDED_BYTES {
                let told = format!(
                    "the variables are more than {} bytes where they are put in: `${}` is used {times} times",
                    limits::EXPANDED_BYTES,
                    variable.name
                );
                let refusal = Refusal::too_much(&variable.path, told);
                return Err(vec![error(&Problem { refusal, pos: variable.pos })]);
            }
            if let (ConstValue::Null, Some(path)) = (&value, &variable.non_null) {
                values.problem(path, "must not be null");
            } else {
                let before = values.problems.len();
                values.begin(&variable.path, |values| values.coerce(&variable.ty, &mut value));
                for (path, ty) in &variable.places {
                    if values.problems.len() == before {
                        values.begin(path, |values| values.coerce(ty, &mut value.clone()));
                    }
                }
            }
            variables.insert(variable.name.clone(), value);
        }
        let problems: Vec<ServerError> = operation.problems.iter().chain(&values.problems).map(error).collect();
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Checked { operation_name, variables, bytes: expanded, absent, outline: operation.outline.clone() })
    }
}

fn error(problem: &Problem) -> ServerError {
    let error: async_graphql::Error = Error::from(problem.refusal.clone()).into();
    error.into_server_error(problem.pos)
}

impl Operation {
    /// The plan, and the defaults of places that its nullable variables take over.
    fn of(types: &Types, document: &ExecutableDocument, of: &OperationDefinition) -> (Self, Vec<(Name, ConstValue)>) {
        let root = match of.ty {
            OperationType::Query => &types.query,
            OperationType::Mutation => &types.mutation,
            OperationType::Subscription => &types.subscription,
        };
        let mut walk =
            Walk { types, document, values: Values::new(types), arguments: Vec::new(), open: HashSet::new() };
        let fields = root.as_ref().and_then(|root| types.objects.get(root));
        walk.directives(&of.directives);
        walk.selections(fields, &of.selection_set.node);
        let (Values { problems, uses, .. }, arguments) = (walk.values, walk.arguments);
        let (mut variables, mut defaults) = (Vec::new(), Vec::new());
        for Positioned { pos, node } in &of.variable_definitions {
            let VariableDefinition { name, var_type, default_value, .. } = node;
            let mut of_it = uses.iter().filter(|found| found.variable == name.node);
            let first = of_it.clone().next();
            let nullable = var_type.node.nullable && default_value.is_none();
            if nullable
                && let Some(default) = of_it.clone().find_map(|found| found.default.clone().filter(|_| found.non_null))
            {
                defaults.push((name.node.clone(), default));
            }
            variables.push(Variable {
                name: name.node.clone(),
                ty: var_type.node.clone(),
                default: default_value.as_ref().map(|value| value.node.clone()),
                path: first.map_or_else(|| name.node.to_string(), |found| found.path.clone()),
                needed: of_it
                    .clone()
                    .find(|found| found.non_null && found.default.is_none())
                    .map(|found| found.path.clone()),
                places: of_it
                    .clone()
                    .filter_map(|found| Some((found.path.clone(), found.ty.clone()?)))
                    .filter(|(_, ty)| ty.base != var_type.node.base)
                    .filter(|(_, ty)| types::innermost(&ty.base) == types::innermost(&var_type.node.base))
                    .collect(),
                non_null: of_it.find(|found| found.non_null).map(|found| found.path.clone()),
                pos: *pos,
            });
        }
        let shape = Shape::of(types, document, root.as_ref(), &of.selection_set.node);
        let uses = expanded::uses(document, of);
        (Self { problems, variables, uses, outline: Arc::new(AnswerShape { shape, arguments }) }, defaults)
    }
}

/// A walk through the arguments of an operation and the fragments that it spreads, each once.
struct Walk<'a> {
    types: &'a Types,
    document: &'a ExecutableDocument,
    values: Values<'a>,
    arguments: Vec<(Pos, Name)>,
    open: HashSet<&'a Name>,
}

impl<'a> Walk<'a> {
    /// `fields` is none where the type is not known; the executor's validation reports that.
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
                Some(None) => self.values.problem(&name.node, "the field has no such argument"),
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

impl Checked {
    /// The request for the executor.
    pub fn request(&self, document: &ExecutableDocument) -> Request {
        let mut document = document.clone();
        if !self.absent.is_empty() {
            leave_out(&mut document, &self.absent);
        }
        let mut request = Request::new("").variables(self.variables.clone()).data(self.outline.clone());
        request.operation_name = self.operation_name.clone();
        request.set_parsed_query(document);
        request
    }

    /// The request for the validation, with nothing left out of its document.
    pub fn whole(&self, document: &ExecutableDocument) -> Request {
        let mut request = Request::new("").variables(self.variables.clone());
        request.operation_name = self.operation_name.clone();
        request.set_parsed_query(document.clone());
        request
    }

    /// The name of the operation; none where the document has one only.
    pub fn operation_name(&self) -> Option<&str> {
        self.operation_name.as_deref()
    }

    /// The bytes of the variables in memory, about, each counted as often as it is used.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The variables, coerced, with their defaults.
    pub fn variables(&self) -> &Variables {
        &self.variables
    }
}

/// Checks a request that comes with a document of its own; one that was checked before passes as it is.
pub(super) fn checked(mut request: Request) -> Result<(Request, Arc<AnswerShape>), Box<Response>> {
    let carried = request.data.get(&TypeId::of::<Arc<AnswerShape>>());
    if let Some(outline) = carried.and_then(|carried| carried.downcast_ref::<Arc<AnswerShape>>()).cloned() {
        return Ok((request, outline));
    }
    let document = match request.query.is_empty() {
        true => request.parsed_query().cloned(),
        false => parse(&request.query),
    };
    let mut document = document.map_err(|error| Box::new(Response::from_errors(vec![coded(error)])))?;
    let plan = Plan::of(&mut document);
    let variables = std::mem::take(&mut request.variables);
    let checked = plan
        .check(request.operation_name.as_deref(), variables)
        .map_err(|errors| Box::new(Response::from_errors(errors)))?;
    if !checked.absent.is_empty() {
        leave_out(&mut document, &checked.absent);
    }
    request.variables = checked.variables;
    request.set_parsed_query(document);
    Ok((request, checked.outline))
}

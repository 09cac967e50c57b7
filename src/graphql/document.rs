//! Checks a document against the schema before execution: the values of arguments and variables,
//! and the key order of the response.
//!
//! The executor alone reads a nullable variable without a value as null, checks variables only
//! together with the whole document, and writes keys in the order of resolution. Therefore every
//! entry point passes through here first: HTTP, sockets, streams, and the contexts of agents. A
//! plan is computed once per document, so the cost per request depends on its variables only.

mod arguments;
mod directives;
mod expanded;
mod fields;
mod introspection;
pub mod key_order;
mod merge;
mod null_propagation;
mod omitted;
mod operations;
mod overlap;
mod shape;
pub mod text;
mod times;
mod typed;
mod types;
mod usages;
pub mod validation;
mod values;
mod weight;

use std::any::TypeId;
use std::sync::Arc;

use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, OperationDefinition, Type, VariableDefinition,
};
use async_graphql::{Name, Pos, Positioned, Request, Response, ServerError, Value as ConstValue, Variables};

use crate::kernel::error::{Error, Refusal};
use crate::kernel::limits;
use arguments::Walk;
use expanded::Uses;
pub use fields::{DOCUMENT_PARAMETER, with_paths};
use key_order::Shape;
use omitted::remove_absent;
pub use omitted::strip_absent;
pub use shape::{AnswerShape, with_code};
pub use text::parse;
use types::Types;
use values::{Problem, Values};

/// The plan of a document, with one entry per operation.
#[derive(Debug)]
pub struct Plan {
    operations: Vec<(Option<Name>, Operation)>,
    /// The document before its duplicate fields were merged, if an order of keys depends on it and on
    /// the variables.
    written: Option<Arc<ExecutableDocument>>,
    /// Errors in the document itself that the executor's validation does not find.
    wrong: Vec<ServerError>,
    /// Approximate size of the document and of the plan in memory, in bytes.
    weight: usize,
}

#[derive(Debug)]
struct Operation {
    /// Problems with literal values.
    problems: Vec<Problem>,
    variables: Vec<Variable>,
    uses: Uses,
    answer_shape: Arc<AnswerShape>,
}

#[derive(Debug)]
struct Variable {
    name: Name,
    ty: Type,
    default: Option<ConstValue>,
    /// Path of the first field that uses the variable.
    path: String,
    /// Path of the first non-null position of the variable.
    non_null: Option<String>,
    pos: Pos,
}

/// A request whose variables are valid.
#[derive(Clone, Debug)]
pub struct Checked {
    operation_name: Option<String>,
    variables: Variables,
    bytes: usize,
    /// Nullable variables without a value.
    absent: Vec<Name>,
    answer_shape: Arc<AnswerShape>,
    written: Option<Arc<ExecutableDocument>>,
}

impl Plan {
    /// Analyses and prepares a document: adds `__typename` to selections on abstract types, and
    /// gives a nullable variable the default of its position (which the specification allows and
    /// the executor does not).
    pub fn of(document: &mut ExecutableDocument) -> Self {
        let types = types::all();
        let mut wrong = directives::misplaced(document);
        wrong.extend(merge::repeated_variables(document));
        wrong.extend(overlap::conflicts(types, document));
        typed::add_typenames(types, document);
        let mut written = None;
        if wrong.is_empty() {
            written = merge::merge(types, document);
            wrong = merge::repeated_root_fields(document);
        }
        times::truncate_all(types, document);
        let mut operations = Vec::new();
        let mut defaults = Vec::new();
        for (name, operation) in document.operations.iter() {
            let as_written = written.as_ref().unwrap_or(document);
            let (plan, more, misused) = Operation::of(types, document, as_written, name, &operation.node);
            wrong.extend(misused.iter().map(error));
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
        let wrong = with_paths(written.as_ref().unwrap_or(document), wrong);
        let shapes = || operations.iter().map(|(_, operation)| &*operation.answer_shape);
        let written = written.filter(|_| shapes().any(|shape| shape.by_variables));
        let documents = weight::of(document) + written.as_ref().map_or(0, weight::of);
        let weight = documents + shapes().map(|shape| weight::of_shape(&shape.shape)).sum::<usize>();
        let wrong = wrong.into_iter().map(with_code).collect();
        Self { operations, written: written.map(Arc::new), wrong, weight }
    }

    /// Returns the approximate size of the document and of this plan in memory, in bytes.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Validates and coerces the variables of a request for an operation. Errors are request
    /// errors: BAD_USER_INPUT, with the field's path.
    pub fn check(&self, name: Option<&str>, mut given: Variables) -> Result<Checked, Vec<ServerError>> {
        if !self.wrong.is_empty() {
            return Err(self.wrong.clone());
        }
        let operation_name = name.map(str::to_owned);
        let found = match name {
            None => self.operations.first().filter(|_| self.operations.len() == 1),
            Some(name) => self.operations.iter().find(|(of, _)| of.as_ref().is_some_and(|of| of == name)),
        };
        // The executor reports an unknown operation.
        let Some((_, operation)) = found else {
            return Ok(Checked {
                operation_name,
                variables: given,
                bytes: 0,
                absent: Vec::new(),
                answer_shape: Arc::default(),
                written: None,
            });
        };
        let mut values = Values::new(types::all());
        let (mut expanded, mut bytes) = (0, 0);
        let (mut variables, mut absent) = (Variables::default(), Vec::new());
        for variable in &operation.variables {
            values.at(variable.pos);
            let mut value = match (given.remove(&variable.name), &variable.default) {
                (Some(value), _) => value,
                (None, Some(default)) => default.clone(),
                (None, None) if variable.ty.nullable => {
                    absent.push(variable.name.clone());
                    continue;
                }
                (None, None) => {
                    values.problem(&variable.path, format!("the variable `${}` is required", variable.name));
                    continue;
                }
            };
            let times = operation.uses.get(&variable.name).copied().unwrap_or_default().max(1);
            expanded = usize::saturating_add(expanded, weight::expanded(&value).saturating_mul(times));
            bytes = usize::saturating_add(bytes, weight::bytes(&value).saturating_mul(times));
            if expanded > limits::EXPANDED_BYTES {
                let message = format!(
                    "the variables expand to more than {} bytes in the document: `${}` is used {times} times",
                    limits::EXPANDED_BYTES,
                    variable.name
                );
                let refusal = Refusal::limit_for_field(&variable.path, message);
                return Err(vec![error(&Problem { refusal, pos: variable.pos })]);
            }
            if let (ConstValue::Null, Some(path)) = (&value, &variable.non_null) {
                values.problem(path, "must not be null");
            } else {
                values.begin(&variable.path, |values| values.coerce(&variable.ty, &mut value));
            }
            variables.insert(variable.name.clone(), value);
        }
        let mut problems: Vec<ServerError> = operation.problems.iter().chain(&values.problems).map(error).collect();
        if problems.is_empty() {
            // Literals of operations that are not executed have to be valid, too.
            problems = self.operations.iter().flat_map(|(_, operation)| &operation.problems).map(error).collect();
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let (answer_shape, written) = (operation.answer_shape.clone(), self.written.clone());
        Ok(Checked { operation_name, variables, bytes, absent, answer_shape, written })
    }
}

/// Returns the shape of an operation's answer, and whether it depends on the variables.
fn shape_of(
    types: &Types,
    document: &ExecutableDocument,
    name: Option<&impl AsRef<str>>,
    variables: Option<&Variables>,
) -> (Shape, bool) {
    let wanted = name.map(AsRef::as_ref);
    let mut named = document.operations.iter();
    let found = named.find(|(name, _)| wanted.is_none_or(|wanted| name.is_some_and(|name| name.as_str() == wanted)));
    let Some((_, operation)) = found else { return Default::default() };
    Shape::of(types, document, types.root(operation.node.ty), &operation.node.selection_set.node, variables)
}

fn error(problem: &Problem) -> ServerError {
    let error: async_graphql::Error = Error::from(problem.refusal.clone()).into();
    error.into_server_error(problem.pos)
}

impl Operation {
    /// Returns the plan, the defaults that nullable variables take from their positions, and the uses
    /// of variables that their types do not allow (specification, 5.8.5).
    fn of(
        types: &Types,
        document: &ExecutableDocument,
        written: &ExecutableDocument,
        name: Option<&Name>,
        of: &OperationDefinition,
    ) -> (Self, Vec<(Name, ConstValue)>, Vec<Problem>) {
        let Walk { values: Values { problems, uses, .. }, arguments, .. } = Walk::of(types, document, of);
        let by_name = usages::by_name(&uses);
        let (mut variables, mut defaults) = (Vec::new(), Vec::new());
        for Positioned { pos, node } in &of.variable_definitions {
            let VariableDefinition { name, var_type, default_value, .. } = node;
            let mut of_it = by_name.get(&name.node).into_iter().flatten();
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
                non_null: of_it.find(|found| found.non_null).map(|found| found.path.clone()),
                pos: *pos,
            });
        }
        let misused = usages::disallowed_usages(&of.variable_definitions, &by_name);
        let (shape, by_variables) = shape_of(types, written, name, None);
        let answer_shape = Arc::new(AnswerShape { shape, by_variables, arguments });
        let plan = Self { problems, variables, uses: expanded::uses(document, of), answer_shape };
        (plan, defaults, misused)
    }
}

impl Checked {
    /// Returns the request for the executor, with this operation only: the executor counts the
    /// complexity of all operations, with this request's variables.
    pub fn request(&self, document: &ExecutableDocument) -> Request {
        let shape = self.shape(document);
        let mut request = Request::new("").variables(self.variables.clone()).data(shape);
        request.operation_name = self.operation_name.clone();
        request.set_parsed_query(self.executable(document));
        request
    }

    fn executable(&self, document: &ExecutableDocument) -> ExecutableDocument {
        let mut document = operations::alone(document, self.operation_name());
        if !self.absent.is_empty() {
            remove_absent(&mut document, &self.absent);
        }
        document
    }

    /// Returns the shape of this request's answer: the document's own, unless the order of keys depends on the variables.
    fn shape(&self, document: &ExecutableDocument) -> Arc<AnswerShape> {
        if !self.answer_shape.by_variables {
            return self.answer_shape.clone();
        }
        let (document, name) = (self.written.as_deref().unwrap_or(document), self.operation_name.as_ref());
        let (shape, _) = shape_of(types::all(), document, name, Some(&self.variables));
        Arc::new(AnswerShape { shape, by_variables: false, arguments: self.answer_shape.arguments.clone() })
    }

    /// Returns the request for validation, with this operation and all fragments that no other
    /// operation uses.
    pub fn for_validation(&self, document: &ExecutableDocument) -> Request {
        let mut request = Request::new("").variables(self.variables.clone());
        request.operation_name = self.operation_name.clone();
        request.set_parsed_query(operations::with_unused_fragments(document, self.operation_name()));
        request
    }

    /// Makes the requests for validation of the document's other operations, one after the other.
    pub fn others_for_validation<'a>(
        &'a self,
        document: &'a ExecutableDocument,
    ) -> impl Iterator<Item = Request> + Send + 'a {
        operations::others(document, self.operation_name())
    }

    /// Returns the name of the operation; `None` if the request gives none.
    pub fn operation_name(&self) -> Option<&str> {
        self.operation_name.as_deref()
    }

    /// Returns the approximate bytes of the variables in memory, each counted once per use.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the coerced variables, including defaults.
    pub fn variables(&self) -> &Variables {
        &self.variables
    }
}

/// Checks a request with its document; a request that was checked before is returned unchanged.
pub(super) fn checked(mut request: Request) -> Result<(Request, Arc<AnswerShape>), Box<Response>> {
    let carried = request.data.get(&TypeId::of::<Arc<AnswerShape>>());
    if let Some(answer_shape) = carried.and_then(|carried| carried.downcast_ref::<Arc<AnswerShape>>()).cloned() {
        return Ok((request, answer_shape));
    }
    let document = match request.query.is_empty() {
        true => request.parsed_query().cloned(),
        false => parse(&request.query),
    };
    let mut document = document.map_err(|error| Box::new(Response::from_errors(vec![with_code(error)])))?;
    let plan = Plan::of(&mut document);
    let variables = std::mem::take(&mut request.variables);
    let checked = plan
        .check(request.operation_name.as_deref(), variables)
        .map_err(|errors| Box::new(Response::from_errors(errors)))?;
    let answer_shape = checked.shape(&document);
    document = checked.executable(&document);
    request.variables = checked.variables;
    request.set_parsed_query(document);
    Ok((request, answer_shape))
}

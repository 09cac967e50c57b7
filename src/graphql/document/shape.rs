//! Writes a response: nulls as its types require, keys in document order, and a code in each error.

use std::collections::HashSet;

use async_graphql::{Name, Pos, Response, ServerError, Value};

use super::fields::field_of;
use super::key_order::Shape;
use super::null_propagation::complete;
use crate::kernel::error::Code;
use crate::kernel::quote;

/// Everything needed to write the responses of a document.
#[derive(Debug, Default)]
pub struct AnswerShape {
    pub(super) shape: Shape,
    /// True if the key order depends on variables: each request computes its own shape.
    pub(super) by_variables: bool,
    /// Names of arguments by the positions of their values.
    pub(super) arguments: Vec<(Pos, Name)>,
}

impl AnswerShape {
    /// Writes the response: keys in document order, a code in each error, and the argument's name
    /// in errors that the executor reports for an argument.
    pub(in crate::graphql) fn write(&self, mut response: Response) -> Response {
        if response.data == Value::Null && response.errors.is_empty() {
            // All its fields were skipped by directives.
            response.data = Value::Object(Default::default());
        }
        complete(&self.shape, &mut response.data, &response.errors);
        self.shape.order(&mut response.data);
        let error = |error: ServerError| {
            let without_code = error.extensions.is_none();
            let mut of = self.arguments.iter().filter(|(pos, _)| without_code && error.locations.first() == Some(pos));
            let argument = of.next().map(|(_, name)| name.to_string());
            let mut error = with_code(error);
            if let (Some(argument), Some(extensions)) = (argument, &mut error.extensions) {
                extensions.set("field", argument);
            }
            error
        };
        let mut errors: Vec<ServerError> = Vec::with_capacity(response.errors.len());
        let mut paths = HashSet::new();
        for found in response.errors {
            // A field that the executor visited twice failed once.
            if found.path.is_empty() || paths.insert(serde_json::to_string(&found.path).unwrap_or_default()) {
                errors.push(error(found));
            }
        }
        response.errors = errors;
        response
    }
}

/// Adds a code and a field to errors without a code, which are those of the document and the
/// executor's own; shortens the names that they repeat.
pub fn with_code(mut error: ServerError) -> ServerError {
    error.message = quote::brief(error.message);
    if error.extensions.as_ref().is_none_or(|extensions| extensions.get("code").is_none()) {
        const LIMITS: [&str; 5] = [
            "Query is too complex",
            "Query is nested too deep",
            "The recursion depth",
            "recursion limit exceeded",
            "The number of directives",
        ];
        let is_limit = LIMITS.iter().any(|begins| error.message.starts_with(begins));
        let code = if is_limit { Code::LimitExceeded } else { Code::BadUserInput };
        let field = field_of(&error);
        let extensions = error.extensions.get_or_insert_default();
        extensions.set("code", code.as_str());
        if extensions.get("field").is_none() {
            extensions.set("field", field);
        }
    }
    error
}

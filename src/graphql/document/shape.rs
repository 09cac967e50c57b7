//! How an answer is written: with the nulls of its types, its keys in the order of the document, and a code in each error.

use std::collections::HashSet;

use async_graphql::{Name, Pos, Response, ServerError, Value};

use super::key_order::Shape;
use super::null_propagation::complete;
use crate::kernel::error::Code;

/// What an answer is written by.
#[derive(Debug, Default)]
pub struct AnswerShape {
    pub(super) shape: Shape,
    /// True if the variables decide about the order of the keys: a request makes a shape of its own.
    pub(super) by_variables: bool,
    /// The names of the arguments, by the places of their values.
    pub(super) arguments: Vec<(Pos, Name)>,
}

impl AnswerShape {
    /// The answer as it is written: its keys in the order of the document, a code in each error, and the argument in those
    /// that the executor reports of one.
    pub(in crate::graphql) fn write(&self, mut response: Response) -> Response {
        if response.data == Value::Null && response.errors.is_empty() {
            // All its fields were left out by directives.
            response.data = Value::Object(Default::default());
        }
        complete(&self.shape, &mut response.data, &response.errors);
        self.shape.order(&mut response.data);
        let error = |error: ServerError| {
            let bare = error.extensions.is_none();
            let mut of = self.arguments.iter().filter(|(pos, _)| bare && error.locations.first() == Some(pos));
            let argument = of.next().map(|(_, name)| name.to_string());
            let mut error = coded(error);
            if let (Some(argument), Some(extensions)) = (argument, &mut error.extensions) {
                extensions.set("field", argument);
            }
            error
        };
        let mut errors: Vec<ServerError> = Vec::with_capacity(response.errors.len());
        let mut places = HashSet::new();
        for found in response.errors {
            // A field that the executor came to twice failed once.
            if found.path.is_empty() || places.insert(serde_json::to_string(&found.path).unwrap_or_default()) {
                errors.push(error(found));
            }
        }
        response.errors = errors;
        response
    }
}

/// The executor's own errors have no codes.
pub fn coded(mut error: ServerError) -> ServerError {
    if error.extensions.as_ref().is_none_or(|extensions| extensions.get("code").is_none()) {
        const LIMITS: [&str; 4] =
            ["Query is too complex", "Query is nested too deep", "The recursion depth", "The number of directives"];
        let is_limit = LIMITS.iter().any(|begins| error.message.starts_with(begins));
        let code = if is_limit { Code::LimitExceeded } else { Code::BadUserInput };
        error.extensions.get_or_insert_default().set("code", code.as_str());
    }
    error
}

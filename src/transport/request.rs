//! Reads a GraphQL request from JSON or from a URL's query. Errors name the invalid part.

use std::sync::Arc;

use async_graphql::Variables;
use serde_json::{Map, Value};

use super::error::RequestError;
use super::json_path;
use crate::kernel::cost;
use crate::kernel::storable::Unstorable;

/// A GraphQL request as it was sent, with nothing parsed or validated yet.
#[derive(Debug, Default)]
pub struct GraphqlRequest {
    /// The document; `None` if it is referred to by its hash or id.
    pub query: Option<String>,
    /// The name of the document's operation to execute.
    pub operation_name: Option<String>,
    /// The variables.
    pub variables: Map<String, Value>,
    /// `persistedQuery`, and `operationId` of single-connection SSE.
    pub extensions: Map<String, Value>,
    /// The id of a registered document.
    pub document_id: Option<String>,
    /// The size of the JSON that it was read from, in bytes.
    pub bytes: usize,
    /// The memory of its JSON, charged while the request exists.
    pub held: Option<Arc<cost::Request>>,
}

impl GraphqlRequest {
    /// Reads the body of a POST.
    pub fn of_bytes(bytes: &[u8]) -> Result<Self, RequestError> {
        let request = Self::of(serde_json::from_slice(bytes).map_err(|err| unread(bytes, &err))?)?;
        Ok(Self { bytes: bytes.len(), ..request })
    }

    /// Reads a JSON value, which must be an object. Unknown parts are ignored.
    pub fn of(value: Value) -> Result<Self, RequestError> {
        let mut parts = match value {
            Value::Object(parts) => parts,
            Value::Array(_) => {
                let error = RequestError::malformed("batches are not taken: send one request at a time");
                return Err(error.of_field("body"));
            }
            _ => return Err(RequestError::malformed("a request must be a JSON object").of_field("body")),
        };
        let request = Self {
            query: text(&mut parts, "query")?,
            // Several clients send an empty name instead of none.
            operation_name: text(&mut parts, "operationName")?.filter(|name| !name.is_empty()),
            variables: map(&mut parts, "variables")?,
            extensions: map(&mut parts, "extensions")?,
            document_id: text(&mut parts, "documentId")?,
            ..Self::default()
        };
        request.whole()
    }

    /// Reads a URL's query: `query`, `operationName`, `documentId`, and `variables` and
    /// `extensions` as JSON.
    pub fn of_url(query: &str) -> Result<Self, RequestError> {
        let mut parts = Map::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let value = match &*name {
                "variables" | "extensions" => match serde_json::from_str(&value) {
                    Ok(value) => value,
                    Err(_) if value.is_empty() => Value::Null,
                    Err(err) if is_out_of_range(&err) => return Err(unread(value.as_bytes(), &err)),
                    Err(_) => return Err(RequestError::malformed(format!("`{name}` is not JSON")).of_field(&name)),
                },
                "query" | "operationName" | "documentId" if !value.is_empty() => Value::String(value.into_owned()),
                _ => continue,
            };
            if parts.insert(name.clone().into_owned(), value).is_some() {
                return Err(RequestError::malformed(format!("`{name}` is given twice")).of_field(&name));
            }
        }
        Ok(Self { bytes: query.len(), ..Self::of(Value::Object(parts))? })
    }

    fn whole(self) -> Result<Self, RequestError> {
        let named = self.document_id.is_some() || self.extensions.contains_key("persistedQuery");
        match self.query {
            None if !named => Err(RequestError::malformed("`query` is missing").of_field("query")),
            _ => Ok(self),
        }
    }

    /// Takes the variables in the executor's form, not validated yet.
    pub fn take_variables(&mut self) -> Variables {
        Variables::from_json(Value::Object(std::mem::take(&mut self.variables)))
    }
}

fn text(parts: &mut Map<String, Value>, name: &str) -> Result<Option<String>, RequestError> {
    match parts.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(RequestError::malformed(format!("`{name}` must be a string")).of_field(name)),
    }
}

fn map(parts: &mut Map<String, Value>, name: &str) -> Result<Map<String, Value>, RequestError> {
    match parts.remove(name) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map),
        Some(_) => Err(RequestError::malformed(format!("`{name}` must be an object")).of_field(name)),
    }
}

/// The error of a body that can't be read: a number that no field could hold is named with its path.
fn unread(bytes: &[u8], err: &serde_json::Error) -> RequestError {
    out_of_range(bytes, err).unwrap_or_else(|| {
        let message = format!("the body is not JSON (line {}, column {})", err.line(), err.column());
        RequestError::malformed(message).of_field("body")
    })
}

/// The error of a socket's message whose payload can't be read although it is JSON.
pub(super) fn unread_payload(message: &[u8], err: &serde_json::Error) -> RequestError {
    out_of_range(message, err).unwrap_or_else(|| {
        let (line, column) = (err.line(), err.column());
        let message = format!("the payload nests too deep, or has half a character (line {line}, column {column})");
        RequestError::malformed(message).of_field("payload")
    })
}

/// The error of a number that no field could hold, with its path.
fn out_of_range(bytes: &[u8], err: &serde_json::Error) -> Option<RequestError> {
    is_out_of_range(err).then(|| {
        let path = json_path::of(bytes, err.line(), err.column());
        let path = path.strip_prefix("payload.").unwrap_or(&path);
        let field = path.strip_prefix("variables.").unwrap_or(path);
        RequestError::malformed(format!("{field}: {}", Unstorable::Number)).of_field(field)
    })
}

/// True if the text is JSON up to a number that a double can't hold. The parser tells this only by
/// its message.
fn is_out_of_range(err: &serde_json::Error) -> bool {
    err.to_string().starts_with("number out of range")
}

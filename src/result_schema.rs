//! JSON Schemas that results must meet. Nothing is fetched: a schema stands for itself.

use serde_json::Value;

use crate::limits;

/// Whether a schema is one; the error is a sentence.
pub fn check(schema: &Value) -> Result<(), String> {
    if schema.to_string().len() > limits::SCHEMA_BYTES {
        return Err(format!("a schema has at most {} bytes", limits::SCHEMA_BYTES));
    }
    jsonschema::validator_for(schema).map(|_| ()).map_err(|err| format!("no JSON Schema: {err}"))
}

/// What of a value does not meet a schema, each with where; at most ten.
pub fn problems(schema: &Value, value: &Value) -> Vec<String> {
    let validator = match jsonschema::validator_for(schema) {
        Ok(validator) => validator,
        Err(err) => return vec![format!("its schema is none: {err}")],
    };
    let each = validator.iter_errors(value).take(10).map(|err| {
        let at = err.instance_path().to_string();
        let at = if at.is_empty() { "the result".to_owned() } else { at };
        format!("{at}: {err}")
    });
    each.collect()
}

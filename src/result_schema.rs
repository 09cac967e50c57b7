//! JSON Schemas that results must meet. Nothing is fetched: a schema stands for itself.

use std::sync::{Arc, LazyLock};

use quick_cache::sync::Cache;
use serde_json::Value;

use crate::limits;

/// By their texts, the newest ones: a schema is made ready once, and then judges many results.
static KEPT: LazyLock<Cache<String, Arc<jsonschema::Validator>>> =
    LazyLock::new(|| Cache::new(limits::CONDITIONS_KEPT));

/// Whether a schema is one; the error is a sentence.
pub fn check(schema: &Value) -> Result<(), String> {
    if schema.to_string().len() > limits::SCHEMA_BYTES {
        return Err(format!("a schema has at most {} bytes", limits::SCHEMA_BYTES));
    }
    jsonschema::validator_for(schema).map(|_| ()).map_err(|err| format!("no JSON Schema: {err}"))
}

/// What of a value does not meet a schema, each with where; at most ten.
pub fn problems(schema: &Value, value: &Value) -> Vec<String> {
    let text = schema.to_string();
    let validator = match KEPT.get(&text) {
        Some(kept) => kept,
        None => match jsonschema::validator_for(schema) {
            Ok(validator) => {
                let validator = Arc::new(validator);
                KEPT.insert(text, validator.clone());
                validator
            }
            Err(err) => return vec![format!("its schema is none: {err}")],
        },
    };
    let each = validator.iter_errors(value).take(10).map(|err| {
        let at = err.instance_path().to_string();
        let at = if at.is_empty() { "the result".to_owned() } else { at };
        format!("{at}: {err}")
    });
    each.collect()
}

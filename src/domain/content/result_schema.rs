//! Validates results against JSON Schemas. Nothing is fetched: a schema must be self-contained.
//!
//! Schemas stay within the [`budget`]: their maximum cost is computed before compilation.

mod bounds;

use std::sync::{Arc, LazyLock};

use jsonschema::{PatternOptions, Validator};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde_json::Value;

use crate::kernel::{budget, limits};

type Compiled = Result<Arc<Schema>, String>;

/// Cache of the most recent schemas by text, invalid ones included: a schema is compiled once and
/// then validates many results.
static CACHE: LazyLock<Cache<String, Compiled, Bytes>> =
    LazyLock::new(|| Cache::with_weighter(limits::CONDITIONS_KEPT, budget::KEPT_BYTES, Bytes));

#[derive(Clone)]
struct Bytes;

impl Weighter<String, Compiled> for Bytes {
    fn weight(&self, text: &String, compiled: &Compiled) -> u64 {
        let patterns = compiled.as_ref().map_or(0, |schema| schema.patterns);
        text.len() as u64 + 64 + budget::KEPT_PATTERN_BYTES * patterns as u64
    }
}

#[derive(Debug)]
struct Schema {
    validator: Validator,
    cost: usize,
    positions: usize,
    recursive: bool,
    patterns: usize,
}

/// Maximum number of problems in one report.
const PROBLEMS: usize = 10;
/// Maximum cost of a validation up to which each problem is reported with its location: all checks
/// run before the first problem is available.
const LOCATED_JUDGEMENTS: usize = 100_000;
/// Same, of the work of patterns.
const LOCATED_MATCH_WORK: usize = budget::SCHEMA_MATCH_WORK / 10;

/// Checks that a schema is valid and within bounds; caches only the verdict.
pub fn check(schema: &Value) -> Result<(), String> {
    let text = written(schema)?;
    budget::verdict("schema", &text, || budget::deep(|| fresh(schema).map(|_| ())).and_then(|verdict| verdict))
}

/// Returns the problems of a value under a schema, each with its location; at most ten.
pub fn problems(schema: &Value, value: &Value) -> Vec<String> {
    match compiled(schema) {
        // The recursion is as deep as the value, times the depth of the schema.
        Ok(schema) if schema.recursive => {
            let verdict = budget::deep(|| Ok(schema.problems(value))).and_then(|verdict| verdict);
            verdict.unwrap_or_else(|why| vec![why])
        }
        Ok(schema) => budget::caught(|| Ok(schema.problems(value))).unwrap_or_else(|why| vec![why]),
        Err(why) => vec![format!("the schema is invalid: {why}")],
    }
}

fn written(schema: &Value) -> Result<String, String> {
    let text = schema.to_string();
    if text.len() > limits::SCHEMA_BYTES {
        return Err(format!("a schema must have at most {} bytes", limits::SCHEMA_BYTES));
    }
    Ok(text)
}

fn compiled(schema: &Value) -> Compiled {
    let text = written(schema)?;
    if let Some(cached) = CACHE.get(&text) {
        return cached;
    }
    let compiled = budget::deep(|| fresh(schema).map(Arc::new))?;
    CACHE.insert(text, compiled.clone());
    compiled
}

fn fresh(schema: &Value) -> Result<Schema, String> {
    let measured = bounds::measure(schema)?;
    // Without look-around, which has no bound: its limit of backtracking counts failures only.
    let patterns =
        PatternOptions::regex().size_limit(budget::PATTERN_PROGRAM_BYTES).dfa_size_limit(budget::PATTERN_CACHE_BYTES);
    let options = jsonschema::options().with_pattern_options(patterns);
    // Checking the format `regex` would compile a pattern for each text.
    let options = options.with_format("regex", |_: &str| true);
    let validator =
        options.build(schema).map_err(|err| format!("invalid JSON Schema: {}", truncated(&err.to_string())))?;
    let bounds::Measured { cost, positions, recursive, patterns } = measured;
    Ok(Schema { validator, cost, positions, recursive, patterns })
}

impl Schema {
    fn problems(&self, value: &Value) -> Vec<String> {
        let judgements = self.cost.saturating_mul(parts(value));
        let work = self.positions.saturating_mul(if self.positions == 0 { 0 } else { text_bytes(value) });
        if judgements > budget::JUDGEMENTS || work > budget::SCHEMA_MATCH_WORK {
            return vec!["the result: is too large to be validated against its schema".into()];
        }
        if self.validator.is_valid(value) {
            return Vec::new();
        }
        if judgements > LOCATED_JUDGEMENTS || work > LOCATED_MATCH_WORK {
            return vec!["the result: does not match its schema; it is too large to locate the problems".into()];
        }
        let each = self.validator.iter_errors(value).take(PROBLEMS).map(|err| {
            let at = err.instance_path().to_string();
            let at = if at.is_empty() { "the result".to_owned() } else { at };
            format!("{at}: {}", truncated(&err.to_string()))
        });
        each.collect()
    }
}

/// Truncates an error: its message contains whole values.
fn truncated(text: &str) -> String {
    text.chars().take(1_000).collect()
}

/// The parts of a value; a long text counts as several, as checks of its length read it.
fn parts(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(parts).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(parts).sum::<usize>(),
        Value::String(text) => 1 + text.len() / budget::SCHEMA_TEXT_BYTES,
        _ => 1,
    }
}

/// The bytes of all texts and names that patterns can be matched against. An empty one counts, too.
fn text_bytes(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(text_bytes).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| 1 + name.len() + text_bytes(value)).sum(),
        Value::String(text) => 1 + text.len(),
        _ => 0,
    }
}

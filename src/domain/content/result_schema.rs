//! JSON Schemas that results must meet. Nothing is fetched: a schema stands for itself.
//!
//! They keep to the [`budget`]: what a schema can cost is counted before it is compiled.

mod bounds;

use std::sync::{Arc, LazyLock};

use jsonschema::{PatternOptions, Validator};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde_json::Value;

use crate::kernel::{budget, limits};

type Compiled = Result<Arc<Schema>, String>;

/// By their texts, the newest ones: a schema is made ready once, and then judges many results. Bad ones too.
static KEPT: LazyLock<Cache<String, Compiled, Bytes>> =
    LazyLock::new(|| Cache::with_weighter(limits::CONDITIONS_KEPT, budget::KEPT_BYTES, Bytes));

#[derive(Clone)]
struct Bytes;

impl Weighter<String, Compiled> for Bytes {
    fn weight(&self, text: &String, compiled: &Compiled) -> u64 {
        // A pattern's program takes many times its text.
        let patterns = compiled.as_ref().map_or(0, |schema| schema.patterns);
        text.len() as u64 + 64 + 4 * 1024 * patterns as u64
    }
}

#[derive(Debug)]
struct Schema {
    validator: Validator,
    cost: usize,
    recursive: bool,
    patterns: usize,
}

/// Problems that are told at once.
const PROBLEMS: usize = 10;
/// Judgements of parts of a value up to which each problem is told with its place; all of them are made before the first is
/// seen.
const TOLD_JUDGEMENTS: usize = 100_000;

/// Checks whether a schema may be used; only the verdict is kept. The error is a sentence.
pub fn check(schema: &Value) -> Result<(), String> {
    let text = written(schema)?;
    budget::verdict("schema", &text, || budget::deep(|| fresh(schema).map(|_| ())).and_then(|judged| judged))
}

/// What of a value does not meet a schema, each with where; at most ten.
pub fn problems(schema: &Value, value: &Value) -> Vec<String> {
    match compiled(schema) {
        // As deep as the value is, times its own depth.
        Ok(schema) if schema.recursive => {
            let judged = budget::deep(|| Ok(schema.problems(value))).and_then(|judged| judged);
            judged.unwrap_or_else(|why| vec![why])
        }
        Ok(schema) => budget::caught(|| Ok(schema.problems(value))).unwrap_or_else(|why| vec![why]),
        Err(why) => vec![format!("its schema is none: {why}")],
    }
}

fn written(schema: &Value) -> Result<String, String> {
    let text = schema.to_string();
    if text.len() > limits::SCHEMA_BYTES {
        return Err(format!("a schema has at most {} bytes", limits::SCHEMA_BYTES));
    }
    Ok(text)
}

fn compiled(schema: &Value) -> Compiled {
    let text = written(schema)?;
    if let Some(kept) = KEPT.get(&text) {
        return kept;
    }
    let compiled = budget::deep(|| fresh(schema).map(Arc::new))?;
    KEPT.insert(text, compiled.clone());
    compiled
}

fn fresh(schema: &Value) -> Result<Schema, String> {
    let measured = bounds::measure(schema)?;
    let patterns = PatternOptions::fancy_regex()
        .backtrack_limit(budget::SCHEMA_BACKTRACKS)
        .size_limit(budget::SCHEMA_PATTERN_PROGRAM_BYTES)
        .dfa_size_limit(budget::SCHEMA_PATTERN_PROGRAM_BYTES);
    let options = jsonschema::options().with_pattern_options(patterns);
    // To judge a pattern takes compiling it, for each text anew.
    let options = options.with_format("regex", |_: &str| true);
    let validator = options.build(schema).map_err(|err| format!("no JSON Schema: {}", cut(&err.to_string())))?;
    Ok(Schema { validator, cost: measured.cost, recursive: measured.recursive, patterns: measured.patterns })
}

impl Schema {
    fn problems(&self, value: &Value) -> Vec<String> {
        if self.cost.saturating_mul(parts(value)) > budget::JUDGEMENTS {
            return vec!["the result: is too large to be judged by its schema".into()];
        }
        if self.validator.is_valid(value) {
            return Vec::new();
        }
        if self.cost.saturating_mul(parts(value)) > TOLD_JUDGEMENTS {
            return vec!["the result: does not meet its schema; it is too large to say where".into()];
        }
        let each = self.validator.iter_errors(value).take(PROBLEMS).map(|err| {
            let at = err.instance_path().to_string();
            let at = if at.is_empty() { "the result".to_owned() } else { at };
            format!("{at}: {}", cut(&err.to_string()))
        });
        each.collect()
    }
}

/// An error as it is told: it shows whole values.
fn cut(text: &str) -> String {
    text.chars().take(1_000).collect()
}

fn parts(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(parts).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(parts).sum::<usize>(),
        _ => 1,
    }
}

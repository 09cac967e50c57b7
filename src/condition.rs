//! Conditions in CEL: whether a step is done, whom an agent's filter admits, what a decision decides.
//!
//! An expression is bounded in length; CEL itself has no loops but over lists that are given to it.

use std::sync::{Arc, LazyLock};

use cel::{Context, Program, Value as Cel};
use quick_cache::sync::Cache;
use serde_json::{Map, Value};

use crate::limits;

/// By their texts, the newest ones.
static KEPT: LazyLock<Cache<String, Arc<Condition>>> = LazyLock::new(|| Cache::new(limits::CONDITIONS_KEPT));

/// An expression that parses.
#[derive(Debug)]
pub struct Condition {
    program: Program,
}

impl Condition {
    /// Parses, once for each text: that takes a thousand times longer than to evaluate. The error is a sentence.
    pub fn parse(source: &str) -> Result<Arc<Self>, String> {
        if let Some(kept) = KEPT.get(source) {
            return Ok(kept);
        }
        let parsed = Arc::new(Self::fresh(source)?);
        KEPT.insert(source.to_owned(), parsed.clone());
        Ok(parsed)
    }

    fn fresh(source: &str) -> Result<Self, String> {
        if source.trim().is_empty() || source.len() > limits::CONDITION_BYTES {
            return Err(format!("a condition has 1 to {} bytes", limits::CONDITION_BYTES));
        }
        let program = Program::compile(source).map_err(|err| {
            let told = err.to_string();
            let told = told.lines().next().unwrap_or_default().trim_start_matches("ERROR: <input>:");
            // What could stand there instead is a list of all there is.
            format!("no condition: {}", told.split(" expecting ").next().unwrap_or_default())
        })?;
        Ok(Self { program })
    }

    /// Whether it speaks of a variable.
    pub fn mentions(&self, name: &str) -> bool {
        self.program.references().has_variable(name)
    }

    /// Those of the variables it speaks of that are none of these.
    pub fn unknown(&self, known: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = self
            .program
            .references()
            .variables()
            .into_iter()
            // `@result` and its like are CEL's own, of its macros.
            .filter(|name| !known.contains(name) && !name.starts_with('@'))
            .map(str::to_owned)
            .collect();
        all.sort();
        all
    }

    /// Evaluates with values; the error says what is missing or does not fit.
    pub fn evaluate(&self, values: &Map<String, Value>) -> Result<Value, String> {
        let mut context = Context::default();
        for (name, value) in values {
            context.add_variable_from_value(name.clone(), cel(value));
        }
        let value: Cel = self.program.execute(&context).map_err(|err| err.to_string())?;
        value.json().map_err(|err| err.to_string())
    }

    /// Whether it holds.
    pub fn holds(&self, values: &Map<String, Value>) -> Result<bool, String> {
        match self.evaluate(values)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(format!("is neither true nor false, but {other}")),
        }
    }
}

/// As CEL takes it: whole numbers are signed, so that they compare with those that are written in an expression.
fn cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(flag) => Cel::Bool(*flag),
        Value::Number(number) => {
            number.as_i64().map_or_else(|| Cel::Float(number.as_f64().unwrap_or_default()), Cel::Int)
        }
        Value::String(text) => Cel::String(text.clone().into()),
        Value::Array(items) => Cel::List(items.iter().map(cel).collect::<Vec<_>>().into()),
        Value::Object(fields) => {
            let fields: std::collections::HashMap<String, Cel> =
                fields.iter().map(|(name, value)| (name.clone(), cel(value))).collect();
            Cel::from(fields)
        }
    }
}

/// Parses and asks for the variables, without evaluating.
pub fn check(source: &str, known: &[&str]) -> Result<(), String> {
    let parsed = Condition::parse(source)?;
    let unknown = parsed.unknown(known);
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(format!("speaks of {}; there is {}", unknown.join(", "), known.join(", ")))
    }
}

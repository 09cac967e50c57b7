//! Conditions in CEL: whether a step is done, whom an agent's filter admits, what a decision decides.
//!
//! They keep to the [`budget`]: what could grow is refused when it is parsed, and loops take steps that end.

mod bounds;
mod size;

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use cel::parser::Expression;
use cel::{Context, Env, ExecutionError, Value as Cel};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde_json::{Map, Value};

use crate::kernel::budget::{self, Steps};
use crate::kernel::{limits, validate};

type Parsed = Result<Arc<Condition>, String>;

/// The names.
pub const VARIABLES: &[&str] = &["record", "variables", "results", "run", "campaign"];

/// The newest conditions by their texts; those that can't be read too.
static KEPT: LazyLock<Cache<String, Parsed, Bytes>> =
    LazyLock::new(|| Cache::with_weighter(limits::CONDITIONS_KEPT, budget::KEPT_BYTES, Bytes));

#[derive(Clone)]
struct Bytes;

impl Weighter<String, Parsed> for Bytes {
    fn weight(&self, source: &String, _: &Parsed) -> u64 {
        source.len() as u64 + 64
    }
}

/// The functions of CEL; those of the extensions, which multiply texts, are not among them.
static CEL: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// An expression that parses, and keeps to the budget.
#[derive(Debug)]
pub struct Condition {
    expression: Expression,
    names: HashSet<String>,
    patterns: Arc<Vec<regex::Regex>>,
    /// True if there is a loop in it: then it takes steps.
    loops: bool,
}

impl Condition {
    /// Parses, once for each text: that takes a thousand times longer than to evaluate. The error is a sentence.
    pub fn parse(source: &str) -> Result<Arc<Self>, String> {
        if let Some(kept) = KEPT.get(source) {
            return kept;
        }
        let parsed = Self::fresh(source).map(Arc::new);
        KEPT.insert(source.to_owned(), parsed.clone());
        parsed
    }

    fn fresh(source: &str) -> Result<Self, String> {
        if source.trim().is_empty() || source.len() > limits::CONDITION_BYTES {
            return Err(format!("a condition has 1 to {} bytes", limits::CONDITION_BYTES));
        }
        bounds::scan(source)?;
        let read = || {
            let program = CEL.compile(source).map_err(|err| {
                let told = err.to_string();
                let told = told.lines().next().unwrap_or_default().trim_start_matches("ERROR: <input>:");
                // What could stand there instead is a list of all there is.
                format!("no condition: {}", told.split(" expecting ").next().unwrap_or_default())
            })?;
            let mut expression = program.expression().clone();
            let names = size::measure(&expression)?;
            let bounded = bounds::bind(&mut expression)?;
            Ok(Self { expression, names, patterns: Arc::new(bounded.patterns), loops: bounded.loops })
        };
        budget::deep(read)?
    }

    /// Whether it goes through lists.
    pub fn loops(&self) -> bool {
        self.loops
    }

    /// Whether it speaks of a variable.
    pub fn mentions(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Those of the variables it speaks of that are none of these.
    pub fn unknown(&self, known: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = self.names.iter().filter(|name| !known.contains(&name.as_str())).cloned().collect();
        all.sort();
        all
    }

    /// Evaluates with values, within steps that others may share; the error says what is missing or does not fit.
    pub fn evaluate(&self, values: &Map<String, Value>, steps: &Steps) -> Result<Value, String> {
        let mut context = Context::with_env(CEL.clone());
        let mut bytes = 0;
        for (name, value) in values.iter().filter(|(name, _)| self.names.contains(name.as_str())) {
            bytes += budget::bytes(value);
            if bytes > budget::VALUES_BYTES {
                return Err(format!("the values are too large: more than {} bytes", budget::VALUES_BYTES));
            }
            context.add_variable_from_value(name.clone(), cel(value));
        }
        if !self.patterns.is_empty() {
            let patterns = self.patterns.clone();
            let matches = move |text: Arc<String>, which: i64| matches(&patterns, &text, which);
            context.add_function(bounds::MATCHES, matches).map_err(|err| err.to_string())?;
        }
        if self.loops {
            let steps = steps.clone();
            let turn =
                move || if steps.take(1) { Ok(true) } else { Err(ExecutionError::function_error("loop", SPENT)) };
            context.add_function(bounds::TURN, turn).map_err(|err| err.to_string())?;
        }
        let value: Result<Cel, ExecutionError> = budget::caught(|| Ok(Cel::resolve(&self.expression, &context)))?;
        // An error within `||` may have been passed over.
        if self.loops && steps.are_spent() {
            return Err(SPENT.to_owned());
        }
        let value = value.map_err(|err| cut(&err.to_string()))?;
        value.json().map_err(|err| cut(&err.to_string()))
    }

    /// Returns true if it holds, within the steps of one evaluation.
    pub fn holds(&self, values: &Map<String, Value>) -> Result<bool, String> {
        self.holds_within(values, &Steps::of_one())
    }

    /// Returns true if it holds, within steps that others share.
    pub fn holds_within(&self, values: &Map<String, Value>, steps: &Steps) -> Result<bool, String> {
        match self.evaluate(values, steps)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(format!("is neither true nor false, but {}", validate::shown(&other.to_string()))),
        }
    }
}

const SPENT: &str = "it takes more steps, or more time, than a condition may";

/// An error as it is told: those of CEL show whole values.
fn cut(text: &str) -> String {
    text.chars().take(300).collect()
}

fn matches(patterns: &[regex::Regex], text: &str, which: i64) -> Result<bool, ExecutionError> {
    if text.len() > budget::MATCHED_BYTES {
        let why = format!("the text has more than {} bytes", budget::MATCHED_BYTES);
        return Err(ExecutionError::function_error("matches", why));
    }
    let pattern = usize::try_from(which).ok().and_then(|which| patterns.get(which));
    Ok(pattern.is_some_and(|pattern| pattern.is_match(text)))
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

/// Parses and asks for the variables, without evaluating, and keeps nothing but the verdict.
pub fn check(source: &str, known: &[&str]) -> Result<(), String> {
    budget::verdict(&format!("condition of {}", known.join(", ")), source, || {
        let unknown = Condition::fresh(source)?.unknown(known);
        if unknown.is_empty() {
            Ok(())
        } else {
            Err(format!("speaks of {}; there is {}", unknown.join(", "), known.join(", ")))
        }
    })
}

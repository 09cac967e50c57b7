//! Evaluates conditions in CEL: conditions of steps, filters of agents, cases of decisions.
//!
//! They stay within the [`budget`]: expressions that could grow are rejected at parse time, and
//! loops and patterns consume a limited number of steps.

mod bounds;
mod size;

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use cel::parser::Expression;
use cel::{Context, Env, ExecutionError, Value as Cel};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde_json::{Map, Value};

use crate::kernel::budget::{self, Pattern, Steps};
use crate::kernel::{limits, validate};

/// A record's own fields that may be empty: in a text they are unknown then, in a condition null.
const OPTIONAL: [&str; 5] = ["email", "phone", "stage", "time_zone", "external_id"];

type Parsed = Result<Arc<Condition>, String>;

/// The variables of a condition.
pub const VARIABLES: &[&str] = &["record", "variables", "results", "run", "campaign"];

/// Cache of the most recent conditions by source, including those that failed to parse.
static CACHE: LazyLock<Cache<String, Parsed, Bytes>> =
    LazyLock::new(|| Cache::with_weighter(limits::CONDITIONS_KEPT, budget::KEPT_BYTES, Bytes));

#[derive(Clone)]
struct Bytes;

impl Weighter<String, Parsed> for Bytes {
    fn weight(&self, source: &String, parsed: &Parsed) -> u64 {
        let patterns = parsed.as_ref().map_or(0, |condition| condition.patterns.len());
        source.len() as u64 + 64 + budget::KEPT_PATTERN_BYTES * patterns as u64
    }
}

/// The standard functions of CEL, without extensions: some of those multiply texts.
static CEL: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A parsed expression that stays within the budget.
#[derive(Debug)]
pub struct Condition {
    expression: Expression,
    names: HashSet<String>,
    patterns: Arc<Vec<Pattern>>,
    /// True if the expression has a loop or a pattern and therefore consumes steps.
    takes_steps: bool,
}

impl Condition {
    /// Parses a source, or returns the cached result: parsing takes a thousand times longer than
    /// evaluation.
    pub fn parse(source: &str) -> Result<Arc<Self>, String> {
        if let Some(cached) = CACHE.get(source) {
            return cached;
        }
        let parsed = Self::fresh(source).map(Arc::new);
        CACHE.insert(source.to_owned(), parsed.clone());
        parsed
    }

    fn fresh(source: &str) -> Result<Self, String> {
        if source.trim().is_empty() || source.len() > limits::CONDITION_BYTES {
            return Err(format!("a condition must have 1 to {} bytes", limits::CONDITION_BYTES));
        }
        bounds::scan(source)?;
        let read = || {
            let program = CEL.compile(source).map_err(|err| {
                let message = err.to_string();
                let message = message.lines().next().unwrap_or_default().trim_start_matches("ERROR: <input>:");
                // The rest of the message lists every token that could stand there.
                format!("invalid condition: {}", message.split(" expecting ").next().unwrap_or_default())
            })?;
            let mut expression = program.expression().clone();
            let names = size::measure(&expression)?;
            let bounded = bounds::bind(&mut expression)?;
            let takes_steps = bounded.loops || !bounded.patterns.is_empty();
            Ok(Self { expression, names, patterns: Arc::new(bounded.patterns), takes_steps })
        };
        budget::deep(read)?
    }

    /// True if the expression iterates over lists or matches patterns: its time is not proportional
    /// to its values.
    pub fn takes_steps(&self) -> bool {
        self.takes_steps
    }

    /// True if the expression uses a variable.
    pub fn mentions(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Returns the variables of the expression that are not among `known`.
    pub fn unknown(&self, known: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = self.names.iter().filter(|name| !known.contains(&name.as_str())).cloned().collect();
        all.sort();
        all
    }

    /// Evaluates the expression, within steps that may be shared. The error names the missing or
    /// unsuitable value.
    pub fn evaluate(&self, values: &Map<String, Value>, steps: &Steps) -> Result<Value, String> {
        let mut context = Context::with_env(CEL.clone());
        let mut bytes = 0;
        for (name, value) in values.iter().filter(|(name, _)| self.names.contains(name.as_str())) {
            bytes += budget::bytes(value);
            if bytes > budget::VALUES_BYTES {
                return Err(format!("the values are too large: more than {} bytes", budget::VALUES_BYTES));
            }
            let value = if name == "record" { record(value) } else { cel(value) };
            context.add_variable_from_value(name.clone(), value);
        }
        if !self.patterns.is_empty() {
            let (patterns, steps) = (self.patterns.clone(), steps.clone());
            let matches = move |text: Arc<String>, which: i64| matches(&patterns, &text, which, &steps);
            context.add_function(bounds::MATCHES, matches).map_err(|err| err.to_string())?;
        }
        if self.takes_steps {
            let steps = steps.clone();
            let turn =
                move || if steps.take(1) { Ok(true) } else { Err(ExecutionError::function_error("loop", SPENT)) };
            context.add_function(bounds::TURN, turn).map_err(|err| err.to_string())?;
        }
        let value: Result<Cel, ExecutionError> = budget::caught(|| Ok(Cel::resolve(&self.expression, &context)))?;
        // `||` may have swallowed the error.
        if self.takes_steps && steps.are_spent() {
            return Err(SPENT.to_owned());
        }
        let value = value.map_err(|err| truncated(&err.to_string()))?;
        value.json().map_err(|err| truncated(&err.to_string()))
    }

    /// True if the condition is met, within the steps of one evaluation.
    pub fn holds(&self, values: &Map<String, Value>) -> Result<bool, String> {
        self.holds_within(values, &Steps::of_one())
    }

    /// True if the condition is met, within shared steps.
    pub fn holds_within(&self, values: &Map<String, Value>, steps: &Steps) -> Result<bool, String> {
        match self.evaluate(values, steps)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(format!("is neither true nor false, but {}", validate::printable(&other.to_string()))),
        }
    }
}

/// The error once steps or time are exhausted.
pub const SPENT: &str = "the condition exceeds its limit of steps or time";

/// Truncates an error: messages of CEL contain whole values.
fn truncated(text: &str) -> String {
    text.chars().take(300).collect()
}

fn matches(patterns: &[Pattern], text: &str, which: i64, steps: &Steps) -> Result<bool, ExecutionError> {
    if text.len() > budget::MATCHED_BYTES {
        let why = format!("the text has more than {} bytes", budget::MATCHED_BYTES);
        return Err(ExecutionError::function_error("matches", why));
    }
    let Some(pattern) = usize::try_from(which).ok().and_then(|which| patterns.get(which)) else { return Ok(false) };
    pattern.is_match(text, steps).ok_or_else(|| ExecutionError::function_error("matches", SPENT))
}

/// Converts a record to CEL: those of its own fields that are empty are null, so that a condition can
/// ask for them.
fn record(value: &Value) -> Cel {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let missing = OPTIONAL.iter().filter(|name| !fields.contains_key(**name));
            let missing = missing.map(|name| ((*name).to_owned(), Cel::Null));
            let given = fields.iter().map(|(name, value)| (name.clone(), cel(value)));
            Cel::from(missing.chain(given).collect::<std::collections::HashMap<String, Cel>>())
        }
        _ => cel(value),
    }
}

/// Converts a value to CEL. Integers become signed, so that they compare with literals in an
/// expression.
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

/// Checks that a source parses and uses only known variables; caches only the verdict.
pub fn check(source: &str, known: &[&str]) -> Result<(), String> {
    budget::verdict(&format!("condition of {}", known.join(", ")), source, || {
        let unknown = Condition::fresh(source)?.unknown(known);
        if unknown.is_empty() {
            Ok(())
        } else {
            Err(format!("unknown variable {}; available: {}", unknown.join(", "), known.join(", ")))
        }
    })
}

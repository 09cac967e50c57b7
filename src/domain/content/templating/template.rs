//! Parses templates within the budget: the content of tags is counted before parsing, and the
//! growth of values is estimated before compilation.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use minijinja::machinery::{Token, parse, tokenize};
use minijinja::value::StringInput;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::deadline;
use super::describe;
use super::fields::Fields;
use super::growth::{self, Measured};
use crate::kernel::{budget, limits, storable, validate};

type Read = std::result::Result<Arc<Template>, String>;

/// Cache of the most recent templates by source, including those that failed to parse.
static CACHE: LazyLock<Cache<String, Read, Bytes>> =
    LazyLock::new(|| Cache::with_weighter(limits::CONDITIONS_KEPT, budget::KEPT_BYTES, Bytes));

#[derive(Clone)]
struct Bytes;

impl Weighter<String, Read> for Bytes {
    fn weight(&self, source: &String, _: &Read) -> u64 {
        source.len() as u64 + 64
    }
}

/// A parsed template that stays within the budget.
#[derive(Debug)]
pub(super) struct Template {
    env: Environment<'static>,
    measured: Measured,
    /// The source's length in bytes; without loops there are fewer instructions.
    length: usize,
}

const NAME: &str = "template";

impl Template {
    /// Parses a source, or returns the cached result.
    pub(super) fn read(source: &str) -> Read {
        if let Some(cached) = CACHE.get(source) {
            return cached;
        }
        // A failure to get a thread is not cached: the next attempt may get one.
        let read = budget::deep(|| fresh(source).map(Arc::new))?;
        CACHE.insert(source.to_owned(), read.clone());
        read
    }

    /// Parses a source without caching.
    pub(super) fn fresh(source: &str) -> Result<Self, String> {
        budget::deep(|| fresh(source)).and_then(|read| read)
    }

    /// The first unknown filter, test or function, if any.
    pub(super) fn unknown(&self) -> Option<&str> {
        self.measured.unknown.as_deref()
    }

    /// Returns the names that the template uses and does not declare; with `nested`, including
    /// their attributes.
    pub(super) fn blanks(&self, nested: bool) -> HashSet<String> {
        self.env.get_template(NAME).map(|template| template.undeclared_variables(nested)).unwrap_or_default()
    }

    /// Renders the template with the values of the context.
    pub(super) fn fill(&self, what: &str, context: &Context, until: Instant) -> std::result::Result<String, String> {
        if context.bytes > budget::VALUES_BYTES {
            return Err(format!("{what}: the values are too large: more than {} bytes", budget::VALUES_BYTES));
        }
        let fuel = fuel(self.measured.growth, context.bytes);
        let needs_fuel = self.measured.loops || self.length as u64 > fuel;
        let fueled = (needs_fuel && fuel < limits::RENDER_FUEL).then(|| {
            let mut env = self.env.clone();
            env.set_fuel(Some(fuel));
            env
        });
        let template = fueled.as_ref().unwrap_or(&self.env).get_template(NAME).map_err(|err| describe(&err))?;
        let mut out = Bounded { text: Vec::new(), left: limits::RENDERED_BYTES, writes: 0 };
        let (filled, is_late) = deadline::within(until, || {
            budget::caught(|| Ok(template.render_captured_to(context.values.clone(), &mut out).map(|_| ())))
        });
        if is_late {
            return Err(format!("{what}: {LATE}"));
        }
        let done = filled.map_err(|why| format!("{what}: {why}"))?;
        match done {
            Ok(()) => {
                let text = String::from_utf8(out.text).map_err(|_| format!("{what}: is not text"))?;
                storable::text(&text).map_err(|unfit| format!("{what}: it renders to a text that {unfit}"))?;
                Ok(text)
            }
            Err(err) if err.kind() == ErrorKind::UndefinedError => {
                let unknown = self.blanks(true).into_iter().filter(|name| context.lookup(name).is_none());
                let (optional, needed): (BTreeSet<String>, BTreeSet<String>) =
                    unknown.partition(|name| self.measured.optional.contains(name));
                // A name that the template tests for is reported only if no other name is missing.
                let names: Vec<String> = if needed.is_empty() { optional } else { needed }.into_iter().collect();
                let Some(first) = names.first() else { return Err(format!("{what}: {}", describe(&err))) };
                let instead = context.fields.instead_of(first);
                Err(format!("{what}: unknown placeholder {}{instead}", names.join(", ")))
            }
            Err(err) => Err(format!("{what}: {}", describe(&err))),
        }
    }
}

/// The values of a rendering.
pub(super) struct Context {
    fields: Arc<Fields>,
    values: Value,
    bytes: usize,
}

impl Context {
    pub(super) fn of(values: &serde_json::Map<String, serde_json::Value>) -> Self {
        let bytes = values.iter().map(|(name, value)| name.len() + budget::bytes(value)).sum();
        let fields = Arc::new(Fields::root(values));
        Self { values: Value::from_dyn_object(fields.clone()), fields, bytes }
    }

    fn lookup(&self, path: &str) -> Option<Value> {
        let mut at = self.values.clone();
        for part in path.split('.') {
            at = at.get_attr(part).ok()?;
            if at.is_undefined() {
                return None;
            }
        }
        Some(at)
    }
}

/// Writes a value in JSON spelling: `true`, not `True`. Values that make no sense in a text (null,
/// or a number that is not finite) are errors.
fn write(
    out: &mut minijinja::Output<'_>,
    state: &mut minijinja::State<'_, '_>,
    value: &Value,
) -> std::result::Result<(), Error> {
    check_deadline()?;
    if value.is_none() {
        return Err(Error::new(ErrorKind::InvalidOperation, "a value is null: give it a `default`"));
    }
    if value.is_number() && f64::try_from(value.clone()).is_ok_and(|number| !number.is_finite()) {
        return Err(Error::new(ErrorKind::InvalidOperation, "a number is not finite"));
    }
    if value.kind() == minijinja::value::ValueKind::Bool {
        let text = if value.is_true() { "true" } else { "false" };
        return out.write_str(text).map_err(Error::from);
    }
    minijinja::escape_formatter(out, state, value)
}

/// Fuel of a template: one instruction passes over the largest value about once, also without
/// loops. The more values a template joins into one, the less is the minimum.
fn fuel(growth: usize, bytes: usize) -> u64 {
    let pass = (growth + 1).saturating_mul(bytes.max(16 * 1024));
    let least = budget::FUEL_LEAST * 2 / (growth.max(1) as u64 + 1);
    ((budget::LOOP_BYTES / pass) as u64).clamp(least, limits::RENDER_FUEL)
}

fn fresh(source: &str) -> std::result::Result<Template, String> {
    if source.len() > limits::TEMPLATE_BYTES {
        return Err(format!("must be at most {} bytes", limits::TEMPLATE_BYTES));
    }
    scan(source)?;
    let tree = parse(source, NAME, Default::default()).map_err(|err| describe(&err))?;
    let measured = growth::measure(&tree)?;
    let mut env = ENVIRONMENT.clone();
    env.add_template_owned(NAME, source.to_owned()).map_err(|err| describe(&err))?;
    Ok(Template { env, measured, length: source.len() })
}

const STATEMENTS: [&str; 6] = ["if", "elif", "else", "endif", "for", "endfor"];

/// Counts everything that the parser handles by recursion, and rejects statements that could
/// accumulate text in memory (`set`, `with` …).
fn scan(source: &str) -> std::result::Result<(), String> {
    // State within one tag.
    let (mut parts, mut depth, mut statement) = (0, 0usize, false);
    // The open blocks, each with the number of its branches.
    let (mut blocks, mut open): (Vec<usize>, usize) = (Vec::new(), 0);
    for token in tokenize(source, false, Default::default()) {
        let (token, span) = token.map_err(|err| describe(&err))?;
        let line = span.start_line;
        match &token {
            Token::TemplateData(_) | Token::VariableEnd | Token::BlockEnd => continue,
            Token::VariableStart | Token::BlockStart => {
                (parts, depth, statement) = (0, 0, matches!(token, Token::BlockStart));
                continue;
            }
            Token::BracketOpen | Token::ParenOpen | Token::BraceOpen => depth += 1,
            Token::BracketClose | Token::ParenClose | Token::BraceClose => depth = depth.saturating_sub(1),
            _ => {}
        }
        if parts == 0 && statement {
            let word = if let Token::Ident(word) = &token { *word } else { "" };
            match word {
                "if" | "for" => {
                    blocks.push(1);
                    open += 1;
                }
                "elif" => {
                    if let Some(block) = blocks.last_mut() {
                        *block += 1;
                    }
                    open += 1;
                }
                "endif" | "endfor" => open = open.saturating_sub(blocks.pop().unwrap_or_default()),
                _ if STATEMENTS.contains(&word) => {}
                _ => {
                    let allowed = STATEMENTS.join(", ");
                    return Err(format!("unknown statement `{}`; allowed: {allowed}", validate::printable(word)));
                }
            }
        }
        parts += 1;
        if parts > budget::CHAIN {
            let most = budget::CHAIN;
            return Err(format!(
                "at most {most} names, values and operators are allowed within one pair of braces (line {line})"
            ));
        }
        if depth > budget::NESTING {
            return Err(format!("brackets can be nested at most {} deep (line {line})", budget::NESTING));
        }
        if open > budget::BLOCKS {
            return Err(format!("if, elif and for can be nested at most {} deep (line {line})", budget::BLOCKS));
        }
    }
    Ok(())
}

const LATE: &str = "rendering took too long";

fn check_deadline() -> std::result::Result<(), Error> {
    if deadline::has_passed() { Err(Error::new(ErrorKind::InvalidOperation, LATE)) } else { Ok(()) }
}

/// Only filters and tests that cannot multiply their input: fuel counts steps, not memory.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    use minijinja::{filters, tests};
    let mut env = Environment::empty();
    // An absent value is false in a condition, and an error in output.
    env.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    env.set_fuel(Some(limits::RENDER_FUEL));
    env.set_recursion_limit(50);
    env.set_formatter(write);
    // Filters that read a whole text check the deadline.
    env.add_filter("upper", upper);
    env.add_filter("lower", lower);
    env.add_filter("title", title);
    env.add_filter("capitalize", filters::capitalize);
    env.add_filter("trim", filters::trim);
    env.add_filter("default", filters::default);
    env.add_filter("length", filters::length);
    env.add_filter("first", filters::first);
    env.add_filter("last", filters::last);
    env.add_filter("round", filters::round);
    env.add_filter("int", filters::int);
    env.add_filter("float", filters::float);
    env.add_filter("abs", filters::abs);
    env.add_test("defined", tests::is_defined);
    env.add_test("undefined", tests::is_undefined);
    env.add_test("none", tests::is_none);
    env.add_test("number", tests::is_number);
    env.add_test("string", tests::is_string);
    env
});

fn upper(value: StringInput<'_>) -> std::result::Result<Value, Error> {
    check_deadline().map(|()| minijinja::filters::upper(value))
}

fn lower(value: StringInput<'_>) -> std::result::Result<Value, Error> {
    check_deadline().map(|()| minijinja::filters::lower(value))
}

fn title(value: Cow<'_, str>) -> std::result::Result<String, Error> {
    check_deadline().map(|()| minijinja::filters::title(value))
}

/// Output bounded by size and deadline.
struct Bounded {
    text: Vec<u8>,
    left: usize,
    writes: u32,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.left = self
            .left
            .checked_sub(bytes.len())
            .ok_or_else(|| std::io::Error::other(format!("longer than {} bytes", limits::RENDERED_BYTES)))?;
        self.writes = self.writes.wrapping_add(1);
        if self.writes.is_multiple_of(64) && deadline::has_passed() {
            return Err(std::io::Error::other(LATE));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

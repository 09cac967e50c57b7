//! A template, read within its budget: what its tags hold is counted before it is parsed, and how large its values can
//! become before it is compiled.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use minijinja::machinery::{Token, parse, tokenize};
use minijinja::value::StringInput;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::fields::Fields;
use super::growth::{self, Measured};
use super::told;
use crate::kernel::{budget, limits, storable, validate};

type Read = std::result::Result<Arc<Template>, String>;

/// By their sources, the newest ones; those that can't be read too.
static KEPT: LazyLock<Cache<String, Read, Bytes>> =
    LazyLock::new(|| Cache::with_weighter(limits::CONDITIONS_KEPT, budget::KEPT_BYTES, Bytes));

#[derive(Clone)]
struct Bytes;

impl Weighter<String, Read> for Bytes {
    fn weight(&self, source: &String, _: &Read) -> u64 {
        source.len() as u64 + 64
    }
}

/// A template that keeps to the budget.
#[derive(Debug)]
pub(super) struct Template {
    env: Environment<'static>,
    measured: Measured,
}

const NAME: &str = "template";

impl Template {
    /// Reads a source, once for each text. The error is a sentence.
    pub(super) fn read(source: &str) -> Read {
        if let Some(kept) = KEPT.get(source) {
            return kept;
        }
        // One that finds no thread may find one the next time.
        let read = budget::deep(|| fresh(source).map(Arc::new))?;
        KEPT.insert(source.to_owned(), read.clone());
        read
    }

    /// Reads a source, and keeps nothing of it.
    pub(super) fn fresh(source: &str) -> Result<Self, String> {
        budget::deep(|| fresh(source)).and_then(|read| read)
    }

    /// A filter, test or function that is not there; none where all are.
    pub(super) fn unknown(&self) -> Option<&str> {
        self.measured.unknown.as_deref()
    }

    /// The names that it speaks of and does not declare; with their attributes, or without.
    pub(super) fn blanks(&self, nested: bool) -> HashSet<String> {
        self.env.get_template(NAME).map(|template| template.undeclared_variables(nested)).unwrap_or_default()
    }

    /// Fills it with values that hold so many bytes.
    pub(super) fn fill(&self, what: &str, context: &Context, until: Instant) -> std::result::Result<String, String> {
        if self.measured.loops && context.bytes > budget::VALUES_BYTES {
            return Err(format!("{what}: the values are too large to loop over: more than {}", budget::VALUES_BYTES));
        }
        let fuel = if self.measured.loops { fuel(self.measured.growth, context.bytes) } else { limits::RENDER_FUEL };
        let fueled = (fuel < limits::RENDER_FUEL).then(|| {
            let mut env = self.env.clone();
            env.set_fuel(Some(fuel));
            env
        });
        let template = fueled.as_ref().unwrap_or(&self.env).get_template(NAME).map_err(|err| told(&err))?;
        let mut out = Bounded { text: Vec::new(), left: limits::RENDERED_BYTES, until, writes: 0 };
        UNTIL.set(Some(until));
        let filled = budget::caught(|| Ok(template.render_captured_to(context.values.clone(), &mut out).map(|_| ())));
        UNTIL.set(None);
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
                // A name that the template asks about is at fault only where no other is.
                let names: Vec<String> = if needed.is_empty() { optional } else { needed }.into_iter().collect();
                let Some(first) = names.first() else { return Err(format!("{what}: {}", told(&err))) };
                let instead = context.fields.instead_of(first);
                Err(format!("{what}: unknown placeholder {}{instead}", names.join(", ")))
            }
            Err(err) => Err(format!("{what}: {}", told(&err))),
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

/// Writes a value as it is written in JSON: `true`, not `True`. What no reader could make sense of is an error.
fn write(
    out: &mut minijinja::Output<'_>,
    state: &mut minijinja::State<'_, '_>,
    value: &Value,
) -> std::result::Result<(), Error> {
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

/// What loops may burn: an instruction passes over the largest value once, about.
fn fuel(growth: usize, bytes: usize) -> u64 {
    let pass = (growth + 1).saturating_mul(bytes.max(16 * 1024));
    ((budget::LOOP_BYTES / pass) as u64).clamp(budget::FUEL_LEAST, limits::RENDER_FUEL)
}

fn fresh(source: &str) -> std::result::Result<Template, String> {
    if source.len() > limits::TEMPLATE_BYTES {
        return Err(format!("at most {} bytes", limits::TEMPLATE_BYTES));
    }
    scan(source)?;
    let tree = parse(source, NAME, Default::default()).map_err(|err| told(&err))?;
    let measured = growth::measure(&tree)?;
    let mut env = ENVIRONMENT.clone();
    env.add_template_owned(NAME, source.to_owned()).map_err(|err| told(&err))?;
    Ok(Template { env, measured })
}

const STATEMENTS: [&str; 6] = ["if", "elif", "else", "endif", "for", "endfor"];

/// Counts what the parser follows by recursion, and refuses the statements that could pile up text in memory (`set`,
/// `with` …).
fn scan(source: &str) -> std::result::Result<(), String> {
    // Of one tag.
    let (mut parts, mut depth, mut statement) = (0, 0usize, false);
    // The blocks that are open, each with the `elif`s that it has.
    let (mut blocks, mut open): (Vec<usize>, usize) = (Vec::new(), 0);
    for token in tokenize(source, false, Default::default()) {
        let (token, span) = token.map_err(|err| told(&err))?;
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
                    let there = STATEMENTS.join(", ");
                    return Err(format!("the statement `{}` is not offered; there are {there}", validate::shown(word)));
                }
            }
        }
        parts += 1;
        if parts > budget::CHAIN {
            let most = budget::CHAIN;
            return Err(format!("at most {most} names, values and operators within one pair of braces (line {line})"));
        }
        if depth > budget::NESTING {
            return Err(format!("at most {} brackets within each other (line {line})", budget::NESTING));
        }
        if open > budget::BLOCKS {
            return Err(format!("at most {} of if, elif and for within each other (line {line})", budget::BLOCKS));
        }
    }
    Ok(())
}

thread_local! {
    /// The time by which the rendering on this thread has to end.
    static UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

fn in_time() -> std::result::Result<(), Error> {
    match UNTIL.get() {
        Some(until) if Instant::now() > until => {
            Err(Error::new(ErrorKind::InvalidOperation, "rendering took too long"))
        }
        _ => Ok(()),
    }
}

/// Only what can't multiply what it is given: fuel counts steps, not memory.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    use minijinja::{filters, tests};
    let mut env = Environment::empty();
    // What is absent is false where it is asked about, and an error where it is to be written.
    env.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    env.set_fuel(Some(limits::RENDER_FUEL));
    env.set_recursion_limit(50);
    env.set_formatter(write);
    // Those that read a whole text look at the clock.
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
    in_time().map(|()| minijinja::filters::upper(value))
}

fn lower(value: StringInput<'_>) -> std::result::Result<Value, Error> {
    in_time().map(|()| minijinja::filters::lower(value))
}

fn title(value: Cow<'_, str>) -> std::result::Result<String, Error> {
    in_time().map(|()| minijinja::filters::title(value))
}

/// What is written, as long as there is room and time.
struct Bounded {
    text: Vec<u8>,
    left: usize,
    until: Instant,
    writes: u32,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.left = self
            .left
            .checked_sub(bytes.len())
            .ok_or_else(|| std::io::Error::other(format!("longer than {} bytes", limits::RENDERED_BYTES)))?;
        self.writes = self.writes.wrapping_add(1);
        if self.writes.is_multiple_of(64) && Instant::now() > self.until {
            return Err(std::io::Error::other("rendering took too long"));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

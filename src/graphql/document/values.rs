//! Checks values against their types: coerces them as the specification requires, and rejects
//! values that the databases cannot store. Errors name the field by its path and give an example of
//! a valid value.

use async_graphql::parser::types::{BaseType, Type};
use async_graphql::{InputType, Name, Pos, Value as ConstValue};
use async_graphql_value::Value;
use chrono::{DateTime, Utc};
use entity::rule::{FailWhen, Span, Trigger};

use super::times;
use super::types::{Slot, Types};
use crate::domain::audience::record::filter::Number;
use crate::kernel::error::Refusal;
use crate::kernel::{limits, storable, validate};

/// Maximum number of problems reported per request.
const PROBLEMS: usize = 20;

/// An invalid value.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub refusal: Refusal,
    pub pos: Pos,
}

/// A use of a variable, with the path of the field that receives it.
#[derive(Clone, Debug)]
pub(super) struct Use {
    pub variable: Name,
    pub path: String,
    /// True if the position does not accept null.
    pub non_null: bool,
    /// Default value of the position.
    pub default: Option<ConstValue>,
    /// Type of the position; none within values without a declared structure.
    pub ty: Option<Type>,
    pub pos: Pos,
}

/// State of a walk through values.
#[derive(Debug)]
pub(super) struct Values<'a> {
    types: &'a Types,
    path: String,
    pos: Pos,
    /// Number of list items so far.
    items: usize,
    /// Number of input objects around the current field.
    level: usize,
    pub problems: Vec<Problem>,
    pub uses: Vec<Use>,
}

/// Path of the invalid part below the value, and the message.
type ValueError = (String, String);

impl<'a> Values<'a> {
    pub(super) fn new(types: &'a Types) -> Self {
        Self {
            types,
            path: String::new(),
            pos: Pos::default(),
            items: 0,
            level: 0,
            problems: Vec::new(),
            uses: Vec::new(),
        }
    }

    /// Sets the position in the document for the next problems and uses.
    pub(super) fn at(&mut self, pos: Pos) {
        self.pos = pos;
    }

    /// Reports a problem with a field.
    pub(super) fn problem(&mut self, field: &str, message: impl std::fmt::Display) {
        if self.problems.len() < PROBLEMS {
            self.problems.push(Problem { refusal: Refusal::input(field, message), pos: self.pos });
        }
    }

    fn wrong(&mut self, message: impl std::fmt::Display) {
        let field = self.field();
        self.problem(&field, message);
    }

    /// Path of the current field, without a leading `input`.
    fn field(&self) -> String {
        if self.path.is_empty() { "input".to_owned() } else { self.path.clone() }
    }

    fn within<T>(&mut self, key: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(key);
        let done = work(self);
        self.path.truncate(length);
        done
    }

    fn item<T>(&mut self, index: usize, work: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        self.path.push_str(&format!("[{index}]"));
        let done = work(self);
        self.path.truncate(length);
        done
    }

    /// Starts a walk at an argument, or at the path of a variable's first use.
    pub(super) fn begin<T>(&mut self, path: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        self.path.clear();
        if path != "input" {
            self.path.push_str(path);
        }
        work(self)
    }

    /// Coerces a variable's value in place.
    pub(super) fn coerce(&mut self, ty: &Type, value: &mut ConstValue) {
        match (&ty.base, &mut *value) {
            (_, ConstValue::Null) if ty.nullable => {}
            (_, ConstValue::Null) => self.wrong("must not be null"),
            (BaseType::List(_), ConstValue::List(items)) if self.is_too_many(items.len()) => {}
            (BaseType::List(of), ConstValue::List(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    if self.problems.len() >= PROBLEMS {
                        return;
                    }
                    self.item(index, |values| values.coerce(of, item));
                }
            }
            (BaseType::List(of), single) => {
                self.coerce(of, single);
                *value = ConstValue::List(vec![std::mem::take(value)]);
            }
            (BaseType::Named(name), _) => match self.types.inputs.get(name) {
                Some(slots) => self.enter(|values| values.object(name, slots, value)),
                None => {
                    let wrong = self.leaf(name, value, false);
                    self.leaf_problem(wrong);
                }
            },
        }
    }

    fn is_too_many(&mut self, items: usize) -> bool {
        self.items = self.items.saturating_add(items);
        if items > limits::LIST_ITEMS {
            self.wrong(format!("at most {} items", limits::LIST_ITEMS));
        } else if self.items > limits::REQUEST_ITEMS {
            self.wrong(format!("at most {} items in all lists of a request together", limits::REQUEST_ITEMS));
        } else {
            return false;
        }
        true
    }

    /// Enters an input object, unless it is nested too deeply: the executor reads them recursively.
    fn enter(&mut self, work: impl FnOnce(&mut Self)) {
        if self.level >= limits::INPUT_LEVELS {
            let refusal =
                Refusal::limit_for_field(&self.field(), format!("nests deeper than {} input objects", self.level));
            return self.problems.push(Problem { refusal, pos: self.pos });
        }
        self.level += 1;
        work(self);
        self.level -= 1;
    }

    fn object(&mut self, name: &Name, slots: &[Slot], value: &mut ConstValue) {
        let ConstValue::Object(fields) = value else { return self.wrong(an_object(name)) };
        for (key, item) in fields.iter_mut() {
            match slots.iter().find(|slot| slot.name == *key) {
                Some(slot) => self.within(key, |values| values.coerce(&slot.ty, item)),
                None => self.unknown(name, slots, key),
            }
        }
        for slot in slots.iter().filter(|slot| slot.required() && !fields.contains_key(&slot.name)) {
            self.within(&slot.name, |values| values.wrong("is required"));
        }
    }

    fn unknown(&mut self, name: &Name, slots: &[Slot], key: &Name) {
        let known: Vec<&str> = slots.iter().map(|slot| slot.name.as_str()).collect();
        let message = format!("{name} has no such field; it has {}", known.join(", "));
        self.within(&validate::printable(key), |values| values.wrong(message));
    }

    fn leaf_problem(&mut self, wrong: Result<(), ValueError>) {
        if let Err((below, message)) = wrong {
            let joint = if below.is_empty() || below.starts_with('[') || self.path.is_empty() { "" } else { "." };
            let field = format!("{}{joint}{below}", if below.is_empty() { self.field() } else { self.path.clone() });
            self.problem(&field, message);
        }
    }

    /// Checks a literal of the document, and records the variables in it.
    pub(super) fn literal(&mut self, slot: Place<'_>, value: &Value) {
        let Place { ty, default } = slot;
        match (&ty.base, value) {
            (_, Value::Variable(name)) => self.used(name, Some(ty), default.cloned()),
            (_, Value::Null) if ty.nullable => {}
            (_, Value::Null) => self.wrong("must not be null"),
            (BaseType::List(_), Value::List(items)) if self.is_too_many(items.len()) => {}
            (BaseType::List(of), Value::List(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.item(index, |values| values.literal(Place { ty: of, default: None }, item));
                }
            }
            (BaseType::List(of), single) => self.literal(Place { ty: of, default: None }, single),
            (BaseType::Named(name), _) => match self.types.inputs.get(name) {
                Some(slots) => self.enter(|values| values.object_literal(name, slots, value)),
                None => {
                    self.uses_within(value);
                    let known = value.clone().into_const_with(|_| Ok::<_, ()>(ConstValue::Null));
                    if let Ok(mut known) = known {
                        let wrong = self.leaf(name, &mut known, true);
                        self.leaf_problem(wrong);
                    }
                }
            },
        }
    }

    fn object_literal(&mut self, name: &Name, slots: &[Slot], value: &Value) {
        let Value::Object(fields) = value else { return self.wrong(an_object(name)) };
        for (key, item) in fields {
            match slots.iter().find(|slot| slot.name == *key) {
                Some(slot) => self.within(key, |values| values.literal(slot.into(), item)),
                None => self.unknown(name, slots, key),
            }
        }
        for slot in slots.iter().filter(|slot| slot.required() && !fields.contains_key(&slot.name)) {
            self.within(&slot.name, |values| values.wrong("is required"));
        }
    }

    fn used(&mut self, name: &Name, ty: Option<&Type>, default: Option<ConstValue>) {
        let path = self.field();
        let non_null = ty.is_some_and(|ty| !ty.nullable);
        self.uses.push(Use { variable: name.clone(), path, non_null, default, ty: ty.cloned(), pos: self.pos });
    }

    /// Records the variables in a value without a declared structure.
    pub(super) fn uses_within(&mut self, value: &Value) {
        match value {
            Value::Variable(name) => self.used(name, None, None),
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.item(index, |values| values.uses_within(item));
                }
            }
            Value::Object(fields) => {
                for (key, item) in fields {
                    self.within(key, |values| values.uses_within(item));
                }
            }
            _ => {}
        }
    }

    /// Checks an enum or scalar value. Integers in variables may be written as `1.0`.
    fn leaf(&self, name: &Name, value: &mut ConstValue, literal: bool) -> Result<(), ValueError> {
        let here = |message: String| Err((String::new(), message));
        if let Some(words) = self.types.enums.get(name) {
            return match value {
                ConstValue::Enum(word) if words.contains(word) => Ok(()),
                // Variables are JSON, which has no enum literals.
                ConstValue::String(word) if !literal && words.iter().any(|known| known == word) => Ok(()),
                _ => here(format!("one of {} is expected", words.join(", "))),
            };
        }
        match (name.as_str(), &*value) {
            ("Int", ConstValue::Number(number)) => match whole(number, literal) {
                Some(whole) => *value = ConstValue::Number(whole.into()),
                None => return here(AN_INT.to_owned()),
            },
            ("Float", ConstValue::Number(number)) => {
                return storable::number(number).or_else(|unfit| here(unfit.to_string()));
            }
            ("ID", ConstValue::Number(number)) if number.is_i64() => {}
            ("ID" | "String", ConstValue::String(text)) => {
                return storable::text(text).or_else(|unfit| here(unfit.to_string()));
            }
            ("Boolean", ConstValue::Boolean(_)) => {}
            ("Int", _) => return here(AN_INT.to_owned()),
            ("Float", _) => return here("a number is expected, like 1.5".to_owned()),
            ("ID", _) => return here("an id is expected, like \"run_01h455vb4pex5vsknk084sn02q\"".to_owned()),
            ("String", _) => return here("a string is expected, like \"text\"".to_owned()),
            ("Boolean", _) => return here("true or false is expected".to_owned()),
            ("DateTime", ConstValue::String(text)) => match text.parse::<DateTime<Utc>>() {
                Ok(time) => {
                    storable::time(time).map_err(|unfit| (String::new(), unfit.to_string()))?;
                    if let Some(kept) = times::truncated(text) {
                        *value = ConstValue::String(kept);
                    }
                }
                Err(_) => return here(format!("a time as of RFC 3339 is expected, like {A_TIME}")),
            },
            ("DateTime", _) => return here(format!("a time as of RFC 3339 is expected, like {A_TIME}")),
            ("Duration", _) => return parsed::<Span>(value, "14 days"),
            ("Trigger", _) => return parsed::<Trigger>(value, "immediate"),
            ("FailWhen", _) => return parsed::<FailWhen>(value, "ANY"),
            ("Number", _) => {
                let json = value.clone().into_json().map_err(|err| (String::new(), err.to_string()))?;
                return Number::of(&json).map(drop).or_else(here);
            }
            // JSON and unknown scalars must at least be storable in both databases.
            _ => {
                let json = value.clone().into_json().map_err(|err| (String::new(), err.to_string()))?;
                return storable::json(&json).map_err(|unfit| (unfit.path, unfit.unfit.to_string()));
            }
        }
        Ok(())
    }
}

/// A position in a document that accepts a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub ty: &'a Type,
    pub default: Option<&'a ConstValue>,
}

impl<'a> From<&'a Slot> for Place<'a> {
    fn from(slot: &'a Slot) -> Self {
        Self { ty: &slot.ty, default: slot.default.as_ref() }
    }
}

const A_TIME: &str = "2026-01-01T00:00:00Z";
const AN_INT: &str = "an integer from -2147483648 to 2147483647 is expected, like 10";

fn an_object(name: &Name) -> String {
    format!("an object is expected ({name})")
}

fn whole(number: &serde_json::Number, literal: bool) -> Option<i32> {
    let written = number.as_i64().and_then(|whole| i32::try_from(whole).ok());
    let float = || number.as_f64().filter(|float| !literal && float.fract() == 0.0 && float.abs() < 2_147_483_649.0);
    written.or_else(|| float().and_then(|float| i32::try_from(float as i64).ok()))
}

/// Checks a custom scalar written as text, using its own parser.
fn parsed<T: InputType + std::str::FromStr<Err = String>>(value: &ConstValue, example: &str) -> Result<(), ValueError> {
    let here = |message: String| Err((String::new(), message));
    let ConstValue::String(text) = value else {
        return here(format!("a string is expected, like \"{example}\""));
    };
    match storable::text(text) {
        Err(unfit) => here(unfit.to_string()),
        Ok(()) => text.parse::<T>().map(drop).or_else(here),
    }
}

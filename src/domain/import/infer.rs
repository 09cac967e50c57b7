//! Infers the columns' types and the formats of their numbers and dates from the first rows.

use super::columns::{Column, Field, Target, is_opt_out};
use super::dates::{self, Order};
use super::numbers::{self, Decimal};
use super::types::{self, Type};
use crate::kernel::validate;

/// Infers each column's number format from the first rows. The option takes precedence, then the
/// column's own values, then the file's other columns. An ambiguous column stays text, with a
/// warning.
pub(super) fn decimals(columns: &mut [Column], rows: &[Vec<&str>], given: Option<Decimal>, warnings: &mut Vec<String>) {
    let values = |at: usize| rows.iter().filter_map(move |row| row.get(at).copied()).filter(|value| !value.is_empty());
    let may_be = |column: &Column| {
        column.attribute().is_some_and(|name| match column.typed.is_declared() {
            true => column.typed.kind == Type::Number,
            false => !types::is_identifier(name),
        })
    };
    let own: Vec<Option<Decimal>> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| may_be(column).then(|| numbers::evident(values(at))).flatten())
        .collect();
    let (points, commas) = (own.contains(&Some(Decimal::Point)), own.contains(&Some(Decimal::Comma)));
    let others = match (points, commas) {
        (true, false) => Some(Decimal::Point),
        (false, true) => Some(Decimal::Comma),
        _ => None,
    };
    for (at, column) in columns.iter_mut().enumerate() {
        column.typed.decimal = given.or(own[at]).or(others);
        if !may_be(column) || own[at].is_some() || given.is_some() {
            continue;
        }
        let all_numbers = values(at).all(numbers::is_number);
        let Some(example) = values(at).find(|value| numbers::is_ambiguous(value)).filter(|_| all_numbers) else {
            continue;
        };
        let (name, example) = (validate::printable(&column.name), validate::printable(example));
        match others.and_then(|decimal| Some((decimal, decimal.plain(example.as_str())?))) {
            Some((decimal, plain)) => {
                let separator = decimal.separators().0;
                warnings.push(format!(
                    "`{example}` in the column `{name}` is read as {plain}, since other numbers of the file have \
                     `{separator}` before their decimals; set `decimal` to change that"
                ));
            }
            None => warnings.push(format!(
                "the numbers of the column `{name}` are ambiguous (`{example}`): {}; set the decimal separator \
                 with `decimal`: `--decimal ,` or `--decimal .` (`decimal=,` over HTTP)",
                if column.typed.is_declared() { "they are not imported" } else { "they are kept as text" }
            )),
        }
    }
}

/// Infers the date order of each column of times from the first rows, unless it is given.
pub(super) fn date_orders(columns: &mut [Column], rows: &[Vec<&str>], given: Option<Order>) {
    for (at, column) in columns.iter_mut().enumerate() {
        let has_times = match &column.target {
            Target::Field(field) => {
                matches!(field, Field::LastContactedAt | Field::Unsubscribed | Field::UnsubscribedAt)
            }
            Target::Attribute(_) => column.typed.is_declared() && column.typed.kind == Type::Date,
            Target::Ignored => false,
        };
        if !has_times {
            continue;
        }
        column.typed.order = given.or(dates::evident(rows.iter().filter_map(|row| row.get(at).copied())));
    }
}

/// Infers the types of attributes that are not declared, and warns of values that look like
/// opt-outs.
pub(super) fn attribute_types(columns: &mut [Column], rows: &[Vec<&str>], warnings: &mut Vec<String>) {
    for (at, column) in columns.iter_mut().enumerate() {
        let Target::Attribute(name) = &column.target else { continue };
        if column.typed.is_declared() {
            continue;
        }
        let values = rows.iter().filter_map(|row| row.get(at).copied()).filter(|value| !value.is_empty());
        if let Some(value) = values.clone().find(|value| is_opt_out(value)) {
            warnings.push(format!(
                "the column `{}` has values such as `{}`: kept as an attribute, they unsubscribe nobody; a column \
                 `unsubscribed` does",
                validate::printable(&column.name),
                validate::printable(value)
            ));
        }
        column.typed.kind = types::infer(name, values, column.typed.decimal);
    }
}

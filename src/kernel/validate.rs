//! Validates input fields.

mod address;

use async_graphql::ID;
use entity::id::Id;

pub use super::quote::printable;
pub use address::{email, phone, phone_in, region};

use crate::kernel::error::{Refusal, Result};
use crate::kernel::{limits, quote, storable};

/// Validates a name: not blank, one line, bounded. Returns it trimmed.
pub fn name(field: &str, value: &str) -> Result<String> {
    let value = value.trim();
    if value.is_empty() {
        return Err(Refusal::input(field, "must not be blank").into());
    }
    if value.chars().any(char::is_control) {
        return Err(Refusal::input(field, "must not contain control characters or line breaks").into());
    }
    if value.chars().any(storable::is_no_character) {
        return Err(Refusal::input(field, "must not contain noncharacters like U+FFFE").into());
    }
    if value.chars().any(quote::reorders) {
        let message = "must not contain line separators, or characters that change the direction of text, like U+202E";
        return Err(Refusal::input(field, message).into());
    }
    if is_blank(value) {
        return Err(Refusal::input(field, "must not be blank: it has no visible character").into());
    }
    // Names are compared, so they are stored in one spelling.
    bounded(field, &storable::nfc(value), limits::NAME_CHARS)
}

/// True for a text without a visible character.
pub fn is_blank(text: &str) -> bool {
    !text.chars().any(storable::is_visible)
}

/// Validates an external id: a name, without invisible characters, so that it is recognized again.
pub fn key(field: &str, value: &str) -> Result<String> {
    name(field, value).map(|name| storable::key(&name))
}

/// Validates a longer text: bounded. Returns it unchanged.
pub fn text(field: &str, value: &str) -> Result<String> {
    bounded(field, value, limits::TEXT_CHARS)
}

/// Validates a search text: bounded.
pub fn search<'a>(field: &str, value: &'a str) -> Result<&'a str> {
    if value.chars().nth(limits::SEARCH_CHARS).is_some() {
        return Err(Refusal::input(field, format!("at most {} characters", limits::SEARCH_CHARS)).into());
    }
    Ok(value)
}

/// Parses an IANA time zone, in any case.
pub fn time_zone(field: &str, value: &str) -> Result<chrono_tz::Tz> {
    let text = value.trim();
    let any_case = || chrono_tz::TZ_VARIANTS.into_iter().find(|zone| zone.name().eq_ignore_ascii_case(text));
    text.parse().ok().or_else(any_case).ok_or_else(|| {
        Refusal::input(field, format!("`{}` is not a time zone like Europe/Berlin", printable(value))).into()
    })
}

fn bounded(field: &str, value: &str, chars: usize) -> Result<String> {
    if value.chars().nth(chars).is_some() {
        return Err(Refusal::input(field, format!("at most {chars} characters")).into());
    }
    Ok(value.to_owned())
}

/// Rejects a change if the row is no longer at the revision that the client saw.
pub fn expect(noun: &str, revision: i32, expected: Option<i32>) -> Result<()> {
    match expected {
        Some(expected) if expected != revision => Err(Refusal::stale(noun, revision).into()),
        _ => Ok(()),
    }
}

/// Parses ids of one type. Errors: BAD_USER_INPUT, LIMIT_EXCEEDED.
pub fn ids<I: Id>(given: &[ID], path: &str, field: &str) -> Result<Vec<I>> {
    if given.len() > limits::PAGE_MAX {
        return Err(
            Refusal::limit_for_field(&format!("{path}.{field}"), format!("at most {}", limits::PAGE_MAX)).into()
        );
    }
    given.iter().map(|given| id(&format!("{path}.{field}"), given)).collect()
}

/// Parses an id of one type. Errors: BAD_USER_INPUT.
pub fn id<I: Id>(field: &str, given: &ID) -> Result<I> {
    given.parse::<I>().map_err(|err| Refusal::input(field, err).into())
}

//! What every input must keep to, and how a text is refused that does not.

mod address;

use async_graphql::ID;
use entity::id::Id;

pub use address::{email, phone, phone_in, region};

use crate::kernel::error::{Refusal, Result};
use crate::kernel::{limits, storable};

/// A name: not blank, one line, bounded. Comes back trimmed.
pub fn name(field: &str, value: &str) -> Result<String> {
    let value = value.trim();
    if value.is_empty() {
        return Err(Refusal::input(field, "must not be blank").into());
    }
    if value.chars().any(char::is_control) {
        return Err(Refusal::input(field, "must not contain control characters or line breaks").into());
    }
    if value.chars().any(storable::is_no_character) {
        return Err(Refusal::input(field, "must not contain code points that are no characters, like U+FFFE").into());
    }
    if !value.chars().any(storable::is_visible) {
        return Err(Refusal::input(field, "must not be blank: nothing of it can be seen").into());
    }
    // In one spelling, since names are compared.
    bounded(field, &storable::nfc(value), limits::NAME_CHARS)
}

/// An id that somebody else gave: a name, without what can't be seen, so that it is known again.
pub fn key(field: &str, value: &str) -> Result<String> {
    name(field, value).map(|name| storable::key(&name))
}

/// A longer text: bounded. Comes back as it is.
pub fn text(field: &str, value: &str) -> Result<String> {
    bounded(field, value, limits::TEXT_CHARS)
}

/// A text that is searched for: bounded.
pub fn search<'a>(field: &str, value: &'a str) -> Result<&'a str> {
    if value.chars().nth(limits::SEARCH_CHARS).is_some() {
        return Err(Refusal::input(field, format!("at most {} characters", limits::SEARCH_CHARS)).into());
    }
    Ok(value)
}

/// An IANA time zone, in any case.
pub fn time_zone(field: &str, value: &str) -> Result<chrono_tz::Tz> {
    let text = value.trim();
    let any_case = || chrono_tz::TZ_VARIANTS.into_iter().find(|zone| zone.name().eq_ignore_ascii_case(text));
    text.parse().ok().or_else(any_case).ok_or_else(|| {
        Refusal::input(field, format!("`{}` is not a time zone like Europe/Berlin", shown(value))).into()
    })
}

/// A value as it is shown in a message: shortened, without control characters.
pub fn shown(value: &str) -> String {
    let mut text: String =
        value.chars().take(limits::SHOWN_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if value.chars().nth(limits::SHOWN_CHARS).is_some() {
        text.push('…');
    }
    text
}

fn bounded(field: &str, value: &str, chars: usize) -> Result<String> {
    if value.chars().nth(chars).is_some() {
        return Err(Refusal::input(field, format!("at most {chars} characters")).into());
    }
    Ok(value.to_owned())
}

/// Refuses when the row has moved on from the revision that the client saw.
pub fn expect(noun: &str, revision: i32, expected: Option<i32>) -> Result<()> {
    match expected {
        Some(expected) if expected != revision => Err(Refusal::stale(noun, revision).into()),
        _ => Ok(()),
    }
}

/// Ids of one noun. Errors: BAD_USER_INPUT, LIMIT_EXCEEDED.
pub fn ids<I: Id>(given: &[ID], path: &str, field: &str) -> Result<Vec<I>> {
    if given.len() > limits::PAGE_MAX {
        return Err(Refusal::too_much(&format!("{path}.{field}"), format!("at most {}", limits::PAGE_MAX)).into());
    }
    given.iter().map(|given| id(&format!("{path}.{field}"), given)).collect()
}

/// An id of one noun. Errors: BAD_USER_INPUT.
pub fn id<I: Id>(field: &str, given: &ID) -> Result<I> {
    given.parse::<I>().map_err(|err| Refusal::input(field, err).into())
}

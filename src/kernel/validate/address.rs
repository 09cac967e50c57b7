//! Normalizes contact addresses: mail addresses and telephone numbers, each to the one form in
//! which it is stored.

use phonenumber::{Mode, country};

use super::shown;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::storable;

/// Maximum length of a telephone number as written, in characters.
const PHONE_CHARS: usize = 60;

/// Validates a mail address. Returns it trimmed; an international domain in its ASCII form
/// (punycode).
pub fn email(field: &str, value: &str) -> Result<String> {
    let refused = |problem: &str| Refusal::input(field, format!("`{}` {problem}", shown(value)));
    let text = value.trim();
    let text = text.strip_suffix('.').unwrap_or(text);
    let none = || refused("is not a mail address");
    let Some((local, domain)) = text.rsplit_once('@').filter(|_| !text.contains(char::is_control)) else {
        return Err(none().into());
    };
    if text.contains(char::is_whitespace) && local.contains('@') || local.contains([',', ';']) {
        return Err(refused("holds more than one mail address").into());
    }
    if domain.starts_with('[') {
        return Err(refused("is not an address that mail can be sent to: use a domain name after the @").into());
    }
    if !local.is_ascii() {
        return Err(refused("has non-ASCII characters before the @: such addresses are not supported").into());
    }
    let domain = match domain.is_ascii() {
        true => domain.to_owned(),
        false => idna::domain_to_ascii_strict(&storable::nfc(domain))
            .map_err(|_| refused("is not a mail address: its domain is not a valid international domain name"))?,
    };
    let address = format!("{local}@{domain}");
    if email_address::EmailAddress::is_valid(&address) && !address.contains(['"', '<', '>']) {
        Ok(address)
    } else {
        Err(none().into())
    }
}

/// Validates a telephone number with its country code. Returns it as E.164.
pub fn phone(field: &str, value: &str) -> Result<String> {
    match phone_in(field, value, None)? {
        (number, None) => Ok(number),
        (_, Some(extension)) => {
            let message = format!("`{}` has an extension, {extension}, which can't be stored", shown(value));
            Err(Refusal::input(field, message).into())
        }
    }
}

/// Validates a telephone number as people write it; `region` supplies a missing country code.
/// Returns E.164, and the extension.
pub fn phone_in(field: &str, value: &str, region: Option<&str>) -> Result<(String, Option<String>)> {
    let refused = |problem: &str| Refusal::input(field, format!("`{}` {problem}", shown(value)));
    let text = storable::compatible(value);
    let text = text.trim();
    let none = || refused("is not a telephone number like +4930123456");
    if text.chars().count() > PHONE_CHARS || text.chars().any(char::is_control) {
        return Err(none().into());
    }
    let digits = |part: &str| part.chars().filter(char::is_ascii_digit).count();
    let mut parts = text.split(['/', ';', ',', '|']).map(digits);
    if parts.next().is_some_and(|first| first >= 7) && parts.any(|part| part > 0) {
        return Err(refused("holds more than one telephone number").into());
    }
    let region = region.and_then(|region| region.parse::<country::Id>().ok());
    // Most of the world dials `00` for `+`.
    let dialled = (region.is_none() && text.starts_with("00")).then(|| text.replacen("00", "+", 1));
    let parsed = phonenumber::parse(region, dialled.as_deref().unwrap_or(text));
    let number = match parsed {
        Ok(number) => number,
        Err(phonenumber::ParseError::InvalidCountryCode)
            if region.is_none() && !text.starts_with('+') && digits(text) >= 5 =>
        {
            return Err(refused("has no country code: write it like +4930123456, or name its region, like DE").into());
        }
        Err(_) => return Err(none().into()),
    };
    let written = number.format().mode(Mode::E164).to_string();
    let count = digits(&written);
    if !(7..=15).contains(&count) || written.len() != count + 1 {
        return Err(none().into());
    }
    Ok((written, number.extension().map(ToString::to_string)))
}

/// Validates a region of telephone numbers, ISO 3166: `DE`. Returns it in capitals.
pub fn region(field: &str, value: &str) -> Result<String> {
    let region = value.trim().to_uppercase();
    let known = region.len() == 2 && region.parse::<country::Id>().is_ok();
    let refused = || Refusal::input(field, format!("`{}` is not a region like DE, US or GB", shown(value)));
    if known { Ok(region) } else { Err(refused().into()) }
}

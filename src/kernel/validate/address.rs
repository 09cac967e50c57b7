//! Addresses that people are reached at: mail addresses and telephone numbers, in the one form in which they are kept.

use phonenumber::{Mode, country};

use super::shown;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::storable;

/// The longest text that may be a telephone number, in characters.
const PHONE_CHARS: usize = 60;

/// A mail address. Comes back trimmed; an international domain in its ASCII form (punycode).
pub fn email(field: &str, value: &str) -> Result<String> {
    let refused = |why: &str| Refusal::input(field, format!("`{}` {why}", shown(value)));
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
        return Err(
            refused("is no address that mail can be sent to: behind the @ stands a name, not an address").into()
        );
    }
    if !local.is_ascii() {
        return Err(
            refused("has other than ASCII letters before the @: such an address can't be written to yet").into()
        );
    }
    let domain = match domain.is_ascii() {
        true => domain.to_owned(),
        false => idna::domain_to_ascii_strict(&storable::nfc(domain))
            .map_err(|_| refused("is not a mail address: its domain is no international domain name"))?,
    };
    let address = format!("{local}@{domain}");
    if email_address::EmailAddress::is_valid(&address) && !address.contains(['"', '<', '>']) {
        Ok(address)
    } else {
        Err(none().into())
    }
}

/// A telephone number with its country code. Comes back as E.164.
pub fn phone(field: &str, value: &str) -> Result<String> {
    match phone_in(field, value, None)? {
        (number, None) => Ok(number),
        (_, Some(extension)) => {
            let told = format!("`{}` has an extension, {extension}, which is not kept", shown(value));
            Err(Refusal::input(field, told).into())
        }
    }
}

/// A telephone number as people write it, in a region where it has no country code: E.164, and its extension.
pub fn phone_in(field: &str, value: &str, region: Option<&str>) -> Result<(String, Option<String>)> {
    let refused = |why: &str| Refusal::input(field, format!("`{}` {why}", shown(value)));
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
    // `00` is how most of the world dials what is written `+`.
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

/// A region of telephone numbers, ISO 3166: `DE`. Comes back in capitals.
pub fn region(field: &str, value: &str) -> Result<String> {
    let region = value.trim().to_uppercase();
    let known = region.len() == 2 && region.parse::<country::Id>().is_ok();
    let refused = || Refusal::input(field, format!("`{}` is not a region like DE, US or GB", shown(value)));
    if known { Ok(region) } else { Err(refused().into()) }
}

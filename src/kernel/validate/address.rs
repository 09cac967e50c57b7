//! Normalizes contact addresses: mail addresses and telephone numbers, each to the one form in
//! which it is stored.

use phonenumber::metadata::DATABASE;
use phonenumber::{Metadata, Mode, country};

use super::printable;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::storable;

/// Maximum length of a label of a domain, in bytes.
const LABEL_BYTES: usize = 63;
/// Maximum length of a telephone number as written, in characters.
const PHONE_CHARS: usize = 60;

/// Validates a mail address. Returns it trimmed; an international domain in its ASCII form
/// (punycode).
pub fn email(field: &str, value: &str) -> Result<String> {
    let refused = |problem: &str| Refusal::input(field, format!("`{}` {problem}", printable(value)));
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
    if !is_domain(&domain) {
        let why = "is not a mail address: its domain must be labels of letters, digits and hyphens, and no number";
        return Err(refused(why).into());
    }
    let address = format!("{local}@{domain}");
    if email_address::EmailAddress::is_valid(&address) && !address.contains(['"', '<', '>']) {
        Ok(address)
    } else {
        Err(none().into())
    }
}

/// True for a domain as mail servers have it: labels of letters, digits and hyphens, the last of
/// which is not a number, as in an IP address. The crate that checks addresses takes any characters.
fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_BYTES).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = domain.rsplit('.').next().unwrap_or_default();
    domain.split('.').all(is_label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// Validates a telephone number with its country code. Returns it as E.164.
pub fn phone(field: &str, value: &str) -> Result<String> {
    match phone_in(field, value, None)? {
        (number, None) => Ok(number),
        (_, Some(extension)) => {
            let message = format!("`{}` has an extension, {extension}, which can't be stored", printable(value));
            Err(Refusal::input(field, message).into())
        }
    }
}

/// Validates a telephone number as people write it; `region` supplies a missing country code.
/// Returns E.164, and the extension.
pub fn phone_in(field: &str, value: &str, region: Option<&str>) -> Result<(String, Option<String>)> {
    let refused = |problem: &str| Refusal::input(field, format!("`{}` {problem}", printable(value)));
    let text = storable::compatible(value);
    let text = text.trim();
    let none = || refused("is not a telephone number like +4930123456");
    if text.chars().count() > PHONE_CHARS || text.chars().any(char::is_control) {
        return Err(none().into());
    }
    let mut parts = text.split(['/', ';', ',', '|']).map(|part| digits(part).len());
    if parts.next().is_some_and(|first| first >= 7) && parts.any(|part| part > 0) {
        return Err(refused("holds more than one telephone number").into());
    }
    let region = region.and_then(|region| region.parse::<country::Id>().ok());
    let local = region.and_then(|region| DATABASE.by_id(region.as_ref()));
    let (given, local_code) = match (abroad(text, local), local) {
        (Some(rest), _) => (format!("+{rest}"), None),
        (None, Some(local)) => (text.to_owned(), Some(local.country_code())),
        (None, None)
            if digits(text).len() >= 5
                && matches!(phonenumber::parse(None, text), Err(phonenumber::ParseError::InvalidCountryCode)) =>
        {
            return Err(refused("has no country code: write it like +4930123456, or name its region, like DE").into());
        }
        (None, None) => return Err(none().into()),
    };
    let parsed = phonenumber::parse(region.filter(|_| local_code.is_some()), &given).map_err(|_| none())?;
    let extension = parsed.extension().map(ToString::to_string);
    let by_crate = digits(&parsed.format().mode(Mode::E164).to_string());
    let has_letters = extension.is_none() && given.trim_start_matches("tel:").chars().any(char::is_alphabetic);
    let all = if has_letters { by_crate.clone() } else { digits(&given) };
    let all = extension.as_deref().and_then(|extension| all.strip_suffix(extension)).unwrap_or(&all);
    // A number may begin with its country code without a `+`, as spreadsheets leave it.
    let split = local_code.filter(|_| by_crate != all).map(|code| (code, all));
    let (code, national) = split.or_else(|| country_code(all)).ok_or_else(none)?;
    let countries = DATABASE.by_code(&code).ok_or_else(none)?;
    let is_possible = |national: &str| countries.iter().any(|country| has_length(country, national));
    let mut national = without_trunk_prefix(&countries, national, given.contains("(0)"));
    // Some countries have prefixes of other kinds, which the crate knows.
    if let Some(other) =
        by_crate.strip_prefix(&code.to_string()).filter(|_| local_code.is_some() && !is_possible(national))
    {
        national = other;
    }
    if !is_possible(national) {
        return Err(refused(&format!("is not a telephone number: those of +{code} have another length")).into());
    }
    Ok((format!("+{code}{national}"), extension))
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// True if some kind of the country's numbers has as many digits. The lengths of all kinds together
/// are missing from the crate's data.
fn has_length(country: &Metadata, national: &str) -> bool {
    let kinds = country.descriptors();
    let kinds = [
        kinds.fixed_line(),
        kinds.mobile(),
        kinds.toll_free(),
        kinds.premium_rate(),
        kinds.shared_cost(),
        kinds.personal_number(),
        kinds.voip(),
        kinds.pager(),
        kinds.uan(),
    ];
    let is_possible = |length: &u16| usize::from(*length) == national.len();
    kinds.into_iter().flatten().any(|kind| kind.possible_length().iter().any(is_possible))
}

/// The part of a number after what is dialled for calls abroad: `+`, or the digits that the region
/// dials for it, or else `00`, as in most of the world.
fn abroad<'a>(text: &'a str, local: Option<&Metadata>) -> Option<&'a str> {
    let text = text.strip_prefix("tel:").unwrap_or(text).trim_start_matches(['(', ' ']);
    if let Some(rest) = text.strip_prefix('+') {
        return Some(rest);
    }
    let all = digits(text);
    let dialled = local.and_then(|local| local.international_prefix()).and_then(|prefix| {
        let found = prefix.find(&all)?;
        (found.start() == 0).then_some(found.end())
    });
    let count = dialled.or_else(|| all.starts_with("00").then_some(2))?;
    // No country code begins with 0.
    if all[count..].starts_with('0') || all.len() == count {
        return None;
    }
    let (last, _) = text.char_indices().filter(|(_, c)| c.is_ascii_digit()).nth(count - 1)?;
    text.get(last + 1..)
}

/// Splits a number at its country code.
fn country_code(all: &str) -> Option<(u16, &str)> {
    let codes = (1..=3).filter_map(|count| Some((all.get(..count)?.parse::<u16>().ok()?, all.get(count..)?)));
    codes.into_iter().find(|(code, _)| DATABASE.by_code(code).is_some())
}

/// The number without the prefix that is dialled within a country, as libphonenumber takes it off: if
/// what remains is a number of the country, or if the number is none as it stands. The crate also
/// takes off another region's prefix, and one that belongs to the number.
fn without_trunk_prefix<'a>(countries: &[&Metadata], national: &'a str, is_marked: bool) -> &'a str {
    let is_number = |digits: &str| {
        let of = |country: &&Metadata| has_length(country, digits) && country.descriptors().general().is_match(digits);
        countries.iter().any(of)
    };
    let prefix = countries.iter().find_map(|country| country.national_prefix());
    match prefix.and_then(|prefix| national.strip_prefix(prefix)) {
        Some(rest) if is_marked || is_number(rest) || !is_number(national) => rest,
        _ => national,
    }
}

/// Validates a region of telephone numbers, ISO 3166: `DE`. Returns it in capitals.
pub fn region(field: &str, value: &str) -> Result<String> {
    let region = value.trim().to_uppercase();
    let known = region.len() == 2 && region.parse::<country::Id>().is_ok();
    let refused = || Refusal::input(field, format!("`{}` is not a region like DE, US or GB", printable(value)));
    if known { Ok(region) } else { Err(refused().into()) }
}

//! Parses documents after checks that protect the parser, which is recursive in brackets and panics
//! on escapes of unpaired surrogates. The text is also made plainer where the parser departs from the
//! specification's grammar.

use std::borrow::Cow;
use std::collections::HashSet;

use async_graphql::parser::types::ExecutableDocument;
use async_graphql::parser::{self, parse_query};
use async_graphql::{Pos, ServerError};

use super::fields::{DOCUMENT_PARAMETER, about};
use super::with_code;
use crate::kernel::error::Code;
use crate::kernel::limits;

/// Parses a document. Errors: LIMIT_EXCEEDED, BAD_USER_INPUT.
pub fn parse(text: &str) -> Result<ExecutableDocument, ServerError> {
    if nesting(text) > limits::DOCUMENT_NESTING {
        let message = format!("the document nests deeper than {} brackets", limits::DOCUMENT_NESTING);
        return Err(rejected(Code::LimitExceeded, message));
    }
    check_names(text)?;
    let text = plain(text)?;
    parse_query(text.as_ref()).map_err(|err| {
        let name = match &err {
            parser::Error::OperationDuplicated { operation: name, .. }
            | parser::Error::FragmentDuplicated { fragment: name, .. } => name,
            _ => DOCUMENT_PARAMETER,
        };
        let mut error = about(name, err.to_string(), None);
        error.locations = err.positions().collect();
        with_code(error)
    })
}

/// The error of a document as a whole.
fn rejected(code: Code, message: String) -> ServerError {
    let mut error = about(DOCUMENT_PARAMETER, message, None);
    error.extensions.get_or_insert_default().set("code", code.as_str());
    error
}

/// Replaces each surrogate pair (`\uD83D\uDE00`) by its character, the integer `-0` by `0`, which the
/// parser would read as a float, and comments by a space: the parser accepts none between `on` and a
/// type. Outside of strings all positions stay the same. Errors: an unpaired surrogate.
fn plain(text: &str) -> Result<Cow<'_, str>, ServerError> {
    if !["\\u", "-0", "#"].into_iter().any(|part| text.contains(part)) {
        return Ok(Cow::Borrowed(text));
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(['"', '#', '-']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let length = match from.as_bytes().first() {
            Some(b'#') => from.find(['\n', '\r']).unwrap_or(from.len()),
            Some(b'-') => 1,
            _ => string_length(from),
        };
        let (token, after) = from.split_at(length);
        match token.as_bytes() {
            [b'#', ..] => out.push(' '),
            [b'-', ..] => out.push(if is_integer_zero(after) && !is_exponent(before) { ' ' } else { '-' }),
            [b'"', b'"', b'"', ..] => out.push_str(token),
            _ => copy_string(token, &mut out)?,
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

/// True if the text begins with the number `0`, and not with one like `0.5`, `0e1` or `00`.
fn is_integer_zero(text: &str) -> bool {
    let next = |rest: &str| rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '.' || next == '_');
    text.strip_prefix('0').is_some_and(|rest| !next(rest))
}

/// True if the text ends like a number whose exponent follows, as in `1.5e`.
fn is_exponent(text: &str) -> bool {
    let word = text.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.').next().unwrap_or_default();
    word.starts_with(|first: char| first.is_ascii_digit()) && word.ends_with(['e', 'E'])
}

/// Copies a string, replacing surrogate pairs.
fn copy_string(text: &str, out: &mut String) -> Result<(), ServerError> {
    let unit = |text: &str| u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let first = unit(from).filter(|unit| (0xd800..0xe000).contains(unit));
        let length = match first {
            Some(first) => {
                let second = from.get(6..).and_then(unit).unwrap_or_default();
                let Some(Ok(character)) = char::decode_utf16([first, second]).next() else {
                    let message =
                        format!("a string holds \\u{first:04X}, which is half a character: an unpaired surrogate");
                    return Err(rejected(Code::BadUserInput, message));
                };
                out.push(character);
                12
            }
            None if from.starts_with("\\u{") => {
                let digits = &from[3..from.find('}').unwrap_or(3)];
                let character = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                let Some(character) = character.filter(|_| !digits.starts_with('+')) else {
                    return Err(rejected(Code::BadUserInput, format!("\\u{{{digits:.12}}} is not a valid character")));
                };
                match character {
                    '"' | '\\' => out.extend(['\\', character]),
                    '\0'..'\x20' => out.push_str(&format!("\\u{:04X}", u32::from(character))),
                    _ => out.push(character),
                }
                rest = &from[3 + digits.len() + 1..];
                continue;
            }
            // The backslash and the escaped character.
            None => 1 + from.chars().nth(1).map_or(0, char::len_utf8),
        };
        if first.is_none() {
            out.push_str(&from[..length]);
        }
        rest = &from[length..];
    }
    out.push_str(rest);
    Ok(())
}

/// Rejects what the parser would accept: names that are too long, empty parentheses, a fragment named
/// `on`, a keyword that is joined with a name (`queryA`), and input objects with duplicate fields, of
/// which it would silently keep the last. Within parentheses, all braces belong to input objects, and
/// a name before a colon is a field.
fn check_names(text: &str) -> Result<(), ServerError> {
    let (mut rest, mut parentheses, mut selections) = (text, 0usize, 0usize);
    // True where the next token begins a definition.
    let mut begins = true;
    let mut open: Vec<HashSet<&str>> = Vec::new();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '#' => rest.find(['\n', '\r']).unwrap_or(rest.len()),
            '"' => string_length(rest),
            'a'..='z' | 'A'..='Z' | '_' => {
                rest.find(|next: char| !next.is_ascii_alphanumeric() && next != '_').unwrap_or(rest.len())
            }
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        match first {
            '(' if skip_ignored(after).starts_with(')') => {
                let message = "parentheses must not be empty: leave them out";
                return Err(misplaced(text, rest, DOCUMENT_PARAMETER, message));
            }
            '(' => parentheses += 1,
            ')' => parentheses = parentheses.saturating_sub(1),
            '{' if parentheses > 0 => open.push(HashSet::new()),
            '}' if parentheses > 0 => drop(open.pop()),
            '{' => selections += 1,
            '}' => selections = selections.saturating_sub(1),
            '.' if is_spread_of_on(rest) => {
                return Err(misplaced(text, rest, "on", NAMED_ON));
            }
            'a'..='z' | 'A'..='Z' | '_' if length > limits::DOCUMENT_NAME_CHARS => {
                let message = format!("a name has more than {} characters", limits::DOCUMENT_NAME_CHARS);
                return Err(rejected(Code::LimitExceeded, message));
            }
            'a'..='z' | 'A'..='Z' | '_'
                if skip_ignored(after).starts_with(':')
                    && open.last_mut().is_some_and(|fields| !fields.insert(token)) =>
            {
                return Err(misplaced(text, rest, token, format!("the input field `{token}` is given twice")));
            }
            'a'..='z' | 'A'..='Z' | '_' if begins => match token {
                "query" | "mutation" | "subscription" => {}
                "fragment" if name(skip_ignored(after)) == "on" => {
                    return Err(misplaced(text, skip_ignored(after), "on", NAMED_ON));
                }
                "fragment" => {}
                _ => {
                    let message = format!("`{token}` begins no operation and no fragment");
                    return Err(misplaced(text, rest, token, message));
                }
            },
            _ => {}
        }
        let is_ignored = matches!(first, ' ' | '\t' | '\n' | '\r' | ',' | '\u{feff}' | '#');
        begins = if is_ignored { begins } else { first == '}' && parentheses == 0 && selections == 0 };
        rest = after;
    }
    Ok(())
}

const NAMED_ON: &str = "a fragment can't have the name `on`";

/// True if the text begins with a spread of a fragment named `on`; before a type, `on` is a condition.
fn is_spread_of_on(text: &str) -> bool {
    let Some(after) = text.strip_prefix("...").map(skip_ignored) else { return false };
    name(after) == "on" && name(skip_ignored(&after["on".len()..])).is_empty()
}

/// Returns the name at the start of a text; empty if there is none.
fn name(text: &str) -> &str {
    let length = text.find(|next: char| !next.is_ascii_alphanumeric() && next != '_').unwrap_or(text.len());
    if text.starts_with(|first: char| first.is_ascii_digit()) { "" } else { &text[..length] }
}

/// The error about a name, at the place where the rest of a document begins.
fn misplaced(text: &str, rest: &str, name: &str, message: impl Into<String>) -> ServerError {
    let before = &text[..text.len() - rest.len()];
    let line = before.rfind('\n').map_or(before, |at| &before[at + 1..]);
    let pos = Pos { line: before.matches('\n').count() + 1, column: line.chars().count() + 1 };
    with_code(about(name, message, Some(pos)))
}

/// Skips spaces, commas and comments.
fn skip_ignored(mut text: &str) -> &str {
    loop {
        text = text.trim_start_matches([' ', '\t', '\n', '\r', ',', '\u{feff}']);
        if !text.starts_with('#') {
            return text;
        }
        text = &text[text.find(['\n', '\r']).unwrap_or(text.len())..];
    }
}

/// Returns the deepest nesting of brackets outside strings and comments.
fn nesting(document: &str) -> usize {
    let (mut rest, mut depth, mut deepest) = (document.as_bytes(), 0usize, 0);
    while let Some((first, after)) = rest.split_first() {
        rest = match first {
            b'#' => after.iter().position(|byte| matches!(byte, b'\n' | b'\r')).map_or(&[][..], |end| &after[end..]),
            b'"' if after.starts_with(b"\"\"") => after_block_string(&after[2..]),
            b'"' => after_string(after),
            b'{' | b'[' | b'(' => {
                depth += 1;
                deepest = deepest.max(depth);
                after
            }
            b'}' | b']' | b')' => {
                depth = depth.saturating_sub(1);
                after
            }
            _ => after,
        };
    }
    deepest
}

/// Length of the string at the start of a text, including its quotes.
pub fn string_length(text: &str) -> usize {
    let after = text.as_bytes();
    let rest = if text.starts_with("\"\"\"") { after_block_string(&after[3..]) } else { after_string(&after[1..]) };
    after.len() - rest.len()
}

/// Returns the rest after a string, which ends at its line's end at the latest.
fn after_string(mut rest: &[u8]) -> &[u8] {
    loop {
        rest = match rest {
            [b'\\', _, after @ ..] => after,
            [b'"' | b'\n' | b'\r', after @ ..] => return after,
            [_, after @ ..] => after,
            [] => return rest,
        };
    }
}

fn after_block_string(mut rest: &[u8]) -> &[u8] {
    loop {
        rest = match rest {
            [] => return rest,
            [b'\\', b'"', b'"', b'"', after @ ..] => after,
            [b'"', b'"', b'"', after @ ..] => return after,
            [_, after @ ..] => after,
        };
    }
}

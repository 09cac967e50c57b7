//! The delimiter of a file: given as an option, declared by a first line `sep=;`, or detected from
//! the header.

use super::Options;
use super::columns::{is_called, known};
use super::lines::{Found, Lines};
use crate::kernel::error::{Refusal, Result};

/// The byte that ends the lines of a file with this head.
pub(super) fn line_end(head: &[u8]) -> u8 {
    if head.contains(&b'\r') && !head.contains(&b'\n') { b'\r' } else { b'\n' }
}

/// The delimiter declared by a first line `sep=;`, which spreadsheets write.
pub(super) fn named(head: &[u8], end: u8) -> Option<u8> {
    let first = head.split(|byte| *byte == end).next()?;
    let first = first.strip_suffix(b"\r").unwrap_or(first);
    let first = first.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(first);
    match first {
        [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', delimiter] => Some(*delimiter),
        _ => None,
    }
}

/// Splits the header by each candidate and picks the delimiter with the most known columns, or else
/// the most columns.
pub(super) fn detect(head: &[u8], end: u8, options: &Options) -> u8 {
    let mapped =
        |name: &str| options.map.iter().any(|map| map.split('=').next().is_some_and(|from| is_called(from, name)));
    let mut best = (b',', 0, 0);
    for delimiter in *b",;\t|" {
        let mut lines = Lines::new(head, delimiter, end, 1);
        let Ok(Some(Found::Line(header))) = lines.next() else { continue };
        let names: Vec<String> = header.cells().map(|cell| String::from_utf8_lossy(cell).trim().to_owned()).collect();
        let known = names.iter().filter(|name| known(name).is_some() || mapped(name)).count();
        if (known, names.len()) > (best.1, best.2) {
            best = (delimiter, known, names.len());
        }
    }
    best.0
}

/// Parses the option. Errors: BAD_USER_INPUT.
pub(super) fn parse(given: &str) -> Result<u8> {
    match (given, given.trim()) {
        ("\t", _) | (_, "tab" | "\\t") => Ok(b'\t'),
        (_, "comma") => Ok(b','),
        (_, "semicolon") => Ok(b';'),
        (_, "pipe") => Ok(b'|'),
        (_, text) => match text.as_bytes() {
            [byte] if byte.is_ascii_punctuation() && !matches!(byte, b'"' | b'_' | b'-' | b'@' | b'.' | b'+') => {
                Ok(*byte)
            }
            _ => Err(Refusal::input("delimiter", "must be one character, `,` `;` `|`, or `tab`").into()),
        },
    }
}

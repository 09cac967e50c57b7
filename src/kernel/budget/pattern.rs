//! Regular expressions of conditions and schemas.
//!
//! A match takes the length of the text times the positions of the pattern that can be reached at
//! once, at worst: `a{7000}[^a]` follows 7,000 at each `a`. So a pattern has a bounded number of
//! positions, and a match is charged for that product.
//!
//! The positions are counted by the size of a compiled copy in which each class is one byte. The
//! program of the pattern itself would not do: of the hundreds of states of `\p{L}`, one is
//! reached at a time.

use regex::{Regex, RegexBuilder};

use super::{PATTERN_BYTES, PATTERN_CACHE_BYTES, PATTERN_POSITIONS, PATTERN_PROGRAM_BYTES, Steps};
use crate::kernel::validate;

/// Size of a state in a compiled pattern, in bytes.
const STATE_BYTES: usize = 32;
/// The classes of patterns, by their positions.
const CLASSES: [usize; 3] = [64, 256, PATTERN_POSITIONS];
/// Positions times bytes of text that a match may pass in one step of a condition; 20,000 steps
/// are some 0.5 s at worst.
const STEP_WORK: usize = 2_560;
/// Maximum nesting of a pattern.
const NESTING: u32 = 32;

/// A compiled pattern whose work is known.
#[derive(Debug)]
pub struct Pattern {
    regex: Regex,
    positions: usize,
}

impl Pattern {
    /// Compiles a pattern in the syntax of the `regex` crate. The error is a sentence.
    pub fn read(source: &str) -> Result<Self, String> {
        check_length(source)?;
        // The real one comes first: what is measured below is valid then.
        let regex = RegexBuilder::new(source)
            .size_limit(PATTERN_PROGRAM_BYTES)
            .dfa_size_limit(PATTERN_CACHE_BYTES)
            .nest_limit(NESTING)
            .build()
            .map_err(message)?;
        // The line's end closes a comment.
        let whole = || positions(|limit| fits(&format!("{source}\n"), limit));
        let positions = match narrowed(source, Syntax::Regex)? {
            Some(narrowed) => narrow_positions(&narrowed).or_else(|_| whole()),
            None => whole(),
        };
        let positions = positions.map_err(message)?;
        Ok(Self { regex, positions })
    }

    /// Matches a text, if the steps suffice for it.
    pub fn is_match(&self, text: &str, steps: &Steps) -> Option<bool> {
        let work = text.len().saturating_mul(self.positions) / STEP_WORK;
        let work = u64::try_from(work).unwrap_or(u64::MAX);
        steps.take(work.saturating_add(1)).then(|| self.regex.is_match(text))
    }
}

/// The positions of a schema's pattern, in the syntax of ECMA 262. The error is a sentence.
pub fn schema_positions(source: &str) -> Result<usize, String> {
    check_length(source)?;
    match narrowed(source, Syntax::Ecma)? {
        Some(narrowed) => narrow_positions(&narrowed).map_err(message),
        None => Err("flags like (?x) are not supported in the pattern of a schema".to_owned()),
    }
}

fn check_length(source: &str) -> Result<(), String> {
    if source.len() > PATTERN_BYTES {
        return Err(format!("a pattern has at most {PATTERN_BYTES} bytes"));
    }
    Ok(())
}

/// The class of a narrowed pattern. Where it is invalid as a pattern of bytes, as `\u00e9` is, it
/// is counted as one of characters, which never has fewer states.
fn narrow_positions(narrowed: &str) -> Result<usize, regex::Error> {
    let as_bytes = positions(|limit| {
        let pattern = anchored(narrowed);
        let mut builder = regex::bytes::RegexBuilder::new(&pattern);
        builder.unicode(false).size_limit(limit).nest_limit(NESTING + 1).build().map(|_| ())
    });
    match as_bytes {
        Err(regex::Error::Syntax(_)) => positions(|limit| fits(narrowed, limit)),
        done => done,
    }
}

/// Compiles a pattern only for its size.
fn fits(source: &str, limit: usize) -> Result<(), regex::Error> {
    RegexBuilder::new(&anchored(source)).size_limit(limit).nest_limit(NESTING + 1).build().map(|_| ())
}

/// A pattern that is always compiled to a program; without anchors, the crate searches for a set of
/// literals in another way, and compares no size.
fn anchored(source: &str) -> String {
    format!(r"\A(?:{source})\z")
}

/// The smallest class that a pattern fits into.
fn positions(fits: impl Fn(usize) -> Result<(), regex::Error>) -> Result<usize, regex::Error> {
    let mut last = Ok(PATTERN_POSITIONS);
    for positions in CLASSES {
        last = fits(positions * STATE_BYTES).map(|()| positions);
        if !matches!(last, Err(regex::Error::CompiledTooBig(_))) {
            break;
        }
    }
    last
}

fn too_large() -> String {
    format!(
        "the pattern is too large: its characters, classes and repetitions, multiplied out, may take about \
         {PATTERN_POSITIONS} states; repeat less, or check the length by itself"
    )
}

fn message(err: regex::Error) -> String {
    if matches!(err, regex::Error::CompiledTooBig(_)) {
        return too_large();
    }
    let why = err.to_string();
    let unsupported = ["look-around", "backreferences"].into_iter().find(|what| why.contains(what));
    match unsupported {
        Some(what) => format!("{what} can't be used in a pattern, because it may never end: combine several patterns"),
        None => validate::printable(&why),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Syntax {
    /// The syntax of the `regex` crate.
    Regex,
    /// The syntax of JSON Schema, in which a class contains no class.
    Ecma,
}

/// Replaces each class by one character; `None` for syntax whose classes this scan can't tell from
/// the rest: classes within classes, and the flag `x`, which allows comments.
fn narrowed(source: &str, syntax: Syntax) -> Result<Option<String>, String> {
    let mut narrowed = String::with_capacity(source.len());
    let mut chars = source.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('p' | 'P') => {
                    if chars.next() == Some('{') {
                        chars.by_ref().find(|c| *c == '}');
                    }
                    narrowed.push('a');
                }
                Some('d' | 'D' | 's' | 'S' | 'w' | 'W') => narrowed.push('a'),
                // A control character of ECMA 262.
                Some('c') if syntax == Syntax::Ecma => {
                    chars.next();
                    narrowed.push('a');
                }
                Some(escaped) => narrowed.extend(['\\', escaped]),
                None => narrowed.push('\\'),
            },
            '[' => {
                chars.next_if_eq(&'^');
                // A `]` at the beginning is read in two ways.
                if chars.peek() == Some(&']') {
                    return match syntax {
                        Syntax::Regex => Ok(None),
                        Syntax::Ecma => Err("a class that begins with ] is not supported: write \\]".to_owned()),
                    };
                }
                loop {
                    match chars.next() {
                        None | Some(']') => break,
                        Some('\\') => drop(chars.next()),
                        Some('[') if syntax == Syntax::Regex => return Ok(None),
                        Some(_) => {}
                    }
                }
                narrowed.push('a');
            }
            '(' if chars.peek() == Some(&'?') => {
                let mut flags = chars.clone().skip(1).take_while(|c| c.is_ascii_alphabetic() || *c == '-');
                if flags.any(|flag| flag == 'x') {
                    return Ok(None);
                }
                narrowed.push('(');
            }
            '.' => narrowed.push('a'),
            c if c.is_ascii() => narrowed.push(c),
            // As many bytes as it has.
            c => narrowed.extend(["(?:", &"a".repeat(c.len_utf8()), ")"]),
        }
    }
    Ok(Some(narrowed))
}

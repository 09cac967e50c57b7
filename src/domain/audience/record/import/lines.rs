//! Lines of a CSV, read in bounded memory. The reader is our own because an open quote must be found while it swallows
//! the rows behind it, with the line that it stands in; the `csv` crate reads on into memory without a bound.
//!
//! A quote opens a value only at its beginning; inside it two quotes are one. What follows a closing quote in the same
//! line belongs to the value, as elsewhere; after a value of several lines it shows that the quote was never closed.

use std::collections::BTreeSet;
use std::io::{self, Read};

use crate::kernel::limits;

/// A line of the file, which may stand on several lines of text.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// The line of text that it begins on, from 1.
    pub(super) line: u64,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// What it takes in memory, about.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + self.ends.len() * size_of::<usize>()
    }

    pub(super) fn cells(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(from, to)| &self.bytes[from..*to])
    }

    pub(super) fn is_blank(&self) -> bool {
        self.bytes.trim_ascii().is_empty()
    }

    /// The line in which a value of several lines begins that seems to have swallowed rows: lines in it have as many
    /// delimiters as a row of so many columns, and, where that says little, an id of the form that others have.
    pub(super) fn swallowed(&self, columns: usize, delimiter: u8, ids: &Ids) -> Option<u64> {
        let mut line = self.line;
        for (at, cell) in self.cells().enumerate() {
            let mut inner: Vec<&[u8]> = cell.split(|byte| *byte == b'\n').skip(1).collect();
            let breaks = inner.len() as u64;
            // The last line of a value goes on with the next one, but for the last value of all.
            if at + 1 < columns {
                inner.pop();
            }
            let cells = |text: &&[u8]| text.split(|byte| *byte == delimiter).count();
            // A line of text that happens to have as many commas begins with several words, a row with an id.
            let found: Vec<&[u8]> = inner
                .iter()
                .filter(|text| cells(text) == columns)
                .filter_map(|text| text.split(|byte| *byte == delimiter).nth(ids.column))
                .filter(|id| form(id).is_some())
                .collect();
            let rows = found.len();
            let own: usize = found.into_iter().map(|id| ids.weight(id, self)).sum();
            if (columns == 1 && breaks > 0)
                || (columns >= 3 && rows >= 2)
                || (columns >= 6 && rows >= 1)
                || own >= ENOUGH
            {
                return Some(line);
            }
            line += breaks;
        }
        None
    }
}

/// The forms that the ids of a file have: letters, digits and the rest, however many of each.
#[derive(Clone, Debug, Default)]
pub(super) struct Ids {
    /// The column that they stand in.
    pub(super) column: usize,
    forms: BTreeSet<Vec<u8>>,
}

impl Ids {
    pub(super) fn of(column: usize) -> Self {
        Self { column, forms: BTreeSet::new() }
    }

    /// Notes the form of a line's id.
    pub(super) fn note(&mut self, line: &Line) {
        if self.forms.len() < FORMS
            && let Some(form) = line.cells().nth(self.column).and_then(form)
        {
            self.forms.insert(form);
        }
    }

    /// How much a text looks like an id: by the form of those before it, or of the one in its own line. A word or a
    /// number alone may be one by chance.
    fn weight(&self, text: &[u8], line: &Line) -> usize {
        let Some(found) = form(text) else { return 0 };
        let known =
            self.forms.contains(&found) || line.cells().nth(self.column).and_then(form).as_ref() == Some(&found);
        match found.len() {
            _ if !known => 0,
            1 => 1,
            _ => ENOUGH,
        }
    }
}

/// The weight of lines in a value from which they are rows.
const ENOUGH: usize = 3;
/// Forms that are kept of one file.
const FORMS: usize = 64;

/// The form of an id, `a-9` for `lead-17`; none for what has blanks in it, as text has.
fn form(id: &[u8]) -> Option<Vec<u8>> {
    let id = id.trim_ascii();
    if id.is_empty() || id.len() > 200 || id.iter().any(u8::is_ascii_whitespace) {
        return None;
    }
    let mut form: Vec<u8> = id
        .iter()
        .map(|byte| match byte {
            b'0'..=b'9' => b'9',
            byte if byte.is_ascii_alphabetic() || !byte.is_ascii() => b'a',
            byte => *byte,
        })
        .collect();
    form.dedup();
    Some(form)
}

/// What comes next in the file.
#[derive(Debug)]
pub(super) enum Found {
    /// A line.
    Line(Line),
    /// The line that begins here is longer than a line may be; what follows it is read.
    TooLong(u64),
    /// The quote opened in this line is not closed.
    Unclosed(u64),
}

/// A file, line by line.
pub(super) struct Lines<R> {
    source: R,
    delimiter: u8,
    /// What ends a line: LF, or CR in files of old that have no LF.
    end: u8,
    buffer: Box<[u8]>,
    at: usize,
    filled: usize,
    line: u64,
}

/// The place within a value.
enum At {
    Begin,
    Plain,
    Quoted,
    /// Behind a quote in a quoted value: it closes the value, or is the first of two.
    Quote,
    /// Behind the blanks that follow a value of several lines.
    Closed,
}

impl<R: Read> Lines<R> {
    /// Reads on from a line of text.
    pub(super) fn new(source: R, delimiter: u8, end: u8, line: u64) -> Self {
        Self { source, delimiter, end, buffer: vec![0; 64 * 1024].into(), at: 0, filled: 0, line }
    }

    fn byte(&mut self) -> io::Result<Option<u8>> {
        if self.at == self.filled {
            self.at = 0;
            self.filled = 0;
            self.filled = self.source.read(&mut self.buffer)?;
            if self.filled == 0 {
                return Ok(None);
            }
        }
        self.at += 1;
        Ok(Some(self.buffer[self.at - 1]))
    }

    /// The next line; none at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        let mut line = Line { line: self.line, bytes: Vec::new(), ends: Vec::new() };
        let (mut at, mut size, mut opened) = (At::Begin, 0_usize, self.line);
        loop {
            let Some(byte) = self.byte()? else {
                return Ok(match at {
                    At::Quoted => Some(Found::Unclosed(opened)),
                    _ if size == 0 => None,
                    at => Some(ended(line, &at, size)),
                });
            };
            size += 1;
            if byte == self.end {
                self.line += 1;
            }
            let fits = size <= limits::IMPORT_LINE_BYTES;
            at = match (at, byte) {
                (At::Quoted, b'"') => At::Quote,
                (At::Quoted, _) if !fits && self.line > opened => return Ok(Some(Found::Unclosed(opened))),
                (At::Quote, b'"') | (At::Quoted, _) => {
                    if fits {
                        line.bytes.push(byte);
                    }
                    At::Quoted
                }
                (at, byte) if byte == self.end => return Ok(Some(ended(line, &at, size))),
                (_, byte) if byte == self.delimiter => {
                    if fits {
                        line.ends.push(line.bytes.len());
                    }
                    At::Begin
                }
                (At::Begin, b'"') => {
                    // Blanks before the quote are not part of the value.
                    line.bytes.truncate(line.ends.last().copied().unwrap_or(0));
                    opened = self.line;
                    At::Quoted
                }
                (At::Quote | At::Closed, b'\r' | b' ') if self.line > opened => At::Closed,
                (At::Quote | At::Closed, _) if self.line > opened => return Ok(Some(Found::Unclosed(opened))),
                (at, byte) => {
                    if fits {
                        line.bytes.push(byte);
                    }
                    if matches!(at, At::Begin) && byte == b' ' { At::Begin } else { At::Plain }
                }
            };
        }
    }
}

fn ended(mut line: Line, at: &At, size: usize) -> Found {
    if size > limits::IMPORT_LINE_BYTES {
        return Found::TooLong(line.line);
    }
    let begin = line.ends.last().copied().unwrap_or(0);
    if matches!(at, At::Plain) && line.bytes.len() > begin && line.bytes.ends_with(b"\r") {
        line.bytes.pop();
    }
    line.ends.push(line.bytes.len());
    Found::Line(line)
}

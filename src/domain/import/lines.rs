//! Reads CSV lines in bounded memory. Not the `csv` crate, which reads an unclosed quote into
//! memory without a bound: this reader detects such a quote while it swallows the following rows,
//! and reports the line it was opened in.
//!
//! A quote opens a value only at its beginning; inside it, two quotes are one. Text after a closing
//! quote in the same line belongs to the value, as in other readers; after a value of several lines
//! it shows that the quote was never closed.

use std::collections::BTreeSet;
use std::io::{self, Read};

use crate::kernel::limits;

/// A CSV line, which may span several lines of text.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// The line of text that it begins on, from 1.
    pub(super) line: u64,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Positions of the cells of a too long line that were too long to keep.
    dropped: Vec<usize>,
    /// True for a too long line with more cells than are kept.
    pub(super) is_cut: bool,
}

impl Line {
    fn new(line: u64) -> Self {
        Self { line, bytes: Vec::new(), ends: Vec::new(), dropped: Vec::new(), is_cut: false }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// True if a cell was too long to keep; it is empty then.
    pub(super) fn is_dropped(&self, cell: usize) -> bool {
        self.dropped.contains(&cell)
    }

    fn begin_of_cell(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Adds a byte to the current cell. Once the line is too long, only short cells are kept.
    fn push(&mut self, byte: u8, fits: bool) {
        let is_kept = || !self.is_cut && self.bytes.len() - self.begin_of_cell() <= limits::IMPORT_LONG_LINE_CELL_BYTES;
        if fits || is_kept() {
            self.bytes.push(byte);
        }
    }

    fn end_cell(&mut self, fits: bool) {
        let begin = self.begin_of_cell();
        if !fits && self.ends.len() >= limits::IMPORT_COLUMNS {
            self.is_cut = true;
            self.bytes.truncate(begin);
            return;
        }
        if !fits && self.bytes.len() - begin > limits::IMPORT_LONG_LINE_CELL_BYTES {
            self.bytes.truncate(begin);
            self.dropped.push(self.ends.len());
        }
        self.ends.push(self.bytes.len());
    }

    /// Approximate size in memory, in bytes.
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

    /// The first line of a multi-line value that seems to have swallowed rows. Lines within it then
    /// have as many delimiters as a row and, where that is weak evidence, an id of the usual form.
    pub(super) fn swallowed(&self, columns: usize, delimiter: u8, ids: &Ids) -> Option<u64> {
        let mut line = self.line;
        for (at, cell) in self.cells().enumerate() {
            let mut inner: Vec<&[u8]> = cell.split(|byte| *byte == b'\n').skip(1).collect();
            let breaks = inner.len() as u64;
            // The last line of a value continues with the next value, except in the last column.
            if at + 1 < columns {
                inner.pop();
            }
            let cells = |text: &&[u8]| text.split(|byte| *byte == delimiter).count();
            // Prose with as many commas begins with several words, a row with an id.
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

/// The forms of a file's ids: letters, digits and other characters, with repeats collapsed.
#[derive(Clone, Debug, Default)]
pub(super) struct Ids {
    /// The column with the ids.
    pub(super) column: usize,
    forms: BTreeSet<Vec<u8>>,
}

impl Ids {
    pub(super) fn of(column: usize) -> Self {
        Self { column, forms: BTreeSet::new() }
    }

    /// Adds the form of a line's id.
    pub(super) fn note(&mut self, line: &Line) {
        if self.forms.len() < FORMS
            && let Some(form) = line.cells().nth(self.column).and_then(form)
        {
            self.forms.insert(form);
        }
    }

    /// The likelihood that a text is an id: it has the form of earlier ids, or of the one in its
    /// own line. A single word or number may match by chance, so it weighs less.
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

/// Total weight from which lines within a value are taken for rows.
const ENOUGH: usize = 3;
/// Maximum number of forms stored per file.
const FORMS: usize = 64;

/// The form of an id, `a-9` for `lead-17`; `None` for text with whitespace in it.
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

/// The next item of the file.
#[derive(Debug)]
pub(super) enum Found {
    /// A line.
    Line(Line),
    /// A line that exceeds the limit, without its long cells; reading continues after it.
    TooLong(Line),
    /// The quote opened in this line is not closed; reading ends.
    Unclosed(u64),
}

/// A file, line by line.
pub(super) struct Lines<R> {
    source: R,
    delimiter: u8,
    /// The byte that ends a line: LF, or CR in old files without LF.
    end: u8,
    buffer: Box<[u8]>,
    at: usize,
    filled: usize,
    line: u64,
}

/// The reader's position within a value.
enum At {
    Begin,
    Plain,
    Quoted,
    /// After a quote in a quoted value: it closes the value, or is the first of two.
    Quote,
    /// After the blanks that follow a multi-line value.
    Closed,
}

impl<R: Read> Lines<R> {
    /// Reads `source`, whose first line has the number `line`.
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

    /// Returns the next line; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        let mut line = Line::new(self.line);
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
                    line.push(byte, fits);
                    At::Quoted
                }
                (at, byte) if byte == self.end => return Ok(Some(ended(line, &at, size))),
                (_, byte) if byte == self.delimiter => {
                    line.end_cell(fits);
                    At::Begin
                }
                (At::Begin, b'"') => {
                    // Blanks before the quote are not part of the value.
                    line.bytes.truncate(line.begin_of_cell());
                    opened = self.line;
                    At::Quoted
                }
                (At::Quote | At::Closed, b'\r' | b' ') if self.line > opened => At::Closed,
                (At::Quote | At::Closed, _) if self.line > opened => return Ok(Some(Found::Unclosed(opened))),
                (at, byte) => {
                    line.push(byte, fits);
                    if matches!(at, At::Begin) && byte == b' ' { At::Begin } else { At::Plain }
                }
            };
        }
    }
}

fn ended(mut line: Line, at: &At, size: usize) -> Found {
    if matches!(at, At::Plain) && line.bytes.len() > line.begin_of_cell() && line.bytes.ends_with(b"\r") {
        line.bytes.pop();
    }
    let fits = size <= limits::IMPORT_LINE_BYTES;
    line.end_cell(fits);
    if fits {
        return Found::Line(line);
    }
    // The room of what was dropped is not held with the line.
    line.bytes.shrink_to_fit();
    Found::TooLong(line)
}

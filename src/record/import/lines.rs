//! Lines of a CSV, read in bounded memory. The reader is our own because an open quote must be found while it swallows
//! the rows behind it, with the line that it stands in; the `csv` crate reads on into memory without a bound.
//!
//! A quote opens a value only at its beginning; inside it two quotes are one. What follows a closing quote in the same
//! line belongs to the value, as elsewhere; after a value of several lines it shows that the quote was never closed.

use std::io::{self, Read};

use crate::limits;

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
    /// delimiters as a row of so many columns.
    pub(super) fn swallowed(&self, columns: usize, delimiter: u8) -> Option<u64> {
        let mut line = self.line;
        for cell in self.cells() {
            let mut inner: Vec<&[u8]> = cell.split(|byte| *byte == b'\n').skip(1).collect();
            let breaks = inner.len() as u64;
            inner.pop();
            let is_row = |text: &&&[u8]| text.iter().filter(|byte| **byte == delimiter).count() + 1 == columns;
            let rows = inner.iter().filter(is_row).count();
            if (columns >= 3 && rows >= 2) || (columns >= 6 && rows >= 1) {
                return Some(line);
            }
            line += breaks;
        }
        None
    }
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
                (At::Quote, byte) if self.line > opened && !matches!(byte, b'\r' | b' ') => {
                    return Ok(Some(Found::Unclosed(opened)));
                }
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

//! Decodes a file to UTF-8 as it streams, and rejects files that are not text by naming their
//! format.

use std::io::{self, Read};

use encoding_rs::{CoderResult, Decoder, Encoding, UTF_8};

use crate::kernel::error::{Refusal, Result};

/// Bytes that are inspected before the first line is read.
pub(super) const HEAD: usize = 64 * 1024;

/// The head of a file in UTF-8, followed by the rest.
pub(super) type Text<R> = io::Chain<io::Cursor<Vec<u8>>, Source<R>>;

/// Opens a file, and returns its head, too. A byte order mark determines the encoding, then the
/// option; the default is UTF-8. Errors: BAD_USER_INPUT for an unknown encoding, and for a file
/// that is not text.
pub(super) fn open<R: Read>(inner: R, encoding: Option<&str>) -> Result<(Vec<u8>, Text<R>)> {
    let given = encoding.map(|label| {
        Encoding::for_label(label.trim().as_bytes()).ok_or_else(|| {
            let message =
                format!("`{}` is unknown: use utf-8, utf-16le, utf-16be, windows-1252 or another encoding", label);
            Refusal::input("encoding", message)
        })
    });
    let given = given.transpose()?;
    let mut source = Source { inner, raw: Vec::new(), at: 0, decoder: None, ended: false, failed: None };
    source.raw = source.some(HEAD);
    if source.raw.starts_with(b"\xff\xfe\0\0") || source.raw.starts_with(b"\0\0\xfe\xff") {
        return Err(Refusal::input("file", "is UTF-32: save it as CSV (UTF-8), and import that").into());
    }
    let marked = Encoding::for_bom(&source.raw);
    if marked.is_none() {
        refuse_others(&source.raw, given)?;
    }
    let (encoding, mark) = marked.unwrap_or((given.unwrap_or(UTF_8), 0));
    source.at = mark;
    // UTF-8 is passed on unchanged: invalid bytes are reported cell by cell.
    source.decoder = (encoding != UTF_8).then(|| encoding.new_decoder_without_bom_handling());
    let mut head = vec![0; HEAD];
    let mut filled = 0;
    // The decoder needs room for at least one character.
    while head.len() - filled >= 16 {
        match source.read(&mut head[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(err) => {
                source.failed = Some(err);
                break;
            }
        }
    }
    head.truncate(filled);
    Ok((head.clone(), io::Cursor::new(head).chain(source)))
}

/// Rejects known formats that are not CSV.
fn refuse_others(head: &[u8], given: Option<&'static Encoding>) -> Result<()> {
    let has = |text: &str| head.windows(text.len()).any(|part| part == text.as_bytes());
    let begins = |text: &str| head.trim_ascii_start().to_ascii_lowercase().starts_with(text.as_bytes());
    let why = if head.starts_with(b"PK\x03\x04") {
        if has("opendocument.spreadsheet") {
            "is an OpenDocument spreadsheet (.ods): save it as CSV (UTF-8), and import that"
        } else if has("xl/") || has("[Content_Types].xml") {
            "is an Excel workbook (.xlsx): save it as CSV (UTF-8), and import that"
        } else {
            "is a ZIP archive: unpack it, and import the CSV in it"
        }
    } else if head.starts_with(b"\xd0\xcf\x11\xe0") {
        "is an Excel workbook (.xls): save it as CSV (UTF-8), and import that"
    } else if head.starts_with(b"\x1f\x8b") {
        "is compressed (gzip): unpack it first"
    } else if head.starts_with(b"%PDF") {
        "is a PDF document, not a CSV"
    } else if begins("<!doctype html") || begins("<html") {
        "is an HTML page, not a CSV"
    } else if begins("<?xml") {
        "is an XML document, not a CSV"
    } else if begins("{") || begins("[{") || begins("[\n") || begins("[\r\n") {
        "is JSON, not a CSV"
    } else if given.is_none()
        && let Some(why) = wide(head)
    {
        why
    } else if head.is_empty() {
        "is empty: its first line must name the columns, `external_id,name,email`"
    } else {
        return Ok(());
    };
    Err(Refusal::input("file", why).into())
}

/// Recognises UTF-16 and UTF-32 by the zero bytes of their ASCII characters.
fn wide(head: &[u8]) -> Option<&'static str> {
    let head = &head[..head.len().min(4096)];
    let zeros = |from: usize, step: usize| head.iter().skip(from).step_by(step).filter(|byte| **byte == 0).count();
    let (even, odd) = (zeros(0, 2), zeros(1, 2));
    if even + odd <= head.len() / 4 {
        None
    } else if even.min(odd) > head.len() / 5 {
        Some("looks like UTF-32: save it as CSV (UTF-8), and import that")
    } else if even > odd {
        Some("looks like UTF-16 without a byte order mark: save it as CSV (UTF-8), or name the encoding `utf-16be`")
    } else {
        Some("looks like UTF-16 without a byte order mark: save it as CSV (UTF-8), or name the encoding `utf-16le`")
    }
}

/// A file that is decoded as it is read.
pub(super) struct Source<R> {
    inner: R,
    raw: Vec<u8>,
    at: usize,
    decoder: Option<Decoder>,
    ended: bool,
    /// An error from reading the head, returned once the head has been consumed.
    failed: Option<io::Error>,
}

impl<R: Read> Source<R> {
    /// Reads at least `most` bytes, or up to the end.
    fn some(&mut self, most: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 8192];
        while bytes.len() < most && !self.ended && self.failed.is_none() {
            match self.inner.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => self.failed = Some(err),
            }
        }
        bytes
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.at == self.raw.len() && !self.ended {
                if let Some(err) = self.failed.take() {
                    return Err(err);
                }
                self.raw = self.some(1);
                self.at = 0;
            }
            let left = &self.raw[self.at..];
            let Some(decoder) = &mut self.decoder else {
                if left.is_empty() && self.failed.is_some() {
                    continue;
                }
                let count = left.len().min(buffer.len());
                buffer[..count].copy_from_slice(&left[..count]);
                self.at += count;
                return Ok(count);
            };
            let (result, read, written, _) = decoder.decode_to_utf8(left, buffer, self.ended);
            self.at += read;
            if self.ended && result == CoderResult::InputEmpty {
                // A finished decoder must not be called again.
                (self.raw, self.at) = (Vec::new(), 0);
                self.decoder = None;
                if written > 0 {
                    return Ok(written);
                }
                continue;
            }
            if written > 0 {
                return Ok(written);
            }
        }
    }
}

/// Problem of a cell with invalid UTF-8.
pub(super) const NOT_UTF8: &str = "is not UTF-8; for a file from Windows name the encoding `windows-1252`";

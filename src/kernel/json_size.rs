//! Memory of parsed JSON. `[1,1,…]` takes two bytes a value as text and thirty-two parsed, so what
//! is bounded in memory is measured by what its text becomes.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

/// Bytes of a value or of a key, beside its text: lists grow by doubling, so half as much again.
const SLOT: usize = size_of::<Value>() * 3 / 2;
/// Bytes of an object before its first field: the node of a B-tree is allocated whole.
const OBJECT: usize = 512;

/// Approximate size of what a JSON text becomes when it is parsed.
pub fn of_text(text: &[u8]) -> usize {
    let mut measure = Measure::default();
    measure.take(text);
    measure.size
}

/// Approximate size of a value that was read from JSON.
pub fn of(value: &impl Serialize) -> usize {
    let mut measure = Measure::default();
    // What can't be written was not read from JSON, either; then what was written counts.
    let _ = serde_json::to_writer(&mut measure, value);
    measure.size
}

/// Counts values by the characters between them.
#[derive(Clone, Copy, Debug, Default)]
struct Measure {
    size: usize,
    within_text: bool,
    escaped: bool,
}

impl Measure {
    fn take(&mut self, bytes: &[u8]) {
        let Self { mut size, mut within_text, mut escaped } = *self;
        size += bytes.len();
        for byte in bytes {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if within_text => escaped = true,
                b'"' => within_text = !within_text,
                _ if within_text => {}
                b',' | b':' | b'[' => size += SLOT,
                b'{' => size += OBJECT,
                _ => {}
            }
        }
        *self = Self { size, within_text, escaped };
    }
}

impl Write for Measure {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.take(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

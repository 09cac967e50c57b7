//! The size of a response: its values, counted while they are made, and its bounded serialization.

use std::io::{self, Write};

use async_graphql::Value;
use serde::Serialize;

use super::Request;
use crate::kernel::error::Refusal;

/// Minimum size of a field or of an item of a list: `1,` is short, but takes memory.
const SLOT: usize = 24;

/// Approximate serialized size of a value in bytes.
pub fn deep(value: &Value) -> usize {
    size(value, &|_| false)
}

/// Approximate serialized size without lists of objects.
pub fn shallow(value: &Value) -> usize {
    size(value, &|items| matches!(items.first(), Some(Value::Object(_))))
}

fn size(value: &Value, skip: &impl Fn(&[Value]) -> bool) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.len() + 4 + size(value, skip)).max(SLOT)).sum::<usize>() + 2
        }
        Value::List(items) if skip(items) => 2,
        Value::List(items) => items.iter().map(|item| (size(item, skip) + 1).max(SLOT)).sum::<usize>() + 2,
        Value::Binary(bytes) => bytes.len() * 4,
        _ => 4,
    }
}

/// Serializes a response as JSON. Errors: LIMIT_EXCEEDED if it is larger than allowed; nothing
/// beyond is written.
pub fn write(request: &Request, answer: &impl Serialize) -> Result<Vec<u8>, Refusal> {
    let mut bounded = Bounded { bytes: Vec::with_capacity(1024), most: request.answer_bytes() };
    match serde_json::to_writer(&mut bounded, answer) {
        Ok(()) => Ok(bounded.bytes),
        Err(_) => Err(request.end(request.too_large())),
    }
}

struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            return Err(io::Error::other("larger than it may be"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

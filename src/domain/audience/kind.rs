//! Kinds of records: `lead`, `contact` …

use crate::kernel::error::{Refusal, Result};

/// Validates a kind of record: at most 40 lower-case letters and `_`.
pub fn check(field: &str, kind: &str) -> Result<String> {
    let fits = !kind.is_empty() && kind.len() <= 40 && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if fits {
        Ok(kind.to_owned())
    } else {
        Err(Refusal::input(field, "must be 1 to 40 lower-case letters or `_`, for example `lead`").into())
    }
}

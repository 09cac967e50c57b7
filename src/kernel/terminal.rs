//! Prints to the terminal; a closed pipe is not an error.

use std::fmt::Arguments;
use std::io::{Error, ErrorKind, Write};
use std::sync::OnceLock;

/// The first error of printing.
static FAILED: OnceLock<String> = OnceLock::new();

/// Prints to standard output. A reader that closed the pipe (`sortie schema | head -1`) is no
/// failure: further output is dropped.
pub fn out(text: Arguments<'_>) {
    let done = std::io::stdout().lock().write_fmt(text).and_then(|()| std::io::stdout().flush());
    if let Err(err) = done {
        failed(&err);
    }
}

/// Prints to standard error, ignoring failures.
pub fn err(text: Arguments<'_>) {
    let _ = std::io::stderr().lock().write_fmt(text);
}

/// The error if some output was lost, as on a full disk; none if only the reader closed the pipe.
pub fn failure() -> Option<&'static str> {
    FAILED.get().map(String::as_str)
}

fn failed(err: &Error) {
    if err.kind() != ErrorKind::BrokenPipe {
        let _ = FAILED.set(err.to_string());
    }
}

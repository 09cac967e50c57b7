//! What is printed for the one at the terminal.

use std::fmt::Arguments;
use std::io::{Error, ErrorKind, Write};
use std::sync::OnceLock;

/// Why something could not be printed.
static FAILED: OnceLock<String> = OnceLock::new();

/// Prints to standard output. A reader that went away (`sortie schema | head -1`) is no failure: what follows is dropped.
pub fn out(text: Arguments<'_>) {
    let done = std::io::stdout().lock().write_fmt(text).and_then(|()| std::io::stdout().flush());
    if let Err(err) = done {
        failed(&err);
    }
}

/// Prints to standard error, in the same way.
pub fn err(text: Arguments<'_>) {
    let _ = std::io::stderr().lock().write_fmt(text);
}

/// Why not all of what was to be printed was, such as a full disk; none where it was, or where its reader went away.
pub fn failure() -> Option<&'static str> {
    FAILED.get().map(String::as_str)
}

fn failed(err: &Error) {
    if err.kind() != ErrorKind::BrokenPipe {
        let _ = FAILED.set(err.to_string());
    }
}

//! What is printed for the one at the terminal.

use std::fmt::Arguments;
use std::io::Write;

/// Prints to standard output. A reader that went away (`sortie schema | head -1`) is no failure: what follows is dropped.
pub fn out(text: Arguments<'_>) {
    let _ = std::io::stdout().lock().write_fmt(text).and_then(|()| std::io::stdout().flush());
}

/// Prints to standard error, in the same way.
pub fn err(text: Arguments<'_>) {
    let _ = std::io::stderr().lock().write_fmt(text);
}

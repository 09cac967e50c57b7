//! What a user writes and we evaluate: templates, CEL, JSON Schema, YAML, JSON, CSV.

mod conditions;
mod documents;
mod fuzz;
mod imports;
mod mail;
mod schemas;
mod templates;

use std::time::{Duration, Instant};

/// The result of work that has to end soon; the build of tests is some ten times slower than the server's.
#[track_caller]
fn soon<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    assert!(begun.elapsed() < Duration::from_secs(5), "{} took {:?}", &what[..what.len().min(80)], begun.elapsed());
    done
}

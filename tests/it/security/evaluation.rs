//! What a user writes and we evaluate: templates, CEL, JSON Schema, YAML, JSON, CSV.

pub(super) mod conditions;
pub(super) mod definitions;
pub(super) mod documents;
mod fuzz;
mod imports;
mod introspection;
mod mail;
pub(super) mod schemas;
pub(super) mod templates;
mod transactions;

use std::time::{Duration, Instant};

/// The result of work that has to end soon; the build of tests is some ten times slower than the server's.
#[track_caller]
fn soon<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    assert!(begun.elapsed() < Duration::from_secs(5), "{} took {:?}", &what[..what.len().min(80)], begun.elapsed());
    done
}

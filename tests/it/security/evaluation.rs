//! User input that the server evaluates: templates, CEL, JSON Schema, YAML, JSON, CSV.

pub(super) mod conditions;
pub(super) mod definitions;
pub(super) mod documents;
mod fuzz;
mod imports;
mod introspection;
mod mail;
mod patterns;
mod regular_expressions;
mod results;
pub(super) mod schemas;
pub(super) mod templates;
mod transactions;

use std::time::{Duration, Instant};

/// Result of work that has to end soon; the test build is some ten times slower than a release
/// build.
#[track_caller]
fn soon<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    assert!(begun.elapsed() < Duration::from_secs(5), "{} took {:?}", &what[..what.len().min(80)], begun.elapsed());
    done
}

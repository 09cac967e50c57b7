//! One test binary over real databases: every test that touches one runs on SQLite and on Postgres.

// The long tests print their figures.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, unreachable_pub)]

#[macro_use]
mod harness;

mod api;
mod data;
mod engine;
mod faults;
mod guided;
mod meta;
mod run;
mod security;
mod transport;

//! One test binary over real databases: every test that touches one runs on SQLite and on Postgres.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "tests end where they fail, and the long ones print their figures"
)]

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

//! Foundations that depend on no module of the domain: time, limits, errors, input validation, the
//! database and the event log.

// Their macros are used in all modules below.
#[macro_use]
pub mod outage;
#[macro_use]
pub(crate) mod scoped;

pub mod audit;
pub mod budget;
pub mod clock;
pub mod config;
pub mod cost;
pub mod db;
pub mod error;
pub mod event;
pub mod failpoint;
pub mod idempotency;
pub mod json_size;
pub mod large;
pub mod limits;
pub mod nested_filter;
pub mod page;
pub mod period;
pub mod quote;
pub mod references;
pub(crate) mod row_limit;
pub mod secret;
pub mod storable;
pub mod stuck;
pub mod terminal;
pub mod tls;
pub mod validate;
pub mod viewer;

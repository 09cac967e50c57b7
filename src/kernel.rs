//! Everything that knows no word of the domain: time, limits, errors, the gate for what comes in, the database, the event log.

// Their macros are used everywhere below.
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
pub mod limits;
pub mod page;
pub mod references;
pub mod secret;
pub mod storable;
pub mod stuck;
pub mod terminal;
pub mod tls;
pub mod validate;
pub mod viewer;

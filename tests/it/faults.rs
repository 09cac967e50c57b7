//! Tests for externally reported faults, by section of their list; each test covers the whole class
//! that the reported fault is a sample of.

mod demo;
pub mod engine;
mod imports;
mod recipients;
mod requests;
mod schedules;
mod state;
mod statements;
mod values;

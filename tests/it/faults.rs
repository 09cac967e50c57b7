//! Faults found from outside, by section of their list, each as the kind that it is a sample of.

mod demo;
pub mod engine;
mod imports;
mod recipients;
mod requests;
mod schedules;
mod state;
mod statements;
mod values;

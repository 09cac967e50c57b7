//! Checks of the repository itself: its rules, docs, examples, demo and operation.

mod cycles;
mod demo;
mod examples;
mod fault_tables;
mod operator;
mod questions;
mod state_machines;
mod tidy;
mod words;

//! The house itself: its rules, its docs, its examples, its demo and its operator.

mod cycles;
mod demo;
mod examples;
mod fault_tables;
mod operator;
mod state_machines;
mod tidy;
mod words;

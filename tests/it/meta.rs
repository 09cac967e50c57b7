//! The house itself: its rules, its docs, its examples, its demo and its operator.

mod demo;
mod examples;
mod laws;
mod operator;
mod tidy;

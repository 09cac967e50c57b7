//! The program around the server: command line, settings of a process, metrics, demo, consistency check.

pub mod check;
pub mod cli;
pub mod demo;
pub mod seed;
pub mod server;
pub mod telemetry;

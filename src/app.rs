//! The program around the server: commands, telemetry, demo data, and the consistency check.

pub mod check;
pub mod cli;
pub mod demo;
pub mod seed;
pub mod server;
pub mod telemetry;

//! Plans: agents, run templates, campaigns with their preflight, schedules.

pub mod agent;
pub mod campaign;
pub mod campaign_snapshot;
pub mod run_template;
pub mod schedule;

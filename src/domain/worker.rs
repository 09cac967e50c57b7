//! The worker protocol, for external workers and built-in agents: claim steps, renew leases,
//! settle.

pub mod claim;
pub mod settle;

use serde_json::json;

use crate::kernel::error::Refusal;

/// The refusal of a step that the worker does not hold, or not any more.
fn lost(why: &str) -> Refusal {
    Refusal::conflict(format!("you do not hold this step any more: {why}")).with("reason", json!("LEASE_LOST"))
}

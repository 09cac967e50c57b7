//! The worker protocol, for external workers and built-in agents: claim steps, renew leases,
//! settle.

pub mod claim;
pub mod settle;

//! Workers outside, and the built-in agents: they claim steps, renew, and settle what they hold.

pub mod claim;
pub mod settle;

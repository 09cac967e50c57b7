//! Records, the segments that select them, and the addresses that are never written to.

pub mod record;
pub mod segment;
pub mod stage;
pub mod suppression;

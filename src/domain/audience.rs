//! Records, the segments that select them, pipeline stages, and the suppression list.

pub mod kind;
pub mod record;
pub mod segment;
pub mod stage;
pub mod suppression;

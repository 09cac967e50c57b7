//! The engine under failures: kills, failing dependencies, the ledger, the positions of the log.

mod bad_world;
mod kills;
mod ledger;
mod positions;
mod under_fire;

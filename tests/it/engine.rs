//! The engine under failures: kills, failing dependencies, the ledger, the positions of the log, the wakes of its loops.

mod bad_world;
mod kills;
mod ledger;
mod positions;
mod under_fire;
mod wakes;

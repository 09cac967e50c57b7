//! The engine under fire: kills, a bad world, the ledger, the positions of the log.

mod bad_world;
mod kills;
mod ledger;
mod positions;
mod under_fire;

//! Imports, migrations, seeds, and the checker.

mod checker;
mod erasure;
mod import;
mod migrations;
mod seed;

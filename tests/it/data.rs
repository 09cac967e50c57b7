//! Imports, migrations, seeds, and the checker.

mod checker;
mod import;
mod migrations;
mod seed;

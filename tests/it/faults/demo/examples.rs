//! docs/examples.md

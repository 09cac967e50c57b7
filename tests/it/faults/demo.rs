//! First use: a demo that moves, keys that lock nobody out, a worker built from the docs, examples
//! that run.

mod examples;
mod keys;
mod live;
mod shell;

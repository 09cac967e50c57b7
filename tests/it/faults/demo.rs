//! The first hour: a demo that moves, keys that lock nobody out, a worker by the lines of the docs, examples that fly.

mod examples;
mod keys;
mod live;
mod shell;

//! One test binary over real databases: every test that touches one runs on SQLite and on Postgres.

// The long tests print their figures.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, unreachable_pub)]

#[macro_use]
mod harness;

mod action_types;
mod actions;
mod attacks;
mod bad_world;
mod checker;
mod clients;
mod definitions;
mod demo;
mod doing;
mod examples;
mod faults;
mod filters;
mod first_light;
mod guided;
mod guided_kills;
mod guided_mail;
mod idempotency;
mod import;
mod keys;
mod kills;
mod kinds;
mod large;
mod laws;
mod layers;
mod ledger;
mod meetings;
mod migrations;
mod operator;
mod outreach;
mod pages;
mod pipeline;
mod plans;
mod positions;
mod preflight;
mod schedules;
mod schema;
mod security;
mod seed;
mod shared;
mod smart_data;
mod socket;
mod statements;
mod strangers;
mod tenancy;
mod tidy;
mod tokens;
mod under_fire;
mod workers;

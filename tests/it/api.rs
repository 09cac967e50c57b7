//! The API as a front end meets it: lists, filters, pages, idempotency, roles, the cost in statements.

mod actions;
mod filters;
mod first_light;
mod idempotency;
mod keys;
mod pages;
mod schema;
mod statements;

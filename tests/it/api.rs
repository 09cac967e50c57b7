//! The API as a front end uses it: lists, filters, pages, idempotency, roles, statements per
//! request.

mod actions;
mod campaign_filters;
mod campaign_tags;
mod dashboard;
mod fields;
mod filters;
mod findings;
mod first_light;
mod idempotency;
mod keys;
mod list_plans;
mod log;
mod looking_back;
mod message_search;
mod pages;
mod record_links;
mod replies;
mod saved_views;
mod schema;
mod selection;
mod statements;
mod viewer;

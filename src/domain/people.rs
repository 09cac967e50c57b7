//! Orgs, their members with their saved views, and the API keys that authenticate requests.

pub mod admin_access;
pub mod api_key;
pub mod member;
pub mod org;
pub mod saved_view;

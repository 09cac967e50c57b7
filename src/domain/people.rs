//! Orgs, their members, and the keys that they ask with.

pub mod api_key;
pub mod member;
pub mod org;

//! HTTP, WebSockets, SSE streams, shared subscriptions, and third-party clients.

pub mod clients;
mod lists;
mod operations;
mod shared;
mod socket;
pub mod strangers;

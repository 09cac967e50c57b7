//! HTTP, WebSockets, SSE streams, shared subscriptions, and third-party clients.

pub mod clients;
mod lists;
mod shared;
mod socket;
mod strangers;

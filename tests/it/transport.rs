//! HTTP, sockets, streams, shared subscriptions, and clients of others.

pub mod clients;
mod shared;
mod socket;
mod strangers;

//! Messages: the ledger, the queue of what waits to be sent, activities, replies.

pub mod activity;
pub mod communication;
pub mod reply;
pub mod send_queue;

//! Messages: the ledger of communications, the send queue, activities, replies.

pub mod activity;
pub mod communication;
pub mod reply;
pub mod send_queue;
pub mod sms;

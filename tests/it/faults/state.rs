//! State: reasons as codes, events of every noun, idempotency, approvals of a version, the checker.

mod bulk;
mod cursors;
mod ends;
mod keys;
mod kinds;
mod replies;
mod stages;

//! State: reason codes, events of every noun, idempotency, approvals of a version, the checker.

mod assigned;
mod bulk;
mod checks;
mod cursors;
mod ends;
mod filters;
mod keys;
mod kinds;
mod late_steps;
mod one_record;
mod reasons;
mod replies;
mod stages;
mod standstill;
mod together;

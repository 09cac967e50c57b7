//! State: reasons as codes, events of every noun, idempotency, approvals of a version, the checker.

mod keys;
mod stages;

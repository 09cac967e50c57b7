//! Limits of actions on many objects.

/// Maximum number of runs per bulk operation that is done within the request.
pub const BULK: u64 = 1_000;
/// Maximum number of targets of a bulk action.
pub const BULK_TARGETS: u64 = 100_000;
/// Maximum number of open bulk actions of one org.
pub const BULK_OPEN: u64 = 100;
/// Number of targets of a bulk action that are dealt with in one turn.
pub const BULK_CHUNK: u64 = 100;
/// Maximum number of targets that a dry run of a bulk action checks.
pub const BULK_CHECKED: u64 = 1_000;
/// Maximum number of refused targets that a dry run of a bulk action names.
pub const BULK_SAMPLE: usize = 20;

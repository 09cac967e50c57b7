//! Limits of actions on many objects, and of erasures, which look through all tables.

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
/// Maximum number of names and addresses by which an erased person is found.
pub const ERASED_WORDS: usize = 100;
/// Minimum length of a full name or address by which an erased person is found in texts; single words
/// have three characters more.
pub const ERASED_WORD_CHARS: usize = 5;
/// Maximum size of the compiled search for an erased person, in bytes.
pub const ERASED_PATTERN_BYTES: usize = 64 * 1024 * 1024;

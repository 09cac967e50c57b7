//! Limits of what a node keeps in memory: for several readers, and of bodies on their way.

/// Number of items of a shared subscription kept for subscribers that lag a little.
pub const SHARED_KEPT: usize = 256;
/// Maximum size of the items kept there, in bytes, besides the newest.
pub const SHARED_BYTES: usize = 1024 * 1024;
/// Size up to which they are kept even while their key holds much, in bytes.
pub const SHARED_LEAST_BYTES: usize = 8 * 1024;
/// Part of its memory from which a key, or an org, holds much: one half.
pub const MUCH_HELD: usize = 2;
/// Size of an org's reserve for its keys that hold little while its memory is full, as a multiple of
/// a response's limit …
pub const RESERVE_ANSWERS: usize = 1;
/// … and the part of such a limit that a key may hold to have room there.
pub const RESERVE_PARTS: usize = 8;
/// Size from which the payload of a server-sent event is shared by its readers, not copied, in
/// bytes.
pub const SHARED_PAYLOAD_BYTES: usize = 1024;
/// Size from which work on a text or value leaves the async threads, in bytes.
pub const LARGE_BYTES: usize = 256 * 1024;
/// Size from which a request is parsed and planned on the evaluation threads, in turns by org, in
/// bytes.
pub const TURN_BYTES: usize = 8 * 1024;
/// Size from which a document that is not known yet is parsed and validated in the same way, in
/// bytes.
pub const NEW_DOCUMENT_BYTES: usize = 512;
/// Memory of a request's document and variables up to which it is not charged, in bytes.
pub const INPUT_FREE_BYTES: usize = 32 * 1024;
/// Memory of a field while its node is resolved, in bytes: its future and its context, besides its
/// row and its value, which are counted on their own. A response of 157,000 fields was measured to
/// take 760 bytes for each, all together.
pub const FIELD_BYTES: usize = 400;
/// Size up to which a socket's copy of a response is not counted, in bytes.
pub const COPY_FREE_BYTES: usize = 16 * 1024;
/// Approximate number of runs whose snapshot is cached in memory.
pub const SNAPSHOTS_CACHED: usize = 1_000;
/// Total size of the cached snapshots, as they are parsed, in bytes.
pub const SNAPSHOTS_BYTES: u64 = 48 * 1024 * 1024;
/// Maximum number of an org's newest events that a node keeps in memory for its followers.
pub const RING: usize = 4_096;
/// Maximum size of the events of one org there, in bytes.
pub const RING_BYTES: usize = 8 * 1024 * 1024;
/// Maximum size of the events of all orgs there, in bytes …
pub const RINGS_BYTES: usize = 32 * 1024 * 1024;
/// … beyond which each org keeps this much of its newest, in bytes.
pub const RING_LEAST_BYTES: usize = 128 * 1024;
/// Size of what a follower reads at once from the database, in bytes.
pub const FOLLOW_BYTES: usize = 128 * 1024;

/// Maximum size of bodies and messages in memory, of all addresses together, in bytes.
pub const LOAD_BYTES: usize = 32 * 1024 * 1024;
/// Maximum size of bodies and messages in memory, of one address, in bytes.
pub const LOAD_BYTES_EACH: usize = 8 * 1024 * 1024;
/// Maximum size of bodies and messages in memory, of one key, in bytes.
pub const LOAD_BYTES_OF_KEY: usize = LOAD_BYTES / 4;
/// Maximum size of bodies and messages in memory, of one org, in bytes.
pub const LOAD_BYTES_OF_ORG: usize = LOAD_BYTES / 2;
/// Share of each of these bounds that is reserved for small bodies and messages: one eighth.
pub const LOAD_RESERVED: usize = 8;
/// Maximum size of a small body or message, in bytes.
pub const LOAD_SMALL_BYTES: usize = 64 * 1024;
/// Size below which a body or message is not counted there, in bytes.
pub const LOAD_FREE_BYTES: usize = 4 * 1024;

/// Maximum size of a step's result as it is parsed, in bytes: nested objects take a hundred times as
/// much as their text.
pub const RESULT_PARSED_BYTES: usize = 2 * 1024 * 1024;
/// Maximum size of the results that the texts of one step refer to, as they are parsed, in bytes.
pub const RESULTS_PARSED_BYTES: usize = 4 * 1024 * 1024;
/// Size of the results, as texts, that are read at once for a batch of steps, in bytes.
pub const RESULTS_READ_BYTES: usize = 16 * 1024 * 1024;
/// Maximum number of results that are looked up at once for a batch of steps.
pub const RESULTS_LOOKED_UP: usize = 50_000;
/// Maximum size of an API's response as it is parsed, in bytes.
pub const CALL_PARSED_BYTES: usize = 32 * 1024 * 1024;

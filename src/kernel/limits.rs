//! All limits of the server, each defined once.

mod bulk;
mod definitions;
mod memory;

pub use bulk::*;
pub use definitions::*;
pub use memory::*;

use std::time::Duration;

/// Default number of items per page.
pub const PAGE_DEFAULT: usize = 50;
/// Maximum length of the name of a raised event, in bytes.
pub const EVENT_NAME_BYTES: usize = 80;
/// Maximum number of stages in a pipeline.
pub const STAGES: usize = 100;
/// Length of a note's summary, in characters.
pub const SUMMARY_CHARS: usize = 120;
/// Number of days ahead to search for a free time.
pub const SLOT_DAYS: i64 = 28;
/// Maximum number of meetings to check for a conflict.
pub const CONFLICTS: u64 = 1_000;
/// Maximum length of a meeting, in minutes.
pub const MEETING_MINUTES: i64 = 24 * 60;
/// Maximum length of a text in the input, in bytes, unless its field has a lower limit.
pub const GATE_TEXT_BYTES: usize = 1024 * 1024;
/// Maximum nesting of input objects in a literal or variable; filters may have 8 levels.
pub const INPUT_LEVELS: usize = 24;
/// Maximum length of a list in the input, unless its field has a lower limit.
pub const LIST_ITEMS: usize = 10_000;
/// Maximum size of a request's variables in bytes, each counted as often as it is used.
pub const EXPANDED_BYTES: usize = 16 * 1024 * 1024;
/// Maximum length of a name in a document, in characters: errors repeat names.
pub const DOCUMENT_NAME_CHARS: usize = 256;
/// Memory of document and variables, in bytes, that counts as one subscription of its key.
pub const SUBSCRIPTION_BYTES: usize = 32 * 1024;
/// Maximum length of an operation's id on a WebSocket or an SSE stream, in bytes.
pub const OPERATION_ID_BYTES: usize = 256;
/// Maximum number of errors reported for a rejected request.
pub const REPORTED_ERRORS: usize = 20;
/// Maximum length of an error message in a response, in characters.
pub const ERROR_MESSAGE_CHARS: usize = 2_000;
/// Maximum number of items in all lists of a request; SQLite takes 32,766 parameters.
pub const REQUEST_ITEMS: usize = 25_000;
/// Maximum length of a search text, in characters; SQLite takes patterns of 50,000 bytes.
pub const SEARCH_CHARS: usize = 1_000;
/// Maximum nesting of a JSON value in the input; serde_json itself reads 128.
pub const GATE_JSON_DEPTH: usize = 64;
/// Maximum number of items per page.
pub const PAGE_MAX: usize = 500;
/// Number of rows per chunk of a sweep, an import or the event reader.
pub const CHUNK: u64 = 500;
/// Maximum number of values written into a statement one by one; longer lists are one parameter.
pub const LISTED: usize = 8;
/// Maximum size of a GraphQL request's body, in bytes.
pub const BODY_BYTES: usize = 1024 * 1024;
/// Size from which an incomplete request head is rejected, and bound of the body read ahead, in bytes.
pub const HEAD_BYTES: usize = 32 * 1024;
/// Time that a peer may leave sent data unacknowledged.
pub const PEER_GONE: Duration = Duration::from_secs(40);
/// Minimum rate of a request body after its initial time, in bytes per second.
pub const BODY_RATE: u64 = 8 * 1024;
/// Maximum number of bytes that a socket may send before authenticating.
pub const SOCKET_UNKNOWN_BYTES: usize = 32 * 1024;
/// Time to keep reading from a closing connection, so that the client gets its last response.
pub const LINGER: Duration = Duration::from_secs(1);
/// Maximum number of bytes discarded meanwhile.
pub const LINGER_BYTES: usize = 4 * 1024 * 1024;
/// File descriptors reserved for the database, the outbox, mail servers and calls.
pub const FILES_RESERVED: u64 = 256;
/// Number of file descriptors requested where the system sets no limit.
pub const FILES_MOST: u64 = 1_048_576;
/// Interval of log lines about rejected connections.
pub const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Pause after a failed accept.
pub const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(200);
/// Maximum size of a GraphQL document, in bytes.
pub const DOCUMENT_BYTES: usize = 64 * 1024;
/// Maximum nesting of brackets in a document; the parser is recursive.
pub const DOCUMENT_NESTING: usize = 64;
/// Number of documents cached by hash for automatic persisted queries.
pub const DOCUMENTS_KEPT: usize = 512;
/// Approximate number of parsed documents in the cache.
pub const PARSED_KEPT: usize = 1_000;
/// Maximum memory of cached parsed documents, in bytes, by their weight.
pub const PARSED_BYTES: u64 = 32 * 1024 * 1024;
/// Maximum size of a document that is cached parsed, in bytes.
pub const PARSED_LONGEST: usize = 16 * 1024;
/// Maximum number of variables of an operation.
pub const VARIABLES: usize = 500;
/// Maximum depth of a query; GraphiQL's introspection needs 15.
pub const QUERY_DEPTH: usize = 18;
/// Maximum complexity of a query: fields times list lengths; expensive fields count more.
pub const QUERY_COMPLEXITY: usize = 200_000;
/// Upper bound of any computed complexity, so that products and sums can't overflow.
pub const QUERY_COMPLEXITY_MAX: usize = 1_000_000_000;
/// Maximum nesting of selections and fragments in execution.
pub const QUERY_RECURSION: usize = 32;
/// Maximum number of directives in a document, with fragments expanded.
pub const QUERY_DIRECTIVES: usize = 100;
/// Maximum number of fields and fragments in a document, with fragments expanded.
pub const QUERY_SELECTIONS: usize = 5_000;
/// Maximum number of aliases in a document, with fragments expanded.
pub const QUERY_ALIASES: usize = 200;
/// Maximum number of root fields per operation.
pub const QUERY_ROOTS: usize = 50;
/// Time for which a verified key or token is trusted on a node that did not revoke it itself.
pub const AUTH_CACHE_TIME: Duration = Duration::from_secs(5);
/// Number of keys and tokens whose principals are cached.
pub const AUTH_CACHE_SIZE: usize = 10_000;
/// Tolerance for the times in a token.
pub const TOKEN_LEEWAY: Duration = Duration::from_secs(30);
/// Interval of fetching an identity provider's keys.
pub const JWKS_KEPT: Duration = Duration::from_secs(600);
/// Minimum time between two fetches of an identity provider's keys.
pub const JWKS_MIN_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum number of an identity provider's keys with one id that are tried for a token.
pub const JWKS_SAME_ID: usize = 4;
/// Time for which fetched keys remain valid while the identity provider is unreachable.
pub const JWKS_STALE: Duration = Duration::from_secs(24 * 3600);
/// Time that a request waits for a fetch, from its start.
pub const JWKS_WAIT: Duration = Duration::from_secs(3);
/// Maximum pause between two failing fetches.
pub const JWKS_PAUSE_MOST: Duration = Duration::from_secs(60);
/// Maximum length of a key or token, in bytes.
pub const CREDENTIAL_BYTES: usize = 16 * 1024;
/// Maximum failed authentications of an address per window; then only cached credentials pass.
pub const FAILED_LOGINS: u32 = 20;
/// Length of that window.
pub const FAILED_LOGINS_WINDOW: chrono::Duration = chrono::Duration::seconds(60);
/// Number of addresses whose failed authentications are counted one by one.
pub const FAILING_ADDRESSES: usize = 10_000;
/// Maximum failed authentications per window of all other addresses, with the same effect.
pub const FAILED_LOGINS_OTHERS: u32 = 1_000;
/// Number of addresses with failed authentications in the log per window; others are summed up.
pub const FAILING_TOLD: usize = 100;
/// Timeout of fetching an identity provider's keys.
pub const JWKS_TIME: Duration = Duration::from_secs(5);
/// Maximum length of a text in the audit's copy of a mutation's input, in characters.
pub const AUDIT_CHARS: usize = 200;
/// Maximum number of items or fields in the audit's copy of a mutation's input.
pub const AUDIT_ITEMS: usize = 50;
/// Maximum number of concurrent HTTP imports of one key.
pub const IMPORTS_OF_KEY: usize = 2;
/// Maximum number of concurrent HTTP imports of one org.
pub const IMPORTS_OF_ORG: usize = 4;
/// Maximum number of concurrent HTTP imports in total.
pub const IMPORTS: usize = 16;
/// Maximum number of problems in the response to an import; its report has all that are stored.
pub const IMPORT_PROBLEMS_TOLD: usize = 100;
/// Response time of the database beyond which the server is not ready.
pub const READY_TIME: Duration = Duration::from_secs(2);
/// Time for which a browser may cache the allowed origins (CORS).
pub const CORS_AGE: Duration = Duration::from_secs(3600);
/// Maximum number of dependents that a rejected delete names.
pub const USES_SHOWN: u64 = 5;
/// Timeout of a query: longer than the pool waits for a connection (30 s), so that an unreachable
/// database is reported as an internal failure, not as a query that is too expensive.
pub const QUERY_TIME: Duration = Duration::from_secs(40);
/// Maximum number of objects requested by id at once.
pub const NODES: usize = 100;
/// Maximum length of a name, in characters.
pub const NAME_CHARS: usize = 200;
/// Maximum length of a description, instructions or a reason, in characters.
pub const TEXT_CHARS: usize = 10_000;
/// Maximum size of a template's source, in bytes.
pub const TEMPLATE_BYTES: usize = 64 * 1024;
/// Maximum size of a rendered text, in bytes.
pub const RENDERED_BYTES: usize = 256 * 1024;
/// Maximum total size of the texts of one preview, in bytes.
pub const PREVIEWED_BYTES: usize = 16 * 1024 * 1024;
/// Maximum length of a rendered subject, in characters.
pub const SUBJECT_CHARS: usize = 500;
/// Maximum length of a reply's subject, in characters.
pub const REPLY_SUBJECT_CHARS: usize = 2_000;
/// Maximum size of a mail header that refers to other mails, in bytes.
pub const HEADER_BYTES: usize = 64 * 1024;
/// Maximum number of Message-IDs of such a header that are looked up.
pub const THREAD_IDS: usize = 200;
/// Fuel of one rendering (minijinja; an instruction burns about one).
pub const RENDER_FUEL: u64 = 50_000;
/// Maximum size of a campaign's variables or a record's attributes, as JSON, in bytes.
pub const ATTRIBUTES_BYTES: usize = 16 * 1024;
/// Maximum number of records added to a segment's fixed list at once.
pub const LIST_RECORDS: usize = 10_000;
/// Maximum total number of conditions in a record filter.
pub const FILTER_CONDITIONS: usize = 100;
/// Maximum total number of segments in a record filter.
pub const FILTER_SEGMENTS: usize = 20;
/// Maximum length of a search text after folding, in bytes.
pub const SEARCH_BYTES: usize = 20_000;
/// Maximum nesting of a filter.
pub const FILTER_DEPTH: usize = 8;
/// Maximum number of recipients of a test run.
pub const TEST_RECIPIENTS: usize = 20;
/// Maximum number of sample records of a test run or a preview.
pub const TEST_SAMPLE: usize = 20;
/// Maximum length of a line of an import, in bytes.
pub const IMPORT_LINE_BYTES: usize = 64 * 1024;
/// Maximum length of a cell that is kept of a longer line, in bytes.
pub const IMPORT_LONG_LINE_CELL_BYTES: usize = 2 * 1024;
/// Maximum number of columns of an import.
pub const IMPORT_COLUMNS: usize = 1_000;
/// Number of rows of an import from which the types of its columns are inferred.
pub const IMPORT_SAMPLE_ROWS: usize = 1_000;
/// Memory of an import for its file, in bytes, besides a line.
pub const IMPORT_HELD_BYTES: usize = 4 * 1024 * 1024;
/// Time without progress after which an import counts as abandoned; longer than a body's timeout.
pub const IMPORT_SILENT: chrono::Duration = chrono::Duration::minutes(10);
/// Maximum number of warnings that an import stores.
pub const IMPORT_WARNINGS: usize = 100;
/// Maximum number of problems that an import stores; further ones are only counted.
pub const IMPORT_PROBLEMS: i64 = 10_000;
/// Length from which a message's words, and its quotations, are shortened, in characters.
pub const QUOTED_CHARS: usize = 100;
/// Maximum length of a quoted value in a message, in characters.
pub const SHOWN_CHARS: usize = 80;
/// Consecutive lapses of an external worker's lease, after which the step fails with LEASE_LOST.
pub const LAPSES: i32 = 20;
/// Consecutive crashes or hangs of our process on a step before it is set aside with POISONED.
pub const CRASHES: i32 = 5;
/// Consecutive crashes after which a step is claimed alone, so that it can't affect others.
pub const CRASHES_IN_BATCH: i32 = 2;
/// Number of messages per batch of the outbox.
pub const OUTBOX_BATCH: u64 = 64;
/// Number of messages handed to an SMTP server at once, and of its connections.
pub const SMTP_BATCH: u32 = 8;
/// Consecutive recipients that a channel rejects temporarily, after which the channel is paused.
pub const CHANNEL_REFUSALS: usize = 10;
/// First retry delay of a paused channel; doubled each time.
pub const CHANNEL_PROBE_DELAY: chrono::Duration = chrono::Duration::seconds(15);
/// Maximum retry delay of a paused channel.
pub const CHANNEL_PROBE_DELAY_MAX: chrono::Duration = chrono::Duration::minutes(10);
/// First retry delay of a temporarily rejected message; doubled each time.
pub const MAIL_RETRY_DELAY: chrono::Duration = chrono::Duration::minutes(1);
/// Maximum retry delay of a message.
pub const MAIL_RETRY_DELAY_MAX: chrono::Duration = chrono::Duration::minutes(30);
/// Time for which connections stay at the number that a mail server has allowed.
pub const SMTP_NARROW: Duration = Duration::from_secs(600);
/// Time in which an idle connection reveals that the mail server has closed it.
pub const SMTP_STALE: Duration = Duration::from_secs(1);
/// Time for which an idle SMTP connection is kept.
pub const SMTP_IDLE: Duration = Duration::from_secs(30);
/// Time for which settling finished work is retried while the database is unreachable.
pub const SETTLE_RETRY_TIME: Duration = Duration::from_secs(120);
/// Time for running work to settle when the server stops.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// Maximum number of steps per claim of other work.
pub const WORK_BATCH: u64 = 200;
/// Failures of a built-in workflow step, after which it is given up.
pub const ATTEMPTS: i32 = 5;
/// First backoff after a failure, doubled each time.
pub const BACKOFF_BASE: Duration = Duration::from_secs(2);
/// Maximum backoff.
pub const BACKOFF_MAX: Duration = Duration::from_secs(600);
/// Retry delay after the database was unreachable.
pub const UNREACHABLE_RETRY_DELAY: chrono::Duration = chrono::Duration::seconds(1);
/// Maximum backoff of work that fails repeatedly.
pub const STUCK_MOST: chrono::Duration = chrono::Duration::minutes(10);
/// Consecutive failures from which work counts as stuck.
pub const STUCK_FAILURES: i32 = 3;
/// Maximum number of stuck work items that `/readyz` names; all are counted.
pub const STUCK_SHOWN: u64 = 10;
/// Time after its due retry, after which work that nobody retries is deleted.
pub const STUCK_KEPT: chrono::Duration = chrono::Duration::hours(1);
/// Delay of an idle loop after a commit, to collect more work.
pub const COLLECT_DELAY: Duration = Duration::from_millis(10);
/// Delay of the sequencer after a commit, to number more events at once.
pub const SEQUENCER_COLLECT_DELAY: Duration = Duration::from_millis(2);
/// Polling interval of loops and followers that nothing wakes.
pub const POLL: Duration = Duration::from_secs(1);
/// Maximum number of WebSocket messages queued for a slow reader.
pub const SOCKET_QUEUE: usize = 32;
/// Maximum number of items of one subscription in that queue, and of answers to the client's messages.
pub const SOCKET_TURNS: usize = 2;
/// Burst of execution time of live queries for a key or an org …
pub const LIVE_AT_ONCE: Duration = Duration::from_secs(1);

/// … and the sustained rate, as a share of the machine: of a key …
pub const LIVE_OF_KEY: f64 = 0.5;

/// … and of an org.
pub const LIVE_OF_ORG: f64 = 0.75;

/// Maximum size of a WebSocket message from a client, in bytes.
pub const SOCKET_MESSAGE_BYTES: usize = BODY_BYTES;
/// Maximum size of a graphql-transport-ws ping, in bytes.
pub const PING_BYTES: usize = 1024;
/// Maximum number of subscriptions per socket.
pub const SOCKET_STREAMS: usize = 100;
/// Maximum number of events of an SSE stream queued for a slow reader.
pub const STREAM_QUEUE: usize = 2;
/// Timeout of one write to a connection.
pub const SOCKET_WRITE: Duration = Duration::from_secs(15);
/// Minimum time between two items of a coalesced stream.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(300);
/// Minimum time between two reads of a live list.
pub const LIST_EVERY: Duration = Duration::from_millis(250);
/// Retention of idempotency keys.
pub const IDEMPOTENCY_KEPT: chrono::Duration = chrono::Duration::days(7);
/// Time whose unused rate an idle channel may use at once.
pub const RATE_CATCH_UP: chrono::Duration = chrono::Duration::seconds(1);
/// Maximum number of events that a follower reads at once.
pub const FOLLOW_CHUNK: usize = 100;
/// Time that a subscription's item may wait for a slow reader before the subscription is ended.
pub const SOCKET_SLOW: Duration = Duration::from_secs(5);
/// Interval of housekeeping.
pub const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(60);
/// Maximum size of a condition's source, in bytes.
pub const CONDITION_BYTES: usize = 4 * 1024;
/// Maximum size of a JSON Schema, in bytes.
pub const SCHEMA_BYTES: usize = 64 * 1024;
/// Maximum size of a manifest in bytes: the export of an org with some thousand templates. GraphQL
/// takes less, by the limit of its requests.
pub const MANIFEST_BYTES: usize = 16 * 1024 * 1024;
/// Maximum number of concurrent changes by requests of one org on Postgres; on SQLite it is one.
pub const WRITERS_PER_ORG: usize = 3;
/// Maximum number of values in a YAML document, including lists and maps.
pub const YAML_PARTS: usize = 500_000;
/// Maximum length of a field's name in YAML, in bytes.
pub const YAML_NAME_BYTES: usize = 256;
/// Default timeout of an API call by a step.
pub const CALL: Duration = Duration::from_secs(30);
/// Maximum timeout of an API call by a step.
pub const CALL_MOST: Duration = Duration::from_secs(120);
/// Maximum size of an API's response, in bytes.
pub const CALL_BYTES: usize = 1024 * 1024;
/// Maximum size of an agent's context (a GraphQL selection), in bytes.
pub const CONTEXT_BYTES: usize = 8 * 1024;
/// Maximum number of API calls per claim, executed concurrently.
pub const CALL_BATCH: u64 = 32;
/// Maximum Retry-After of an external API that is honored.
pub const RETRY_AFTER_MOST: Duration = Duration::from_secs(3600);
/// Maximum size of a step's result, in bytes.
pub const RESULT_BYTES: usize = 64 * 1024;
/// Maximum number of steps that an external worker claims, renews or settles at once.
pub const CLAIM_MAX: u64 = 500;
/// Maximum number of queue scans per claim for steps that match a filter.
pub const CLAIM_SCANS: usize = 20;
/// Allowed lease of an external worker, in seconds.
pub const CLAIM_LEASE_SECONDS: std::ops::RangeInclusive<i32> = 1..=3600;
/// Maximum size of a step's result in its event, in bytes.
pub const EVENT_RESULT_BYTES: usize = 4 * 1024;
/// Number of compiled conditions in the cache, and of schemas.
pub const CONDITIONS_KEPT: usize = 1_000;
/// Number of connections for requests' reads on SQLite.
pub const LANES_SQLITE: usize = 4;
/// Number of connections for requests' reads on Postgres.
pub const LANES_POSTGRES: usize = 12;
/// Time that a request's statement waits for a connection before it is rejected.
pub const LANE_PATIENCE: Duration = Duration::from_secs(10);
/// Interval at which a waiting statement checks if its org needs room.
pub const LANE_WAIT: Duration = Duration::from_millis(100);
/// Time that a statement may run while an org without a running statement waits.
pub const LANE_TIME: Duration = Duration::from_millis(500);
/// Maximum number of waiting statements per key.
pub const WAITING_PER_KEY: usize = 2_048;
/// Instructions of SQLite's virtual machine between two checks for an interrupt; about 0.1 ms.
pub const PROGRESS_STEPS: i32 = 5_000;
/// Timeout of a statement in a request's transaction on Postgres.
pub const WRITE_STATEMENT: Duration = Duration::from_secs(60);
/// Timeout of a statement of the engine on Postgres.
pub const INTERNAL_STATEMENT: Duration = Duration::from_secs(600);
/// Maximum size of the rows that a request reads, as a multiple of its response's limit.
pub const READ_PER_ANSWER: usize = 4;
/// Maximum size of a response's values, as a multiple of its limit: nested values count twice.
pub const MADE_PER_ANSWER: usize = 3;
/// Maximum memory of one key's running requests, as a multiple of a response's limit.
pub const ANSWERS_PER_KEY: usize = 6;
/// Maximum memory of one org's running requests, as a multiple of a response's limit.
pub const ANSWERS_PER_ORG: usize = 10;
/// Delay after which a temporarily rejected client should retry.
pub const RETRY_AFTER: Duration = Duration::from_secs(2);
/// Maximum size of the audit's copy of an input, in bytes.
pub const AUDIT_BYTES: usize = 4 * 1024;
/// Number of one key's rejections per minute that the audit records one by one.
pub const AUDIT_REFUSALS: usize = 20;
/// Maximum number of entries for further rejections of one key per minute.
pub const AUDIT_KINDS: usize = 20;
/// Period over which rejections are counted.
pub const AUDIT_MINUTE: chrono::Duration = chrono::Duration::minutes(1);
/// Default retention of the audit, in days.
pub const AUDIT_DAYS: u32 = 365;
/// Maximum number of chunks of old audit entries that one run deletes.
pub const AUDIT_FORGET_PIECES: usize = 20;

/// Tolerated clock difference: events reported for a later time have not happened yet.
pub const CLOCKS_APART: chrono::Duration = chrono::Duration::minutes(5);

/// Time after which a running step is listed among what its run waits for.
pub const IN_HAND: chrono::Duration = chrono::Duration::seconds(10);

/// Work items of one org that an engine loop takes before it looks at other orgs.
pub const PER_ORG_AND_TURN: i64 = 8;

/// Approximate limit of an introspection result, in fields: enough for the whole schema, twice.
pub const INTROSPECTION: usize = 75_000;

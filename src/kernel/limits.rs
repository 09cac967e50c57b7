//! Every bound, once.

mod definitions;

pub use definitions::*;

use std::time::Duration;

/// Items of a page when nothing is said.
pub const PAGE_DEFAULT: usize = 50;
/// The name of an event that somebody raises, in bytes.
pub const EVENT_NAME_BYTES: usize = 80;
/// Stages of a pipeline.
pub const STAGES: usize = 100;
/// A note's summary, in characters.
pub const SUMMARY_CHARS: usize = 120;
/// For how many days ahead a free time is looked for.
pub const SLOT_DAYS: i64 = 28;
/// Meetings that are looked at for one that is at the same time.
pub const CONFLICTS: u64 = 1_000;
/// A meeting, in minutes, at most.
pub const MEETING_MINUTES: i64 = 24 * 60;
/// A text that comes in, in bytes, where no field says less.
pub const GATE_TEXT_BYTES: usize = 1024 * 1024;
/// Input objects within each other, of a literal or a variable; filters may have 8 levels.
pub const INPUT_LEVELS: usize = 24;
/// Items of one list that comes in, where no field says less.
pub const LIST_ITEMS: usize = 10_000;
/// The bytes that the variables of a request may come to, each counted as often as it is used.
pub const EXPANDED_BYTES: usize = 16 * 1024 * 1024;
/// The characters of a name in a document: errors repeat names.
pub const DOCUMENT_NAME_CHARS: usize = 256;
/// The bytes of document and variables for which a subscription takes one place among those of its key.
pub const SUBSCRIPTION_BYTES: usize = 16 * 1024;
/// The bytes of the id by which a client of a socket calls an operation.
pub const OPERATION_ID_BYTES: usize = 256;
/// Errors that are told of a request that was not begun.
pub const TOLD_ERRORS: usize = 20;
/// The characters of an error's message that are told.
pub const TOLD_CHARS: usize = 2_000;
/// Items of all lists of one request together; SQLite takes 32,766 parameters.
pub const REQUEST_ITEMS: usize = 25_000;
/// A text that is searched for, in characters; SQLite takes patterns of 50,000 bytes.
pub const SEARCH_CHARS: usize = 1_000;
/// Levels of a JSON value that comes in; serde_json itself reads 128.
pub const GATE_JSON_DEPTH: usize = 64;
/// Items of a page at most.
pub const PAGE_MAX: usize = 500;
/// Rows that a sweep, an import or the event reader takes at once.
pub const CHUNK: u64 = 500;
/// Values that are written into a statement one by one; longer lists are one parameter.
pub const LISTED: usize = 8;
/// A GraphQL request's body, in bytes.
pub const BODY_BYTES: usize = 1024 * 1024;
/// A request's head, and what of a body is read ahead, in bytes.
pub const HEAD_BYTES: usize = 32 * 1024;
/// How long a peer may leave unacknowledged what was sent to it.
pub const PEER_GONE: Duration = Duration::from_secs(40);
/// Bytes of bodies and messages that are under way and in memory, of all addresses together.
pub const LOAD_BYTES: usize = 32 * 1024 * 1024;
/// The same, of one address.
pub const LOAD_BYTES_EACH: usize = 8 * 1024 * 1024;
/// Bytes of one body or message that are not counted there.
pub const LOAD_FREE_BYTES: usize = 4 * 1024;
/// The rate at which a body must come once its first time is over, in bytes a second.
pub const BODY_RATE: u64 = 8 * 1024;
/// Bytes that a socket may send before it has said who it is.
pub const SOCKET_UNKNOWN_BYTES: usize = 32 * 1024;
/// The time for which a connection that ends is still read from, so that the client gets its last answer.
pub const LINGER: Duration = Duration::from_secs(1);
/// Bytes that are thrown away meanwhile.
pub const LINGER_BYTES: usize = 4 * 1024 * 1024;
/// Open files that are kept back from connections: for the database, the outbox, mail servers, calls.
pub const FILES_KEPT_BACK: u64 = 256;
/// Open files that are asked for where the system sets no limit.
pub const FILES_MOST: u64 = 1_048_576;
/// How often connections that are turned away are told of in the log.
pub const TOLD_EVERY: Duration = Duration::from_secs(10);
/// How long connections are not taken when one could not be.
pub const ACCEPT_AGAIN: Duration = Duration::from_millis(200);
/// A GraphQL document, in bytes.
pub const DOCUMENT_BYTES: usize = 64 * 1024;
/// Brackets of a document within each other; the parser follows them by recursion.
pub const DOCUMENT_NESTING: usize = 64;
/// Documents that are kept by their hash for automatic persisted queries.
pub const DOCUMENTS_KEPT: usize = 512;
/// Documents that are kept parsed, about so many.
pub const PARSED_KEPT: usize = 1_000;
/// Documents that are kept parsed, all together, in bytes of their text; parsed they take some twenty times as much.
pub const PARSED_BYTES: u64 = 2 * 1024 * 1024;
/// The longest document that is kept parsed, in bytes.
pub const PARSED_LONGEST: usize = 16 * 1024;
/// Items of a shared subscription that are kept for followers who are a little behind.
pub const SHARED_KEPT: usize = 256;
/// Runs whose structure and instructions are kept in memory.
pub const BRIEFS_KEPT: usize = 1_000;
/// Depth of a query; GraphiQL's introspection needs 15.
pub const QUERY_DEPTH: usize = 18;
/// Complexity of a query: its fields, those below a list as often as the list may be long, and more for dear ones.
pub const QUERY_COMPLEXITY: usize = 200_000;
/// Complexity that anything is counted as at most, so that products and sums can't overflow.
pub const QUERY_COMPLEXITY_MAX: usize = 1_000_000_000;
/// Nesting of selections and fragments that the executor follows.
pub const QUERY_RECURSION: usize = 32;
/// Directives in a document, its fragments written out.
pub const QUERY_DIRECTIVES: usize = 100;
/// Fields and fragments of a document when every fragment is written out where it is spread.
pub const QUERY_SELECTIONS: usize = 5_000;
/// Aliases of a document, its fragments written out.
pub const QUERY_ALIASES: usize = 200;
/// Root fields of one operation.
pub const QUERY_ROOTS: usize = 50;
/// How long what a key or token says is believed without looking again, on a node that did not revoke it itself.
pub const GUEST_KNOWN: Duration = Duration::from_secs(5);
/// Keys and tokens whose owners are remembered.
pub const GUESTS_KEPT: usize = 10_000;
/// How far a token's times may be off.
pub const TOKEN_LEEWAY: Duration = Duration::from_secs(30);
/// After what time an identity provider's keys are fetched again.
pub const JWKS_KEPT: Duration = Duration::from_secs(600);
/// Least time between two askings for an identity provider's keys.
pub const JWKS_AGAIN: Duration = Duration::from_secs(10);
/// For how long keys that were good serve on while the identity provider is away.
pub const JWKS_STALE: Duration = Duration::from_secs(24 * 3600);
/// How long a request waits for a fetch, from the fetch's beginning on.
pub const JWKS_WAIT: Duration = Duration::from_secs(3);
/// The longest time between two fetches that fail.
pub const JWKS_PAUSE_MOST: Duration = Duration::from_secs(60);
/// A key or token that is shown, in bytes.
pub const CREDENTIAL_BYTES: usize = 16 * 1024;
/// Failed logins of one address within a window, after which nobody new is looked up for it.
pub const FAILED_LOGINS: u32 = 20;
/// That window.
pub const FAILED_LOGINS_WINDOW: chrono::Duration = chrono::Duration::seconds(60);
/// Addresses whose failed logins are counted one by one.
pub const FAILING_ADDRESSES: usize = 10_000;
/// Failed logins of all other addresses within a window, after which nobody new is looked up for them.
pub const FAILED_LOGINS_OTHERS: u32 = 1_000;
/// Addresses with failed logins that the log names in a window; further ones are summed up.
pub const FAILING_TOLD: usize = 100;
/// How long an identity provider may take to show its keys.
pub const JWKS_TIME: Duration = Duration::from_secs(5);
/// Texts of a mutation's input, as the audit keeps them, in characters.
pub const AUDIT_CHARS: usize = 200;
/// Items of a list or parts of an object of a mutation's input, as the audit keeps them.
pub const AUDIT_ITEMS: usize = 50;
/// Imports over HTTP at once, of one key.
pub const IMPORTS_OF_KEY: usize = 2;
/// Imports over HTTP at once, of one org.
pub const IMPORTS_OF_ORG: usize = 4;
/// Imports over HTTP at once, in all.
pub const IMPORTS: usize = 16;
/// Problems that the answer to an import tells; all that are kept are in its report.
pub const IMPORT_PROBLEMS_TOLD: usize = 100;
/// How long the database may take to answer before the server is not ready.
pub const READY_TIME: Duration = Duration::from_secs(2);
/// How long a browser may remember which pages may ask.
pub const CORS_AGE: Duration = Duration::from_secs(3600);
/// How many users of a row a refused delete names.
pub const USES_SHOWN: u64 = 5;
/// How long a query may take: longer than the pool waits for a connection (30 s), so that a database that is away is told
/// as a failure of ours, not as a query that asks too much.
pub const QUERY_TIME: Duration = Duration::from_secs(40);
/// Objects asked for by id at once.
pub const NODES: usize = 100;
/// A name, in characters.
pub const NAME_CHARS: usize = 200;
/// A description, instructions, a reason, in characters.
pub const TEXT_CHARS: usize = 10_000;
/// A template's source, in bytes.
pub const TEMPLATE_BYTES: usize = 64 * 1024;
/// A rendered text, in bytes.
pub const RENDERED_BYTES: usize = 256 * 1024;
/// The texts of one preview together, in bytes.
pub const PREVIEWED_BYTES: usize = 16 * 1024 * 1024;
/// A rendered subject, in characters.
pub const SUBJECT_CHARS: usize = 500;
/// A reply's subject, in characters.
pub const REPLY_SUBJECT_CHARS: usize = 2_000;
/// A mail's header that names other mails, in bytes.
pub const HEADER_BYTES: usize = 64 * 1024;
/// How many Message-IDs of such a header are looked up.
pub const THREAD_IDS: usize = 200;
/// What a rendering may burn (minijinja's fuel; an instruction is about one).
pub const RENDER_FUEL: u64 = 50_000;
/// Variables of a campaign or attributes of a record, as JSON, in bytes.
pub const ATTRIBUTES_BYTES: usize = 16 * 1024;
/// Records on a segment's fixed list, given at once.
pub const LIST_RECORDS: usize = 10_000;
/// Conditions of a record filter, all told.
pub const FILTER_CONDITIONS: usize = 100;
/// A text that is searched for, in bytes when it is folded.
pub const SEARCH_BYTES: usize = 20_000;
/// Nesting of a filter.
pub const FILTER_DEPTH: usize = 8;
/// Recipients of a test run.
pub const TEST_RECIPIENTS: usize = 20;
/// Sample records of a test run or a preview.
pub const TEST_SAMPLE: usize = 20;
/// A line of an import, in bytes.
pub const IMPORT_LINE_BYTES: usize = 64 * 1024;
/// Columns of an import.
pub const IMPORT_COLUMNS: usize = 1_000;
/// Rows of an import from which the types of its columns are told.
pub const IMPORT_SAMPLE_ROWS: usize = 1_000;
/// What an import holds in memory of a file at once, in bytes, beside a line.
pub const IMPORT_HELD_BYTES: usize = 4 * 1024 * 1024;
/// The time that an import may be silent until it counts as given up: longer than a body may take to bring a piece.
pub const IMPORT_SILENT: chrono::Duration = chrono::Duration::minutes(10);
/// Warnings that an import keeps.
pub const IMPORT_WARNINGS: usize = 100;
/// Problems that an import keeps; further ones are only counted.
pub const IMPORT_PROBLEMS: i64 = 10_000;
/// A value as it is shown in a problem, in characters.
pub const SHOWN_CHARS: usize = 80;
/// Lapses in a row of a lease that a worker outside holds, before its step fails with LEASE_LOST.
pub const LAPSES: i32 = 20;
/// Times in a row that a process of ours ends, or hangs, over a step before that is set aside with POISONED.
pub const DEATHS: i32 = 5;
/// Times in a row after which a step is taken up alone, so that it can't take others with it.
pub const DEATHS_IN_COMPANY: i32 = 2;
/// Messages that the outbox takes at once.
pub const OUTBOX_BATCH: u64 = 64;
/// Messages that an SMTP server is handed at once, and its connections.
pub const SMTP_BATCH: u32 = 8;
/// Different recipients that a channel refuses for now, in a row, before it is paused as a whole.
pub const CHANNEL_REFUSALS: usize = 10;
/// When a channel that was paused is tried first; doubled each time.
pub const CHANNEL_AGAIN: chrono::Duration = chrono::Duration::seconds(15);
/// The longest time between two tries of a paused channel.
pub const CHANNEL_AGAIN_MOST: chrono::Duration = chrono::Duration::minutes(10);
/// When a message that was refused for now is tried again; doubled each time.
pub const MAIL_AGAIN: chrono::Duration = chrono::Duration::minutes(1);
/// The longest time between two tries of a message.
pub const MAIL_AGAIN_MOST: chrono::Duration = chrono::Duration::minutes(30);
/// The time for which no more connections are made than a mail server allowed.
pub const SMTP_NARROW: Duration = Duration::from_secs(600);
/// The time in which a kept connection shows that the mail server has ended it.
pub const SMTP_STALE: Duration = Duration::from_secs(1);
/// How long a connection to an SMTP server is kept for the next message.
pub const SMTP_IDLE: Duration = Duration::from_secs(30);
/// How long work that is done is tried to be settled while the database is away.
pub const KEEP: Duration = Duration::from_secs(120);
/// How long the work in hand may take to settle when the server stops.
pub const STOP: Duration = Duration::from_secs(10);
/// Steps that one claim of other work takes.
pub const WORK_BATCH: u64 = 200;
/// Reported failures of a built-in workflow step before it is given up.
pub const ATTEMPTS: i32 = 5;
/// First back-off after a failure, doubled each time.
pub const BACKOFF_BASE: Duration = Duration::from_secs(2);
/// Longest back-off.
pub const BACKOFF_MAX: Duration = Duration::from_secs(600);
/// When work is tried again after the database was away.
pub const AWAY: chrono::Duration = chrono::Duration::seconds(1);
/// Longest pause of work that fails again and again.
pub const STUCK_MOST: chrono::Duration = chrono::Duration::minutes(10);
/// Failures in a row from which on work that fails is a fault, and not a hiccup.
pub const STUCK_FAILURES: i32 = 3;
/// Stuck pieces of work that `/readyz` names; all are counted.
pub const STUCK_SHOWN: u64 = 10;
/// How long after its next try was due work that nobody tries any more is forgotten.
pub const STUCK_KEPT: chrono::Duration = chrono::Duration::hours(1);
/// How long a loop that had nothing to do waits for more, when something was committed, before it looks.
pub const GATHER: Duration = Duration::from_millis(10);
/// How long the sequencer waits for more, when something was committed, before it numbers.
pub const GATHER_NUMBERS: Duration = Duration::from_millis(2);
/// How long a loop or a follower sleeps when nothing wakes it.
pub const POLL: Duration = Duration::from_secs(1);
/// WebSocket messages that wait for a slow reader.
pub const SOCKET_QUEUE: usize = 32;
/// Items of one subscription among those that wait.
pub const SOCKET_TURNS: usize = 2;
/// How much time of live executions a key, or an org, may take at once …
pub const LIVE_AT_ONCE: Duration = Duration::from_secs(1);

/// … and with time, as a share of the machine: of a key …
pub const LIVE_OF_KEY: f64 = 0.5;

/// … and of an org.
pub const LIVE_OF_ORG: f64 = 0.75;

/// A WebSocket message from a client, in bytes.
pub const SOCKET_MESSAGE_BYTES: usize = BODY_BYTES;
/// A ping of graphql-transport-ws, in bytes.
pub const PING_BYTES: usize = 4 * 1024;
/// Subscriptions on one socket.
pub const SOCKET_STREAMS: usize = 100;
/// Events of one SSE stream that wait for a slow reader.
pub const STREAM_QUEUE: usize = 2;
/// How long one write to a connection may take.
pub const SOCKET_WRITE: Duration = Duration::from_secs(15);
/// Least time between two items of a coalesced stream.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(300);
/// How long an idempotency key is kept.
pub const IDEMPOTENCY_KEPT: chrono::Duration = chrono::Duration::days(7);
/// For how long before now a channel that was idle may catch up at once.
pub const RATE_CATCH_UP: chrono::Duration = chrono::Duration::seconds(1);
/// Newest events of an org that a node keeps in memory for its followers.
pub const RING: usize = 4_096;
/// Events that a follower takes at once.
pub const FOLLOW_CHUNK: usize = 100;
/// How long a subscription's next item may wait for a slow reader before the subscription is ended.
pub const SOCKET_SLOW: Duration = Duration::from_secs(5);
/// How often what is kept for a time only is looked through.
pub const FORGET_EVERY: Duration = Duration::from_secs(60);
/// A condition's source, in bytes.
pub const CONDITION_BYTES: usize = 4 * 1024;
/// A JSON Schema, in bytes.
pub const SCHEMA_BYTES: usize = 64 * 1024;
/// A manifest, in bytes: all that an org of some thousand templates exports. GraphQL takes less, by its request's limit.
pub const MANIFEST_BYTES: usize = 16 * 1024 * 1024;
/// Changes that requests of one org have under way at once on Postgres; on SQLite it is one.
pub const WRITERS_PER_ORG: usize = 3;
/// Values of a YAML document, lists and structures among them.
pub const YAML_PARTS: usize = 500_000;
/// A field's name in YAML, in bytes.
pub const YAML_NAME_BYTES: usize = 256;
/// How long a call of an API may take, unless its step says otherwise; and at most.
pub const CALL: Duration = Duration::from_secs(30);
/// The longest that a step may give a call.
pub const CALL_MOST: Duration = Duration::from_secs(120);
/// An API's answer, in bytes.
pub const CALL_BYTES: usize = 1024 * 1024;
/// An agent's context, a GraphQL selection, in bytes.
pub const CONTEXT_BYTES: usize = 8 * 1024;
/// Calls of APIs that one claim takes, side by side.
pub const CALL_BATCH: u64 = 32;
/// The longest that the other side's Retry-After is heeded.
pub const RETRY_AFTER_MOST: Duration = Duration::from_secs(3600);
/// A step's result, in bytes.
pub const RESULT_BYTES: usize = 64 * 1024;
/// Steps that a worker outside claims, renews or settles at once.
pub const TAKE: u64 = 500;
/// How often one claim looks through the queue for steps that a filter admits.
pub const TAKE_LOOKS: usize = 20;
/// How long a worker outside may hold a step before it renews, in seconds.
pub const TAKE_LEASE: std::ops::RangeInclusive<i32> = 1..=3600;
/// Runs that one bulk act may touch.
pub const BULK: u64 = 1_000;
/// A step's result as its event tells it, in bytes.
pub const TOLD_BYTES: usize = 4 * 1024;
/// Conditions, and schemas, that are kept ready.
pub const CONDITIONS_KEPT: usize = 1_000;
/// Connections by which requests read SQLite.
pub const LANES_SQLITE: usize = 4;
/// Connections by which requests read Postgres.
pub const LANES_POSTGRES: usize = 12;
/// The time that a statement of a request waits for its turn before it is refused.
pub const LANE_PATIENCE: Duration = Duration::from_secs(10);
/// How often a statement that waits looks whether room is to be made for its org.
pub const LANE_WAIT: Duration = Duration::from_millis(100);
/// The time that a statement may run while an org that has none under way waits.
pub const LANE_TIME: Duration = Duration::from_millis(500);
/// Statements of one key that wait for their turn.
pub const WAITING_PER_KEY: usize = 2_048;
/// Steps of SQLite's machine between two looks whether a statement is to stop; some 0.1 ms.
pub const PROGRESS_STEPS: i32 = 5_000;
/// The time that a statement of a person's transaction may take on Postgres.
pub const WRITE_STATEMENT: Duration = Duration::from_secs(60);
/// The time that a statement of the engine may take on Postgres.
pub const HOUSE_STATEMENT: Duration = Duration::from_secs(600);
/// Bytes of rows that a request may read, as a multiple of its answer's bound.
pub const READ_PER_ANSWER: usize = 4;
/// Bytes of values that an answer may be made of, as a multiple of its bound: a value is counted with what holds it, too.
pub const MADE_PER_ANSWER: usize = 3;
/// What the requests under way of one key may hold in rows and values, as a multiple of an answer's bound.
pub const ANSWERS_PER_KEY: usize = 6;
/// The same for all keys of an org.
pub const ANSWERS_PER_ORG: usize = 10;
/// When a client that was refused for the moment should ask again.
pub const RETRY_AFTER: Duration = Duration::from_secs(2);
/// An input, as the audit keeps it, in bytes.
pub const AUDIT_BYTES: usize = 4 * 1024;
/// Refusals of one key in a minute that the audit keeps one by one.
pub const AUDIT_REFUSALS: usize = 20;
/// Entries for what comes beyond, of one key in a minute.
pub const AUDIT_KINDS: usize = 20;
/// The time within which refusals are counted together.
pub const AUDIT_MINUTE: chrono::Duration = chrono::Duration::minutes(1);
/// For how many days the audit is kept, unless set.
pub const AUDIT_DAYS: u32 = 365;
/// Pieces of old entries that one look lets go.
pub const AUDIT_FORGET_PIECES: usize = 20;

/// How far clocks may be apart: what is said to have happened later than that has not happened yet.
pub const CLOCKS_APART: chrono::Duration = chrono::Duration::minutes(5);

/// The time after which a step in hand is listed among what its run waits for.
pub const IN_HAND: chrono::Duration = chrono::Duration::seconds(10);

/// Pieces of work of one org that the engine's one loop takes before it looks again at what the others have.
pub const PER_ORG_AND_TURN: i64 = 8;

/// The size of what a document may ask of the schema about itself, in fields, about: enough for the whole of it, twice.
pub const INTROSPECTION: usize = 75_000;

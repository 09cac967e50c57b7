//! Limits of definitions, of the objects created from them, and of the work on them.

use std::time::Duration;

/// Maximum size of the part of an agent's context for one step, in bytes.
pub const CONTEXT_ANSWER_BYTES: usize = 1024 * 1024;
/// Number of steps that a claim takes first, before it knows how large one of them is.
pub const CLAIM_PORTION: u64 = 64;
/// Fraction of a response that a claim's steps may fill: one half, to leave room for the rest.
pub const CLAIM_PER_ANSWER: usize = 2;
/// Maximum concurrent model requests for drafts, and for steps of built-in agents; one org may use
/// half.
pub const MODEL_BATCH: u64 = 24;
/// Interval at which a throttled live execution checks again who owns its costs.
pub const LIVE_LOOK: Duration = Duration::from_millis(250);
/// Maximum size of an event's payload for all its records together, in bytes.
pub const RAISED_BYTES: usize = 256 * 1024;
/// Maximum number of phases, tasks and steps in a structure.
pub const DEFINITION_PARTS: usize = 1_000;
/// Maximum length of the key of a phase, task or step, in characters.
pub const KEY_CHARS: usize = 60;
/// Maximum size of a run's structure as text, in bytes.
pub const DEFINITION_BYTES: usize = 512 * 1024;
/// Maximum number of changes that one layer makes to a structure.
pub const OVERRIDES: usize = 1_000;
/// Maximum number of objects in a manifest.
pub const MANIFEST_ITEMS: usize = 5_000;
/// Maximum number of problems reported for one structure.
pub const PROBLEMS: usize = 500;
/// Maximum number of steps that a run creates: 100,000 recipients with eight each fit, twice.
pub const RUN_STEPS: u64 = 2_000_000;
/// Maximum number of conditions, templates and schemas in one definition.
pub const DEFINITION_TEXTS: usize = 5_000;
/// Maximum number of result schemas in one definition.
pub const DEFINITION_SCHEMAS: usize = 200;
/// Maximum number of templates that one guided work takes its steps from.
pub const START_TEMPLATES: usize = 20;
/// Maximum number of concurrent requests with large introspection; one org has one.
pub const INTROSPECTIONS: usize = 2;
/// Maximum number of requests with large introspection of one key, running and waiting.
pub const INTROSPECTIONS_OF_KEY: usize = 16;
/// Size up to which introspection needs no turn, in fields of the response.
pub const INTROSPECTION_SMALL: usize = 200;
/// Approximate number of responses to introspection in the cache.
pub const INTROSPECTIONS_KEPT: usize = 100;
/// Maximum size of these responses, in bytes: some tens of the whole schema.
pub const INTROSPECTIONS_KEPT_BYTES: u64 = 16 * 1024 * 1024;
/// Maximum number of active and paused schedules per org: the engine scans all that are due.
pub const SCHEDULES_OF_ORG: u64 = 2_000;
/// Maximum number of a schedule's runs that wait for an earlier one; further occurrences are missed.
pub const BUFFERED_RUNS: usize = 1_000;
/// Maximum number of occurrences per backfill of a schedule.
pub const BACKFILL_OCCURRENCES: usize = 100;
/// Maximum number of future occurrences of a schedule that are skipped by name.
pub const SKIPPED_OCCURRENCES: u64 = 100;
/// Maximum number of upcoming occurrences per request.
pub const UPCOMING_OCCURRENCES: i32 = 100;
/// Maximum number of agents per org: the engine asks each built-in agent in turn for its steps.
pub const AGENTS_OF_ORG: u64 = 200;
/// Maximum number of queued runs per org.
pub const QUEUED_RUNS_OF_ORG: u64 = 5_000;
/// Timeout for checking everything that a manifest declares.
pub const MANIFEST_TIME: Duration = Duration::from_secs(30);
/// Maximum number of tags of a campaign.
pub const TAGS: usize = 20;
/// Maximum length of a tag, in characters.
pub const TAG_CHARS: usize = 40;
/// Maximum number of saved views of one member …
pub const SAVED_VIEWS_OF_MEMBER: u64 = 1_000;
/// … and of one org.
pub const SAVED_VIEWS_OF_ORG: u64 = 20_000;
/// Maximum size of a saved view's filter, of its order and of its settings, in bytes each.
pub const SAVED_VIEW_BYTES: usize = 16 * 1024;
/// Maximum number of notes about one run.
pub const NOTES_OF_RUN: u64 = 2_000;
/// Maximum number of links from one record, and of links to it.
pub const LINKS_OF_RECORD: u64 = 2_000;
/// Maximum number of links created with a step's new records at once.
pub const STEP_LINKS: usize = 500;
/// Maximum length of a link's role, in characters.
pub const LINK_ROLE_CHARS: usize = 40;

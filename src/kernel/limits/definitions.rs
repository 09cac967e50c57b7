//! The bounds of definitions, of what is made of them, and of who works at it.

use std::time::Duration;

/// The bound of what an agent's context shows of one step, in bytes.
pub const CONTEXT_ANSWER_BYTES: usize = 1024 * 1024;
/// Steps that a claim takes at first, before it knows how much room one of them needs in the answer.
pub const CLAIM_PORTION: u64 = 64;
/// The part of an answer that a claim's steps may fill: a half, since what is around them has to find room, too.
pub const CLAIM_PER_ANSWER: usize = 2;
/// Drafts, and steps of built-in agents, that the language model is asked for at once, each; one org has half at most.
pub const MODEL_BATCH: u64 = 24;
/// The time after which a live execution that has to wait looks again at who pays for it.
pub const LIVE_LOOK: Duration = Duration::from_millis(250);
/// Phases, tasks and steps of a structure together.
pub const DEFINITION_PARTS: usize = 1_000;
/// A structure of a run, written out, in bytes.
pub const DEFINITION_BYTES: usize = 512 * 1024;
/// Changes of one layer to a structure.
pub const OVERRIDES: usize = 1_000;
/// Things that a manifest declares.
pub const MANIFEST_ITEMS: usize = 5_000;
/// Problems of one structure that are told.
pub const PROBLEMS: usize = 500;
/// Steps that a run makes for its records: 100,000 recipients with eight each go, and twice that.
pub const RUN_STEPS: u64 = 2_000_000;
/// Conditions, templates and schemas of one definition.
pub const DEFINITION_TEXTS: usize = 5_000;
/// Schemas of results in one definition.
pub const DEFINITION_SCHEMAS: usize = 200;
/// Templates from which the steps of one piece of guided work are taken.
pub const START_TEMPLATES: usize = 20;
/// The time that all that a manifest declares may take to be judged.
pub const MANIFEST_TIME: Duration = Duration::from_secs(30);

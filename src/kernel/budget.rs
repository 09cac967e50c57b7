//! Evaluation budgets for user-written templates, CEL, JSON Schema and YAML.
//!
//! Three rules hold for all of them:
//!
//! 1. *No parser gets a text that could overflow its stack.* A non-recursive scan counts tokens,
//!    brackets and chains first; texts that pass are parsed by [`deep`], on a stack of
//!    [`STACK_BYTES`]. Syntax trees are created and dropped there.
//! 2. *Nothing accepted can multiply.* The size of each value is bounded when the text is parsed,
//!    in multiples of its input values: a template or condition that could build more than
//!    [`GROWTH`] times as much, or lists within lists, is rejected. So memory is bounded before
//!    anything is evaluated.
//! 3. *Time ends.* Templates burn fuel by the size of their values (minijinja), conditions burn steps
//!    ([`Steps`]: CEL), and both check the clock; one iteration costs no more than a few passes over
//!    the values. A regular expression takes steps by its own size times that of the text
//!    ([`Pattern`]), without a loop, too. The work of a JSON Schema is counted in advance, and that of
//!    its patterns.
//!
//! Together: evaluation ends at its deadline, except for the current operation, which is linear in
//! bounded values, or one match of a bounded pattern. It runs on threads of its own ([`run`]), a bounded number of them, so that
//! requests, the engine and the pool of blocking threads never wait for it; no org gets more than
//! half of the threads of a kind ([`run_for`]), and an evaluation that overran counts until its
//! thread ends; steps of several orgs are evaluated by each org apart. Large requests are parsed and
//! checked on threads of a third kind. Evaluation within a transaction is bounded by time for conditions
//! ([`Steps`]), and by judgements for the schemas of results ([`JUDGEMENTS`]).

mod conditions;
mod pattern;
mod share;
mod verdict;

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, OnceLock};
use std::thread::{Builder, available_parallelism};
use std::time::{Duration, Instant};

pub use conditions::Conditions;
pub use pattern::{Pattern, schema_positions};
pub use verdict::{HELD, JUDGING, LATE, judging, verdict};

use entity::id::Id;
use share::Share;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use uuid::Uuid;

use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::limits;

/// Stack size of parsers, in bytes.
pub const STACK_BYTES: usize = 16 * 1024 * 1024;
/// Maximum growth of a value relative to the input values.
pub const GROWTH: usize = 16;
/// Maximum nesting of brackets.
pub const NESTING: usize = 24;
/// Maximum number of operators, attributes, filters and calls of one expression: parsers follow
/// such chains by recursion.
pub const CHAIN: usize = 200;
/// Maximum depth of a condition's syntax tree, which is evaluated recursively.
pub const TREE: usize = 64;
/// Maximum nesting of loops.
pub const LOOPS: usize = 4;
/// Maximum nesting of `if`, `elif` and `for`; an `elif` counts as nested in the `if` before it.
pub const BLOCKS: usize = 48;
/// Maximum size of the input values of a condition or a template, in bytes.
pub const VALUES_BYTES: usize = 1024 * 1024;
/// Total bytes of values that a template may pass over; its fuel is derived from it.
pub const LOOP_BYTES: usize = 1_500_000_000;
/// Minimum fuel of a template that joins no values, however large they are; with joins it is less.
pub const FUEL_LEAST: u64 = 5_000;
/// Size of the cache of parsed texts, in bytes of source; parsed, they take up to a hundred times
/// as much.
pub const KEPT_BYTES: u64 = 512 * 1024;
/// Weight of a compiled pattern in these caches, which is many times larger than its text.
pub const KEPT_PATTERN_BYTES: u64 = 4 * 1024;
/// Maximum steps of one condition: iterations of loops, and the work of patterns.
pub const STEPS: u64 = 20_000;
/// Timeout of one condition.
pub const STEPS_TIME: Duration = Duration::from_millis(100);
/// Maximum loop iterations of a condition that is evaluated for each event.
pub const EVENT_STEPS: u64 = 500;
/// Timeout of a condition that is evaluated for each event.
pub const EVENT_TIME: Duration = Duration::from_millis(5);
/// Total timeout of conditions that are evaluated within one transaction and can't be deferred.
pub const ALL_TIME: Duration = Duration::from_secs(3);
/// Maximum total loop iterations of the conditions of one batch.
pub const BATCH_STEPS: u64 = 200_000;
/// Total timeout of the conditions of one batch.
pub const BATCH_TIME: Duration = Duration::from_millis(500);
/// Maximum length of a regular expression, in bytes.
pub const PATTERN_BYTES: usize = 500;
/// Maximum number of positions of a regular expression: the states of its program, where each
/// class counts as one; `.{0,255}` has twice 255.
pub const PATTERN_POSITIONS: usize = 640;
/// Maximum size of a compiled regular expression, in bytes; a `.` takes up to 1.4 KiB each time that
/// it is repeated, and some Unicode classes take 70 KiB.
pub const PATTERN_PROGRAM_BYTES: usize = 512 * 1024;
/// Maximum size of the cache of a match, in bytes.
pub const PATTERN_CACHE_BYTES: usize = 256 * 1024;
/// Maximum length of a text that a regular expression is matched against, in bytes.
pub const MATCHED_BYTES: usize = 64 * 1024;
/// Maximum number of checks that a schema may apply to one part of a value.
pub const SCHEMA_COST: usize = 2_000;
/// Maximum number of checks of one value: checks of the schema times parts of the value; about 10
/// ms.
pub const JUDGEMENTS: usize = 1_000_000;
/// Maximum number of parts of a schema.
pub const SCHEMA_PARTS: usize = 1_000;
/// Maximum nesting of schemas, following references.
pub const SCHEMA_DEPTH: usize = 48;
/// Maximum number of patterns in a schema.
pub const SCHEMA_PATTERNS: usize = 20;
/// Cost of a pattern, in checks.
pub const SCHEMA_PATTERN_COST: usize = 8;
/// Maximum work of a schema's patterns on one value: their positions times the bytes of its texts;
/// less than a second, and 50 ms for usual patterns. One pattern on the largest result takes less
/// than half of it.
pub const SCHEMA_MATCH_WORK: usize = 100_000_000;
/// Bytes of a text that count as one part of a value.
pub const SCHEMA_TEXT_BYTES: usize = 256;
/// Maximum number of parts in which a recursive schema continues at once.
pub const SCHEMA_CYCLE: usize = 100;
/// Maximum number of `unevaluatedProperties` and `unevaluatedItems` in a schema.
pub const SCHEMA_UNEVALUATED: usize = 4;
/// Timeouts of an evaluation for a request, for a step, and of a request's preparation.
const TIMES: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(2)];
/// Timeout of the wait for a thread.
const TURN: Duration = Duration::from_secs(10);
/// Timeout of one among many evaluations in a row.
const ONE: Duration = Duration::from_secs(2);
/// Extra time to wait for an evaluation that runs past its timeout.
const GRACE: Duration = Duration::from_secs(5);

/// The purpose of an evaluation; each has threads of its own, so that previews never delay the
/// engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EvaluationPool {
    /// A request.
    Request,
    /// A step's work.
    Engine,
    /// The preparation of a large request, which never waits for templates.
    Admission,
}

impl EvaluationPool {
    /// Timeout of an evaluation.
    pub fn time(self) -> Duration {
        TIMES[self as usize]
    }

    fn threads(self) -> &'static Semaphore {
        static THREADS: LazyLock<[Semaphore; 3]> = LazyLock::new(|| [(); 3].map(|()| Semaphore::new(threads())));
        &THREADS[self as usize]
    }
}

/// Runs a library on a user's text or value; a panic, as on overflowing numbers, is reported as an
/// error of the text.
pub fn caught<T>(work: impl FnOnce() -> std::result::Result<T, String>) -> std::result::Result<T, String> {
    let failed = |_| Err("can't be evaluated: a number or list exceeds its maximum size".to_owned());
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(failed)
}

/// The error if no thread could be started.
const NO_THREAD: &str = "no thread could be started for parsing";

fn threads() -> usize {
    available_parallelism().map_or(2, usize::from).clamp(2, 8)
}

/// Runs short work on a stack of [`STACK_BYTES`], and waits for it; panics become errors as in
/// [`caught`]. The outer error means that no thread could be started.
pub fn deep<T: Send>(
    work: impl FnOnce() -> std::result::Result<T, String> + Send,
) -> std::result::Result<std::result::Result<T, String>, String> {
    std::thread::scope(|scope| {
        let thread = Builder::new().name("parse".into()).stack_size(STACK_BYTES).spawn_scoped(scope, || caught(work));
        let thread = thread.map_err(|err| format!("{NO_THREAD}: {err}"))?;
        Ok(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// Runs work off the async threads, at most as many jobs at once as there are processors. The work
/// gets its deadline. Errors: LIMIT_EXCEEDED if no thread is free in time, or the work does not
/// end.
pub async fn run<T: Send + 'static>(
    lane: EvaluationPool,
    work: impl FnOnce(Instant) -> T + Send + 'static,
) -> Result<T> {
    run_for(lane, None, work).await
}

/// Like `run`, for an owner who may use half of the threads at once, those of evaluations that
/// overran included. LIMIT_EXCEEDED at once if these are all of them.
pub async fn run_for<T: Send + 'static>(
    lane: EvaluationPool,
    owner: Option<Uuid>,
    work: impl FnOnce(Instant) -> T + Send + 'static,
) -> Result<T> {
    let share = owner.map(|owner| Arc::new(Share::of(lane, owner)));
    if share.as_ref().is_some_and(|share| share.is_overrun()) {
        return Err(busy("evaluations of this org run beyond their time").into());
    }
    let owner_permit = async {
        match share.as_ref().and_then(|share| share.permits()) {
            Some(permits) => Some(permits.acquire_owned().await),
            None => None,
        }
    };
    let owner_permit =
        timeout(TURN, owner_permit).await.map_err(|_| busy("too many evaluations of this org are running"))?;
    let owner_permit = owner_permit.transpose().map_err(Error::internal)?;
    let turn = timeout(TURN, lane.threads().acquire()).await;
    let turn = turn.map_err(|_| busy("the server is busy with other evaluations"))?.map_err(Error::internal)?;
    let (answer, answered) = oneshot::channel();
    let held = share.clone();
    let evaluate = move || {
        let done = catch_unwind(AssertUnwindSafe(|| work(Instant::now() + lane.time())));
        if let Some(share) = &held {
            share.end();
        }
        drop((turn, owner_permit, held));
        // The request may be gone.
        let _ = answer.send(done);
    };
    Builder::new().name("evaluate".into()).stack_size(STACK_BYTES).spawn(evaluate).map_err(Error::internal)?;
    match timeout(lane.time() + GRACE, answered).await {
        Ok(Ok(Ok(done))) => Ok(done),
        Ok(Ok(Err(panic))) => resume_unwind(panic),
        Ok(Err(err)) => Err(Error::internal(err)),
        Err(_) => {
            if let Some(share) = &share {
                share.mark_late();
            }
            Err(busy("the evaluation took too long").into())
        }
    }
}

/// Like `run_for`, for the owner of the current task: a request's org, or the engine.
pub async fn run_here<T: Send + 'static>(work: impl FnOnce(Instant) -> T + Send + 'static) -> Result<T> {
    let org = crate::kernel::cost::current().map(|request| request.owner().org.uuid());
    run_for(if org.is_some() { EvaluationPool::Request } else { EvaluationPool::Engine }, org, work).await
}

/// The rejection of a text that could not be checked in time.
pub fn late(field: &str) -> Refusal {
    let field = field.strip_prefix("input.").unwrap_or(field);
    busy(&format!("{field}: {LATE}")).with("field", serde_json::json!(field))
}

/// Evaluates for many owners in a row, next for the one that has used the least time; each
/// evaluation gets a deadline. None for those that were not reached in time.
pub fn in_turn<K: Ord + Copy, T>(
    owners: &[K],
    end: Instant,
    mut one: impl FnMut(usize, Instant) -> T,
) -> Vec<Option<T>> {
    let mut waiting: BTreeMap<K, (Duration, VecDeque<usize>)> = BTreeMap::new();
    for (i, owner) in owners.iter().enumerate() {
        waiting.entry(*owner).or_default().1.push_back(i);
    }
    let mut all: Vec<Option<T>> = owners.iter().map(|_| None).collect();
    let mut begun = Instant::now();
    // Reserve for the last one.
    let spare = Ord::min(ONE, end.saturating_duration_since(begun) / 5);
    while let Some((spent, indices)) = waiting.values_mut().min_by_key(|(spent, _)| *spent) {
        // The first one always runs.
        if begun + spare > end && all.iter().any(Option::is_some) {
            break;
        }
        let Some(i) = indices.pop_front() else { break };
        all[i] = Some(one(i, Ord::min(begun + ONE, end)));
        let now = Instant::now();
        *spent += now - begun;
        begun = now;
        waiting.retain(|_, (_, indices)| !indices.is_empty());
    }
    all
}

fn busy(problem: &str) -> Refusal {
    Refusal::limit(format!("{problem}; retry in a few seconds"))
        .with("retryAfterSeconds", serde_json::json!(limits::RETRY_AFTER.as_secs()))
}

/// A budget of steps and time; clones share it.
#[derive(Clone, Debug)]
pub struct Steps(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    left: AtomicU64,
    until: OnceLock<Instant>,
    time: Duration,
    spent: AtomicBool,
}

impl Steps {
    fn of(steps: u64, time: Duration) -> Self {
        let (left, spent) = (AtomicU64::new(steps), AtomicBool::new(false));
        Self(Arc::new(Shared { left, until: OnceLock::new(), time, spent }))
    }

    /// The budget of one evaluation.
    pub fn of_one() -> Self {
        Self::of(STEPS, STEPS_TIME)
    }

    /// The budget of one among many evaluations in a row, as for each event of a stream.
    pub fn of_event() -> Self {
        Self::of(EVENT_STEPS, EVENT_TIME)
    }

    /// The budget of a batch.
    pub fn of_batch() -> Self {
        Self::of(BATCH_STEPS, BATCH_TIME)
    }

    /// Takes steps; false once the budget is exhausted. The clock starts with the first call.
    pub fn take(&self, steps: u64) -> bool {
        let shared = &*self.0;
        let taken = shared.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(steps));
        let until = shared.until.get_or_init(|| Instant::now() + shared.time);
        match taken {
            // A step may take a few passes over large values: the clock is read each time.
            Ok(_) if Instant::now() <= *until => {}
            _ => {
                shared.left.store(0, Relaxed);
                shared.spent.store(true, Relaxed);
            }
        }
        !self.are_spent()
    }

    /// True once the steps or the time are exhausted.
    pub fn are_spent(&self) -> bool {
        self.0.spent.load(Relaxed)
    }
}

/// Approximate size of a JSON value in memory, in bytes.
pub fn bytes(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    match value {
        Value::String(text) => 16 + text.len(),
        Value::Array(items) => 16 + items.iter().map(bytes).sum::<usize>(),
        Value::Object(fields) => 16 + fields.iter().map(|(name, value)| 16 + name.len() + bytes(value)).sum::<usize>(),
        _ => 16,
    }
}

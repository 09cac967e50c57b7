//! The budgets of what users write and the server evaluates: templates, CEL, JSON Schema, YAML.
//!
//! Three rules hold for all of them:
//!
//! 1. *No parser meets a text that it could overflow on.* A scan without recursion counts tokens, brackets and chains first;
//!    what passes is parsed by [`deep`], on a stack of [`STACK_BYTES`]. Syntax trees are made and dropped there.
//! 2. *Nothing that is admitted can multiply.* The size of each value is bounded when the text is parsed, in multiples of
//!    the values that it will be given: a template or a condition that could build more than [`GROWTH`] times as much, or
//!    lists within lists, is refused. So memory has a bound that is known before anything is evaluated.
//! 3. *Time ends.* Loops burn fuel (minijinja) or steps ([`Steps`]: CEL), and look at the clock; one turn of a loop costs no
//!    more than a few passes over the values. What a JSON Schema judges is counted before.
//!
//! Together: evaluation ends at its deadline, but for the one operation in hand, which is linear in bounded values. It runs
//! on threads of its own ([`run`]), a bounded number of them, so that requests, the engine and the pool of blocking threads
//! never wait for it; no org has more than half of those of requests, and what many orgs have evaluated in a row goes
//! round among them ([`in_turn`]). What is evaluated within a transaction is bounded by time for conditions
//! ([`Steps`]), and by judgements for the schemas of results ([`JUDGEMENTS`]).

mod verdict;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::thread::{Builder, available_parallelism};
use std::time::{Duration, Instant};

pub use verdict::{HELD, JUDGING, LATE, judging, verdict};

use entity::id::Id;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use uuid::Uuid;

use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::limits;

/// The stack on which anything is parsed, in bytes.
pub const STACK_BYTES: usize = 16 * 1024 * 1024;
/// Growth of a value over the values that are given, at most.
pub const GROWTH: usize = 16;
/// Brackets within each other.
pub const NESTING: usize = 24;
/// Operators, attributes, filters and calls of one expression: a parser follows chains of them by recursion.
pub const CHAIN: usize = 200;
/// Levels of a condition's syntax tree, by which it is evaluated.
pub const TREE: usize = 64;
/// Loops within each other.
pub const LOOPS: usize = 4;
/// `if`, `elif` and `for` within each other; an `elif` stands within the `if` before it.
pub const BLOCKS: usize = 48;
/// The values that a template with loops, or a condition, is given, in bytes.
pub const VALUES_BYTES: usize = 1024 * 1024;
/// Passes over values, in bytes, that a template's loops may take; its fuel is counted by it.
pub const LOOP_BYTES: usize = 1_500_000_000;
/// Fuel that loops get however large the values are.
pub const FUEL_LEAST: u64 = 5_000;
/// Parsed texts that are kept, all together, in bytes of their sources; parsed they take up to a hundred times as much.
pub const KEPT_BYTES: u64 = 512 * 1024;
/// Turns of loops that one condition may take.
pub const STEPS: u64 = 20_000;
/// The time that one condition may take.
pub const STEPS_TIME: Duration = Duration::from_millis(100);
/// Turns of loops that a condition may take where it is judged for each event.
pub const EVENT_STEPS: u64 = 500;
/// The time that a condition may take where it is judged for each event.
pub const EVENT_TIME: Duration = Duration::from_millis(5);
/// The time that conditions may take together which are judged within one transaction and can't be put off.
pub const ALL_TIME: Duration = Duration::from_secs(3);
/// Turns of loops that the conditions of one batch may take together.
pub const BATCH_STEPS: u64 = 200_000;
/// The time that the conditions of one batch may take together.
pub const BATCH_TIME: Duration = Duration::from_millis(500);
/// A pattern of a regular expression, in bytes.
pub const PATTERN_BYTES: usize = 500;
/// A pattern's program, in bytes; some Unicode classes take 30 KiB each.
pub const PATTERN_PROGRAM_BYTES: usize = 256 * 1024;
/// A text that a pattern is tried on, in bytes.
pub const MATCHED_BYTES: usize = 64 * 1024;
/// Ways in which a schema may judge one piece of a value.
pub const SCHEMA_COST: usize = 2_000;
/// Judgements of one value by a schema: its ways of judging, times the parts of the value; some 10 ms.
pub const JUDGEMENTS: usize = 1_000_000;
/// Parts of a schema.
pub const SCHEMA_PARTS: usize = 1_000;
/// Schemas within each other, references followed.
pub const SCHEMA_DEPTH: usize = 48;
/// Patterns of a schema.
pub const SCHEMA_PATTERNS: usize = 20;
/// The cost of a pattern, in judgements.
pub const SCHEMA_PATTERN_COST: usize = 8;
/// A schema's pattern's program, in bytes.
pub const SCHEMA_PATTERN_PROGRAM_BYTES: usize = 128 * 1024;
/// Steps back of a pattern that looks around.
pub const SCHEMA_BACKTRACKS: usize = 5_000;
/// Parts by which a schema that refers to itself goes on at once.
pub const SCHEMA_CYCLE: usize = 100;
/// `unevaluatedProperties` and `unevaluatedItems` of a schema.
pub const SCHEMA_UNEVALUATED: usize = 4;
/// The time of an evaluation that somebody waits for, and of a step's.
const TIMES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];
/// The time that an evaluation waits for its turn.
const TURN: Duration = Duration::from_secs(10);
/// The time that one of many evaluations in a row may take.
const ONE: Duration = Duration::from_secs(2);
/// The time, behind its own, for which an evaluation that goes on is waited for.
const GRACE: Duration = Duration::from_secs(5);

/// For whom is evaluated: either has threads of its own, so that previews never hold up the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvaluationPool {
    /// A request.
    Asked,
    /// A step's work.
    Engine,
}

impl EvaluationPool {
    /// The time that an evaluation may take.
    pub fn time(self) -> Duration {
        TIMES[self as usize]
    }

    fn threads(self) -> &'static Semaphore {
        static THREADS: LazyLock<[Semaphore; 2]> =
            LazyLock::new(|| [Semaphore::new(threads()), Semaphore::new(threads())]);
        &THREADS[self as usize]
    }
}

/// Does what a crate does with a text or a value of a user; where it panics, as on numbers that overflow, that is told as a
/// fault of the text.
pub fn caught<T>(work: impl FnOnce() -> std::result::Result<T, String>) -> std::result::Result<T, String> {
    let failed = |_| Err("it can't be evaluated: it goes beyond what numbers or lists can hold".to_owned());
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(failed)
}

/// The problem where there is no thread to parse on.
const NO_THREAD: &str = "there is no thread to read it on";

fn threads() -> usize {
    available_parallelism().map_or(2, usize::from).clamp(2, 8)
}

/// Runs short work on a stack of [`STACK_BYTES`], and waits for it; a panic is told as by [`caught`]. The outer error says that
/// there is no thread for it.
pub fn deep<T: Send>(
    work: impl FnOnce() -> std::result::Result<T, String> + Send,
) -> std::result::Result<std::result::Result<T, String>, String> {
    std::thread::scope(|scope| {
        let thread = Builder::new().name("parse".into()).stack_size(STACK_BYTES).spawn_scoped(scope, || caught(work));
        let thread = thread.map_err(|err| format!("{NO_THREAD}: {err}"))?;
        Ok(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// Runs work off the async threads, at most as many at once as there are processors. It is given the time by which it has
/// to end. Errors: LIMIT_EXCEEDED where there is no turn in time, or where it does not end.
pub async fn run<T: Send + 'static>(
    lane: EvaluationPool,
    work: impl FnOnce(Instant) -> T + Send + 'static,
) -> Result<T> {
    run_for(lane, None, work).await
}

/// The same, for somebody who may have half of the threads at once.
pub async fn run_for<T: Send + 'static>(
    lane: EvaluationPool,
    who: Option<Uuid>,
    work: impl FnOnce(Instant) -> T + Send + 'static,
) -> Result<T> {
    let share = who.map(Share::of);
    let own = async {
        match &share {
            Some(share) => Some(share.0.clone().acquire_owned().await),
            None => None,
        }
    };
    let own = timeout(TURN, own).await.map_err(|_| busy("you evaluate as much at once as one may"))?;
    let own = own.transpose().map_err(Error::ours)?;
    let turn = timeout(TURN, lane.threads().acquire()).await;
    let turn = turn.map_err(|_| busy("the server evaluates as much as it can"))?.map_err(Error::ours)?;
    let (answer, answered) = oneshot::channel();
    let evaluate = move || {
        let done = catch_unwind(AssertUnwindSafe(|| work(Instant::now() + lane.time())));
        drop((turn, own));
        // The request may have gone.
        let _ = answer.send(done);
    };
    Builder::new().name("evaluate".into()).stack_size(STACK_BYTES).spawn(evaluate).map_err(Error::ours)?;
    match timeout(lane.time() + GRACE, answered).await {
        Ok(Ok(Ok(done))) => Ok(done),
        Ok(Ok(Err(panic))) => resume_unwind(panic),
        Ok(Err(err)) => Err(Error::ours(err)),
        Err(_) => Err(busy("it took too long to evaluate").into()),
    }
}

/// The same, for whoever the current task works for: a request's org, or the engine.
pub async fn run_here<T: Send + 'static>(work: impl FnOnce(Instant) -> T + Send + 'static) -> Result<T> {
    let org = crate::kernel::cost::current().map(|request| request.asker().org.uuid());
    run_for(if org.is_some() { EvaluationPool::Asked } else { EvaluationPool::Engine }, org, work).await
}

/// The refusal of what could not be judged in time.
pub fn late(field: &str) -> Refusal {
    let field = field.strip_prefix("input.").unwrap_or(field);
    busy(&format!("{field}: {LATE}")).with("field", serde_json::json!(field))
}

/// Half of the threads, of one asker.
struct Share(Arc<Semaphore>, Uuid);

impl Share {
    fn all() -> std::sync::MutexGuard<'static, HashMap<Uuid, Arc<Semaphore>>> {
        static ALL: LazyLock<Mutex<HashMap<Uuid, Arc<Semaphore>>>> = LazyLock::new(Mutex::default);
        ALL.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(who: Uuid) -> Self {
        let half = || Arc::new(Semaphore::new(Ord::max(threads() / 2, 1)));
        Self(Self::all().entry(who).or_insert_with(half).clone(), who)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = Self::all();
        // This one's, and the one that is kept: nobody else has it.
        if all.get(&self.1).is_some_and(|kept| Arc::strong_count(kept) == 2) {
            all.remove(&self.1);
        }
    }
}

/// Evaluates for many owners in a row, the one next that has had the least time; each evaluation is given its end. None for
/// those that the time did not reach.
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
    // So much is left for the last one.
    let spare = Ord::min(ONE, end.saturating_duration_since(begun) / 5);
    while let Some((spent, indices)) = waiting.values_mut().min_by_key(|(spent, _)| *spent) {
        // The first one always has its turn.
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

fn busy(why: &str) -> Refusal {
    Refusal::limit(format!("{why}; ask again in a few seconds"))
        .with("retryAfterSeconds", serde_json::json!(limits::RETRY_AFTER.as_secs()))
}

/// Steps and time of evaluations that share them; clones share them too.
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

    /// The steps of one evaluation.
    pub fn of_one() -> Self {
        Self::of(STEPS, STEPS_TIME)
    }

    /// The steps of one of many evaluations in a row, as for each event of a stream.
    pub fn of_event() -> Self {
        Self::of(EVENT_STEPS, EVENT_TIME)
    }

    /// The steps of a batch.
    pub fn of_batch() -> Self {
        Self::of(BATCH_STEPS, BATCH_TIME)
    }

    /// Takes steps; false where there are none left, and from then on. The clock begins with the first.
    pub fn take(&self, steps: u64) -> bool {
        let shared = &*self.0;
        let taken = shared.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(steps));
        let until = shared.until.get_or_init(|| Instant::now() + shared.time);
        match taken {
            // The clock is read once in 16 steps.
            Ok(left) if left / 16 == (left - steps) / 16 || Instant::now() <= *until => {}
            _ => {
                shared.left.store(0, Relaxed);
                shared.spent.store(true, Relaxed);
            }
        }
        !self.are_spent()
    }

    /// True once more steps or time were wanted than there were.
    pub fn are_spent(&self) -> bool {
        self.0.spent.load(Relaxed)
    }
}

/// A pattern that is matched in linear time, by a small program. The error is a sentence.
pub fn pattern(source: &str) -> std::result::Result<regex::Regex, String> {
    if source.len() > PATTERN_BYTES {
        return Err(format!("a pattern has at most {PATTERN_BYTES} bytes"));
    }
    let built = regex::RegexBuilder::new(source)
        .size_limit(PATTERN_PROGRAM_BYTES)
        .dfa_size_limit(PATTERN_PROGRAM_BYTES)
        .nest_limit(32)
        .build();
    built.map_err(|err| match err {
        regex::Error::CompiledTooBig(_) => "the pattern is too large: repeat less".to_owned(),
        err => crate::kernel::validate::shown(&err.to_string()),
    })
}

/// The size of a JSON value in memory, in bytes, about.
pub fn bytes(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    match value {
        Value::String(text) => 16 + text.len(),
        Value::Array(items) => 16 + items.iter().map(bytes).sum::<usize>(),
        Value::Object(fields) => 16 + fields.iter().map(|(name, value)| 16 + name.len() + bytes(value)).sum::<usize>(),
        _ => 16,
    }
}

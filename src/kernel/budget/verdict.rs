//! Caches verdicts on texts: conditions, templates and schemas are compiled to check that they are
//! valid, and the verdict is cached, even where the compiled form is not.
//!
//! A definition has many texts and one timeout for all. It is checked on the budget's threads
//! before the transaction that stores it ([`judging`]); within the transaction the verdicts are
//! cached, and there is little time for more ([`HELD`]). After a timeout the client may retry:
//! verdicts reached by then stay cached.

use std::cell::Cell;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};

use super::{NO_THREAD, caught};
use crate::kernel::limits;

/// Timeout for checking the texts of one definition.
pub const JUDGING: Duration = Duration::from_millis(1_500);
/// Timeout where others wait for it, as within a transaction.
pub const HELD: Duration = Duration::from_millis(300);
/// Size of the cache: approximate number of verdicts, and total bytes.
const KEPT: usize = 200_000;
const KEPT_BYTES: u64 = 24 * 1024 * 1024;

/// The error of a text that was not reached in time.
pub const LATE: &str = "could not be checked within the time for all texts together";

type Verdict = Result<(), Arc<str>>;

static ALL: LazyLock<Cache<[u8; 16], Verdict, Bytes>> = LazyLock::new(|| Cache::with_weighter(KEPT, KEPT_BYTES, Bytes));

#[derive(Clone)]
struct Bytes;

impl Weighter<[u8; 16], Verdict> for Bytes {
    fn weight(&self, _: &[u8; 16], verdict: &Verdict) -> u64 {
        96 + verdict.as_ref().err().map_or(0, |error| error.len() as u64)
    }
}

/// The texts that were checked together so far.
#[derive(Clone, Copy)]
struct VerdictBatch {
    until: Instant,
    texts: usize,
}

thread_local! {
    static TOGETHER: Cell<Option<VerdictBatch>> = const { Cell::new(None) };
}

/// Ends the batch, also on a panic.
struct Ending;

impl Drop for Ending {
    fn drop(&mut self) {
        TOGETHER.set(None);
    }
}

/// Checks the texts of one definition, with a timeout and a maximum number of texts. Within an
/// outer call, the limits of that one apply.
pub fn judging<T>(time: Duration, work: impl FnOnce() -> T) -> T {
    if TOGETHER.get().is_some() {
        return work();
    }
    TOGETHER.set(Some(VerdictBatch { until: Instant::now() + time, texts: 0 }));
    let _ending = Ending;
    work()
}

/// The verdict on a text of a language, cached or computed. The error is a sentence.
pub fn verdict(language: &str, text: &str, judge: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let together = TOGETHER.get().map(|all| VerdictBatch { texts: all.texts + 1, ..all });
    TOGETHER.set(together);
    if together.is_some_and(|all| all.texts > limits::DEFINITION_TEXTS) {
        return Err(format!(
            "exceeds the limit: a definition has at most {} conditions, templates and schemas",
            limits::DEFINITION_TEXTS
        ));
    }
    let digest = Sha256::new().chain_update(language).chain_update([0]).chain_update(text).finalize();
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    if let Some(known) = ALL.get(&key) {
        return known.map_err(|error| error.to_string());
    }
    if together.is_some_and(|all| Instant::now() > all.until) {
        return Err(LATE.to_owned());
    }
    let verdict = caught(judge);
    // A lack of threads is not cached: the next attempt may find one.
    if !verdict.as_ref().is_err_and(|error| error.starts_with(NO_THREAD)) {
        ALL.insert(key, verdict.clone().map_err(Arc::from));
    }
    verdict
}

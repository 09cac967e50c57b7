//! Verdicts on texts: conditions, templates and schemas are compiled to find out whether they may be used, and the verdict is kept, also
//! where the compiled form is not.
//!
//! A definition has many of them, and one time for all. It is judged on the threads of the budget before the transaction
//! that keeps it ([`judging`]); within that, what was judged is known, and there is time for little more ([`HELD`]). Who is told
//! that the time was over may ask again: what was judged by then stays known.

use std::cell::Cell;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};

use super::{NO_THREAD, caught};
use crate::kernel::limits;

/// The time that the texts of one definition may take to be judged.
pub const JUDGING: Duration = Duration::from_millis(1_500);
/// The same where somebody else waits for it, as within a transaction.
pub const HELD: Duration = Duration::from_millis(300);
/// Verdicts that are kept, about so many; and in bytes, all together.
const KEPT: usize = 200_000;
const KEPT_BYTES: u64 = 24 * 1024 * 1024;

/// The problem of a text that the time did not reach.
pub const LATE: &str = "could not be judged in the time that there is for all of them";

type Verdict = Result<(), Arc<str>>;

static ALL: LazyLock<Cache<[u8; 16], Verdict, Bytes>> = LazyLock::new(|| Cache::with_weighter(KEPT, KEPT_BYTES, Bytes));

#[derive(Clone)]
struct Bytes;

impl Weighter<[u8; 16], Verdict> for Bytes {
    fn weight(&self, _: &[u8; 16], verdict: &Verdict) -> u64 {
        96 + verdict.as_ref().err().map_or(0, |why| why.len() as u64)
    }
}

/// Texts that are judged together, so far.
#[derive(Clone, Copy)]
struct VerdictBatch {
    until: Instant,
    texts: usize,
}

thread_local! {
    static TOGETHER: Cell<Option<VerdictBatch>> = const { Cell::new(None) };
}

/// Ends what is judged together, also by a panic.
struct Ending;

impl Drop for Ending {
    fn drop(&mut self) {
        TOGETHER.set(None);
    }
}

/// Judges the texts of one definition: within one time, and so many of them. Within another one, that one's counts.
pub fn judging<T>(time: Duration, work: impl FnOnce() -> T) -> T {
    if TOGETHER.get().is_some() {
        return work();
    }
    TOGETHER.set(Some(VerdictBatch { until: Instant::now() + time, texts: 0 }));
    let _ending = Ending;
    work()
}

/// The verdict on a text of a language: the one that is known, or what comes of judging it. The error is a sentence.
pub fn verdict(language: &str, text: &str, judge: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let together = TOGETHER.get().map(|all| VerdictBatch { texts: all.texts + 1, ..all });
    TOGETHER.set(together);
    if together.is_some_and(|all| all.texts > limits::DEFINITION_TEXTS) {
        return Err(format!(
            "is one too many: a definition has at most {} conditions, templates and schemas",
            limits::DEFINITION_TEXTS
        ));
    }
    let digest = Sha256::new().chain_update(language).chain_update([0]).chain_update(text).finalize();
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    if let Some(known) = ALL.get(&key) {
        return known.map_err(|why| why.to_string());
    }
    if together.is_some_and(|all| Instant::now() > all.until) {
        return Err(LATE.to_owned());
    }
    let verdict = caught(judge);
    // One that finds no thread may find one the next time.
    if !verdict.as_ref().is_err_and(|why| why.starts_with(NO_THREAD)) {
        ALL.insert(key, verdict.clone().map_err(Arc::from));
    }
    verdict
}

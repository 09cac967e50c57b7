//! The share that one owner has of a pool's threads: half of them.
//!
//! An evaluation holds its part until its thread ends, also if nobody waits for it any more.
//! Otherwise each retry of one that overran would take another thread.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{EvaluationPool, threads};

/// A user of a pool.
type Owner = (EvaluationPool, Uuid);

const RUNNING: u8 = 0;
const LATE: u8 = 1;
const ENDED: u8 = 2;

/// One evaluation's part in its owner's share.
pub(super) struct Share {
    kept: Option<Arc<Kept>>,
    owner: Owner,
    state: AtomicU8,
}

struct Kept {
    permits: Arc<Semaphore>,
    /// Evaluations that run beyond their time.
    late: AtomicUsize,
}

fn half() -> usize {
    Ord::max(threads() / 2, 1)
}

impl Share {
    fn all() -> MutexGuard<'static, HashMap<Owner, Arc<Kept>>> {
        static ALL: LazyLock<Mutex<HashMap<Owner, Arc<Kept>>>> = LazyLock::new(Mutex::default);
        ALL.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of(lane: EvaluationPool, owner: Uuid) -> Self {
        let owner = (lane, owner);
        let fresh = || Arc::new(Kept { permits: Arc::new(Semaphore::new(half())), late: AtomicUsize::new(0) });
        let kept = Self::all().entry(owner).or_insert_with(fresh).clone();
        Self { kept: Some(kept), owner, state: AtomicU8::new(RUNNING) }
    }

    /// The permits of the owner.
    pub(super) fn permits(&self) -> Option<Arc<Semaphore>> {
        self.kept.as_ref().map(|kept| kept.permits.clone())
    }

    /// True if all of the share is held by evaluations beyond their time: waiting is pointless.
    pub(super) fn is_overrun(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.late.load(SeqCst) >= half())
    }

    /// Records that the evaluation runs beyond its time, unless it has ended meanwhile.
    pub(super) fn mark_late(&self) {
        let Some(kept) = &self.kept else { return };
        kept.late.fetch_add(1, SeqCst);
        if self.state.compare_exchange(RUNNING, LATE, SeqCst, SeqCst).is_err() {
            kept.late.fetch_sub(1, SeqCst);
        }
    }

    /// Records that the evaluation's thread has ended.
    pub(super) fn end(&self) {
        if self.state.swap(ENDED, SeqCst) == LATE
            && let Some(kept) = &self.kept
        {
            kept.late.fetch_sub(1, SeqCst);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = Self::all();
        drop(self.kept.take());
        // Only the map refers to it.
        if all.get(&self.owner).is_some_and(|kept| Arc::strong_count(kept) == 1) {
            all.remove(&self.owner);
        }
    }
}

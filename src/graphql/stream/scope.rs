//! The part of the log that a subscription covers, and the position that it has reached.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use tokio::sync::Notify;

/// The range of the log that a subscription covers, set by the transport, and the position that it
/// has reached. Items are requested one at a time, so that if one can't be delivered, the one
/// before it is the position to resume from.
#[derive(Clone, Debug, Default)]
pub struct LogScope(pub(super) Arc<Span>);

#[derive(Debug)]
pub(super) struct Span {
    pub from: Option<i64>,
    pub until: i64,
    now: AtomicI64,
    before: AtomicI64,
    begins_with_state: AtomicBool,
    /// The position that a requested snapshot must have reached; -1 without a request.
    requested: AtomicI64,
    request: Notify,
    is_list: AtomicBool,
    is_snapshot: AtomicBool,
    /// Number of reads of shared rows (`shared_rows`) before the newest item, and until now.
    reads_before: AtomicU64,
    reads: AtomicU64,
}

impl Default for Span {
    fn default() -> Self {
        let unknown = || AtomicI64::new(-1);
        Self {
            from: None,
            until: i64::MAX,
            now: unknown(),
            before: unknown(),
            begins_with_state: AtomicBool::new(false),
            requested: unknown(),
            request: Notify::new(),
            is_list: AtomicBool::new(false),
            is_snapshot: AtomicBool::new(false),
            reads_before: AtomicU64::new(0),
            reads: AtomicU64::new(0),
        }
    }
}

impl LogScope {
    /// Covers the log after a position, regardless of `after`, up to `until` if it is given.
    pub fn between(from: i64, until: Option<i64>) -> Self {
        Self(Arc::new(Span { from: Some(from), until: until.unwrap_or(i64::MAX), ..Span::default() }))
    }

    /// Sets the position of the newest item, or of the start.
    pub fn set(&self, position: i64) {
        let before = self.0.now.swap(position, Ordering::Relaxed);
        self.0.before.store(before, Ordering::Relaxed);
        self.0.reads_before.store(self.0.reads.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The number of reads that had begun when the rows of all earlier items were there.
    pub(in crate::graphql) fn reads_before(&self) -> u64 {
        self.0.reads_before.load(Ordering::Relaxed)
    }

    /// Notes a row of the newest item, which was there when this many reads had begun.
    pub(in crate::graphql) fn has_read(&self, reads: u64) {
        self.0.reads.fetch_max(reads, Ordering::Relaxed);
    }

    /// Forgets the start: before the first item, the current state, nothing can be resumed.
    pub fn forget_start(&self) {
        self.0.now.store(-1, Ordering::Relaxed);
        self.0.begins_with_state.store(true, Ordering::Relaxed);
    }

    /// Returns the position to resume from after an item that failed, with the position before it
    /// was asked for. Without one, the first item failed: the current state, which no cursor
    /// repeats, or what follows the start.
    pub fn after_failure(&self, delivered: Option<i64>) -> Option<i64> {
        let start = || self.now().filter(|_| !self.0.begins_with_state.load(Ordering::Relaxed));
        delivered.or_else(|| self.before()).or_else(start)
    }

    /// Returns the position of the newest item, or of the start; `None` before the start.
    pub fn now(&self) -> Option<i64> {
        Some(self.0.now.load(Ordering::Relaxed)).filter(|position| *position >= 0)
    }

    /// Returns the position of the item before the newest, or of the start; `None` before the first
    /// item.
    pub fn before(&self) -> Option<i64> {
        Some(self.0.before.load(Ordering::Relaxed)).filter(|position| *position >= 0)
    }

    /// Requests a snapshot of a list that has reached a position, for a new subscriber.
    pub fn request_snapshot(&self, position: i64) {
        self.0.requested.fetch_max(position, Ordering::Relaxed);
        self.0.request.notify_one();
    }

    /// Waits for a request of a snapshot.
    pub(super) async fn snapshot_requested(&self) {
        self.0.request.notified().await;
    }

    /// Takes the request of a snapshot that a list at this position fulfils; true if there was one.
    pub(super) fn take_request(&self, position: i64) -> bool {
        let requested = self.0.requested.load(Ordering::Relaxed);
        let fulfilled = (0..=position).contains(&requested);
        // A request that arrives in between, for a later position, stays.
        fulfilled && self.0.requested.compare_exchange(requested, -1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Sets the position of a list's newest item, and whether it is a snapshot.
    pub(super) fn set_list(&self, position: i64, is_snapshot: bool) {
        self.0.is_list.store(true, Ordering::Relaxed);
        self.0.is_snapshot.store(is_snapshot, Ordering::Relaxed);
        self.set(position);
    }

    /// True for a list, whose items build on each other: none may be missing.
    pub fn is_list(&self) -> bool {
        self.0.is_list.load(Ordering::Relaxed)
    }

    /// True if the newest item is a snapshot of a list.
    pub fn is_snapshot(&self) -> bool {
        self.0.is_snapshot.load(Ordering::Relaxed)
    }
}

//! The part of the log that a subscription covers, and the position that it has reached.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

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
}

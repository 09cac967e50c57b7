//! The current time, from the machine's clock or one that a test sets. No other module reads the
//! time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Duration, SubsecRound, Utc};
use tokio::sync::watch;

/// The source of the time.
#[derive(Clone, Debug)]
pub struct Clock {
    set: Option<Arc<watch::Sender<DateTime<Utc>>>>,
    /// Microseconds by which the clock that all nodes share is ahead of this machine's.
    ahead: Arc<AtomicI64>,
}

impl Clock {
    /// The machine's clock.
    pub fn real() -> Self {
        Self { set: None, ahead: Arc::default() }
    }

    /// A clock that stands still until it is set.
    pub fn set_to(at: DateTime<Utc>) -> Self {
        Self { set: Some(Arc::new(watch::Sender::new(at))), ahead: Arc::default() }
    }

    /// Moves a set clock, and wakes waiting tasks; no effect on the real one.
    pub fn set(&self, at: DateTime<Utc>) {
        if let Some(sender) = &self.set {
            sender.send_replace(at);
        }
    }

    /// Follows a clock that all nodes share, given its time and our times before and after reading
    /// it; no effect on a set one. Differences within the duration of the read are ignored.
    pub fn go_by(&self, shared: DateTime<Utc>, before: DateTime<Utc>, after: DateTime<Utc>) {
        if self.set.is_some() {
            return;
        }
        let taken = after - before;
        let off = shared - (before + taken / 2);
        if off.abs() > taken / 2 + Duration::milliseconds(20) {
            self.ahead.fetch_add(off.num_microseconds().unwrap_or_default(), Ordering::Relaxed);
        }
    }

    /// The time in UTC, truncated to microseconds, which is what both databases store.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system clock")]
    pub fn now(&self) -> DateTime<Utc> {
        let now = match &self.set {
            Some(sender) => *sender.borrow(),
            None => Utc::now() + Duration::microseconds(self.ahead.load(Ordering::Relaxed)),
        };
        now.trunc_subsecs(6)
    }

    /// Returns when a set clock is moved; on the real clock, never.
    pub async fn moved(&self) {
        match &self.set {
            Some(sender) => {
                let _ = sender.subscribe().changed().await;
            }
            None => std::future::pending().await,
        }
    }
}

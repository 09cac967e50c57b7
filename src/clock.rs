//! Now: the machine's clock, or one that a test sets. The only place that reads the time.

use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use tokio::sync::watch;

/// Where the time comes from.
#[derive(Clone, Debug)]
pub struct Clock(Option<Arc<watch::Sender<DateTime<Utc>>>>);

impl Clock {
    /// The machine's clock.
    pub fn real() -> Self {
        Self(None)
    }

    /// A clock that stands still until it is set.
    pub fn set_to(at: DateTime<Utc>) -> Self {
        Self(Some(Arc::new(watch::Sender::new(at))))
    }

    /// Moves a set clock, and wakes whoever waits on it; without effect on the real one.
    pub fn set(&self, at: DateTime<Utc>) {
        if let Some(sender) = &self.0 {
            sender.send_replace(at);
        }
    }

    /// The time in UTC, cut to microseconds, which is what both databases keep.
    #[allow(clippy::disallowed_methods)]
    pub fn now(&self) -> DateTime<Utc> {
        let now = match &self.0 {
            Some(sender) => *sender.borrow(),
            None => Utc::now(),
        };
        now.trunc_subsecs(6)
    }

    /// Comes back when a set clock is moved; on the real clock, never.
    pub async fn moved(&self) {
        match &self.0 {
            Some(sender) => {
                let _ = sender.subscribe().changed().await;
            }
            None => std::future::pending().await,
        }
    }
}

//! Who writes next, where there is one writer: people go before the engine, which has many transactions and time. A person
//! waits for the one that is at work at most, not for all that the engine's loops have queued.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// How long the engine lets people go before it.
const PATIENCE: Duration = Duration::from_millis(500);

/// How many people wait to write.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<(AtomicUsize, Notify)>);

/// A person's wait; it is over when this goes.
#[derive(Debug)]
pub(super) struct WriterTurn(Turns);

impl Turns {
    /// A person is about to wait.
    pub(super) fn ahead(&self) -> WriterTurn {
        self.0.0.fetch_add(1, Ordering::SeqCst);
        WriterTurn(self.clone())
    }

    /// Comes back when no person waits, or patience is at its end.
    pub(super) async fn behind(&self) {
        let none = async {
            loop {
                let changed = self.0.1.notified();
                if self.0.0.load(Ordering::SeqCst) == 0 {
                    return;
                }
                changed.await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, none).await;
    }
}

impl Drop for WriterTurn {
    fn drop(&mut self) {
        let turns = &self.0.0;
        if turns.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            turns.1.notify_waiters();
        }
    }
}

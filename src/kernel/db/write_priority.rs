//! Write priority where there is one writer: requests go before the engine, which has many
//! transactions and can wait. A request waits for at most one running transaction, not for all that
//! the engine's loops have queued.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// Longest wait of the engine for requests.
const PATIENCE: Duration = Duration::from_millis(500);

/// The number of requests that wait to write.
#[derive(Clone, Debug, Default)]
pub(super) struct WritePriority(Arc<(AtomicUsize, Notify)>);

/// A request's wait; over on drop.
#[derive(Debug)]
pub(super) struct WaitingRequest(WritePriority);

impl WritePriority {
    /// Registers a request that is about to wait.
    pub(super) fn request_waiting(&self) -> WaitingRequest {
        self.0.0.fetch_add(1, Ordering::SeqCst);
        WaitingRequest(self.clone())
    }

    /// Returns when no request waits, or after `PATIENCE`.
    pub(super) async fn wait_for_requests(&self) {
        let no_request_waits = async {
            loop {
                let changed = self.0.1.notified();
                if self.0.0.load(Ordering::SeqCst) == 0 {
                    return;
                }
                changed.await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, no_request_waits).await;
    }
}

impl Drop for WaitingRequest {
    fn drop(&mut self) {
        let waiting = &self.0.0;
        if waiting.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            waiting.1.notify_waiters();
        }
    }
}

//! Sets failed work aside with a growing backoff, so that the loops go on with the rest.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use uuid::Uuid;

use super::EngineContext;
use crate::kernel::error::{Error, Result};
use crate::kernel::stuck::{self, StuckWork, WorkItem};

/// The work items that failed before, as read at the start of a tick.
#[derive(Debug, Default)]
pub(super) struct FailedWork(HashSet<(StuckWork, Uuid)>);

impl FailedWork {
    /// Reads the failed items of some kinds of work.
    pub(super) async fn read(context: &EngineContext, works: &[StuckWork]) -> Result<Self> {
        Ok(Self(stuck::known(&context.db, works).await?))
    }

    /// Stores the outcome of a work item: its failure, or that it succeeds again. Returns its
    /// value if it succeeded.
    pub(super) async fn record<T>(&self, context: &EngineContext, item: WorkItem, outcome: Result<T>) -> Option<T> {
        match outcome {
            Ok(value) => {
                if self.0.contains(&(item.work, item.subject))
                    && let Err(err) = stuck::passed(&context.db, item.work, item.subject).await
                {
                    log_failure!(warn, err, "a work item that succeeds again could not be removed from the stuck work");
                }
                Some(value)
            }
            Err(err) => {
                stuck::failed(&context.db, item, &err).await;
                None
            }
        }
    }
}

/// The result of a query for work; a failure is logged and counts as empty, so that the other
/// kinds of work go on.
pub(super) fn found<T: Default>(what: &'static str, outcome: Result<T>) -> T {
    outcome.unwrap_or_else(|err| {
        metrics::counter!("sortie_failed_ticks_total", "work" => what).increment(1);
        log_failure!(error, err, what, "reading due work failed");
        T::default()
    })
}

/// Runs a future and turns a panic into an internal error: nobody would notice that a loop has
/// ended by a panic.
pub(super) async fn guarded<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    // Boxed, since the loops' futures are large, and several of them share a stack.
    match AssertUnwindSafe(Box::pin(work)).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map(String::as_str);
            let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(Error::internal(format!("panicked: {message}")))
        }
    }
}

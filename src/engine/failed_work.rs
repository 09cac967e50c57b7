//! The loops' way with failures: what fails is set aside with a growing pause, and the rest goes on.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use uuid::Uuid;

use super::EngineContext;
use crate::kernel::error::{Error, Result};
use crate::kernel::stuck::{self, StuckWork, WorkItem};

/// What a tick knows of the work that failed before.
#[derive(Debug, Default)]
pub(super) struct FailedWork(HashSet<(StuckWork, Uuid)>);

impl FailedWork {
    /// Reads it, for some kinds of work.
    pub(super) async fn of(context: &EngineContext, works: &[StuckWork]) -> Result<Self> {
        Ok(Self(stuck::known(&context.db, works).await?))
    }

    /// Keeps what came of a piece of work: its failure, or that it passes again. What it brought comes back, if it passed.
    pub(super) async fn keep<T>(&self, context: &EngineContext, piece: WorkItem, outcome: Result<T>) -> Option<T> {
        match outcome {
            Ok(brought) => {
                if self.0.contains(&(piece.work, piece.subject))
                    && let Err(err) = stuck::passed(&context.db, piece.work, piece.subject).await
                {
                    log_failure!(warn, err, "work that passes again is still kept as stuck");
                }
                Some(brought)
            }
            Err(err) => {
                stuck::failed(&context.db, piece, &err).await;
                None
            }
        }
    }
}

/// What was found of a kind of work; nothing, and a line in the log, where it could not be looked for: other kinds go on.
pub(super) fn found<T: Default>(what: &'static str, outcome: Result<T>) -> T {
    outcome.unwrap_or_else(|err| {
        metrics::counter!("sortie_failed_ticks_total", "work" => what).increment(1);
        log_failure!(error, err, what, "could not look for work");
        T::default()
    })
}

/// Has something done, and a panic in it be a failure of ours: a loop that ends by one would be missed by nobody.
pub(super) async fn guarded<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    // On the heap: what loops do is large, and several of them share a stack.
    match AssertUnwindSafe(Box::pin(work)).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(panic) => {
            let told = panic.downcast_ref::<String>().map(String::as_str);
            let told = told.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word");
            Err(Error::ours(format!("it panicked: {told}")))
        }
    }
}

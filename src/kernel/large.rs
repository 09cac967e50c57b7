//! Work in proportion to a large text or value: serialising, parsing, copying, dropping.
//!
//! A few megabytes take long enough that other requests of the same async thread would wait. Such
//! work gives its async thread away meanwhile; small work is done in place, because a change of
//! threads costs more. At most as many large pieces of work run at once as there are processors.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::LazyLock;
use std::thread::available_parallelism;

use entity::id::{Id, OrgId};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

use crate::kernel::budget::{self, EvaluationPool};
use crate::kernel::error::Result;
use crate::kernel::limits;

static TURNS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(available_parallelism().map_or(2, usize::from).max(2)));

/// Does work on about as many bytes. Async threads don't wait for it if it is large.
pub async fn run<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes < limits::LARGE_BYTES {
        return work();
    }
    // The semaphore is never closed.
    let _turn = TURNS.acquire().await.ok();
    aside(work)
}

/// Does work on about as many bytes without a wait for a turn, during which it could be dropped.
pub fn at_once<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes < limits::LARGE_BYTES { work() } else { aside(work) }
}

/// Does work on about as many bytes for an org: in place if it is small, otherwise on an evaluation
/// thread, of which no org gets more than half. Errors: LIMIT_EXCEEDED if none is free in time.
pub async fn in_turn<T: Send + 'static>(
    bytes: usize,
    org_id: OrgId,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    if bytes < limits::TURN_BYTES {
        return Ok(work());
    }
    budget::run_for(EvaluationPool::Admission, Some(org_id.uuid()), move |_| work()).await
}

/// Polls work that passes about as many bytes to its writer: in place, or as `run` does.
pub async fn polled<F: Future>(bytes: usize, work: F) -> F::Output {
    let mut work = pin!(work);
    let is_large = bytes >= limits::LARGE_BYTES;
    poll_fn(|cx| if is_large { aside(|| work.as_mut().poll(cx)) } else { work.as_mut().poll(cx) }).await
}

/// Does work after giving the async thread's other tasks away, where there is another thread.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

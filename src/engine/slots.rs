//! Work that waits for an outside: each piece has a slot until what came of it is settled, and is settled as soon as it is
//! answered. One that gets no answer keeps its slot and nothing else: the others go on through the other slots.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::Wake;
use super::aside::guarded;
use crate::error::{Error, Result};
use crate::limits;

/// Work that is taken from a queue and waits for an outside.
pub(super) trait Lane: Send + Sync + 'static {
    /// A piece of it, claimed.
    type Taken: Send + Sync + 'static;
    /// The name in logs and metrics.
    const NAME: &'static str;
    /// The number of pieces in hand at once.
    fn slots(&self) -> u64;
    /// Claims what there is to do, up to so many.
    fn take(&self, most: u64) -> impl Future<Output = Result<Vec<Self::Taken>>> + Send;
    /// Does it, and settles each as soon as it is answered.
    fn finish(&self, taken: Vec<Self::Taken>, held: Held) -> impl Future<Output = Result<()>> + Send;
}

/// The slots of pieces in hand; each is free again once its piece is settled.
#[derive(Debug, Default)]
pub(super) struct Held {
    permit: Option<OwnedSemaphorePermit>,
    freed: Arc<Notify>,
}

impl Held {
    fn release(&mut self, count: usize) {
        drop(self.permit.as_mut().and_then(|permit| permit.split(count)));
        self.freed.notify_one();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.freed.notify_one();
    }
}

/// Does a lane's work, for ever: several turns at once, as long as slots are free.
pub(super) async fn run<L: Lane>(lane: L, mut wake: Wake) {
    let (lane, freed) = (Arc::new(lane), Arc::new(Notify::new()));
    let slots = usize::try_from(lane.slots()).unwrap_or(1).max(1);
    let free = Arc::new(Semaphore::new(slots));
    let mut turns: JoinSet<()> = JoinSet::new();
    loop {
        wake.look();
        let worked = match guarded(begin(&lane, &free, &freed, &mut turns, slots)).await {
            Ok(begun) => begun,
            Err(err) => {
                failed::<L>(&err);
                false
            }
        };
        while turns.try_join_next().is_some() {}
        let going = worked
            || tokio::select! {
                going = wake.wait() => going,
                // What is answered about the same time makes one turn of what comes next.
                () = freed.notified() => free.available_permits() == slots || wake.pause(limits::GATHER).await,
            };
        if wake.stopping() || !going {
            while turns.join_next().await.is_some() {}
            return;
        }
    }
}

fn failed<L: Lane>(err: &Error) {
    metrics::counter!("sortie_failed_ticks_total", "work" => L::NAME).increment(1);
    log_failure!(error, err, kind = L::NAME, "a tick failed");
}

/// Claims as much as there are free slots, and has it done beside what is in hand. Says whether there was any.
async fn begin<L: Lane>(
    lane: &Arc<L>,
    free: &Arc<Semaphore>,
    freed: &Arc<Notify>,
    turns: &mut JoinSet<()>,
    slots: usize,
) -> Result<bool> {
    // An outside that takes less than it might has the rest of the slots empty.
    let narrower = slots.saturating_sub(usize::try_from(lane.slots()).unwrap_or(1).max(1));
    let most = free.available_permits().saturating_sub(narrower);
    if most == 0 {
        return Ok(false);
    }
    let taken = lane.take(most as u64).await?;
    if taken.is_empty() {
        return Ok(false);
    }
    let count = u32::try_from(taken.len().min(most)).map_err(Error::ours)?;
    let permit = free.clone().try_acquire_many_owned(count).map_err(Error::ours)?;
    let (lane, held) = (lane.clone(), Held { permit: Some(permit), freed: freed.clone() });
    turns.spawn(async move {
        if let Err(err) = guarded(lane.finish(taken, held)).await {
            failed::<L>(&err);
        }
    });
    Ok(true)
}

/// Keeps answers as they come, each with its number: those that come about the same time together, while the others are
/// waited for. The first failure to keep some comes back, when all are through.
pub(super) async fn answered<'a, A, F, Kept>(answers: Vec<BoxFuture<'a, A>>, mut held: Held, keep: F) -> Result<()>
where
    A: Send + 'a,
    F: Fn(Vec<(usize, A)>) -> Kept + Send,
    Kept: Future<Output = Result<()>> + Send,
{
    let numbered = answers.into_iter().enumerate();
    let mut open: FuturesUnordered<_> =
        numbered.map(|(number, answer)| async move { (number, answer.await) }).collect();
    let (mut ready, mut outcome) = (Vec::new(), Ok(()));
    loop {
        if ready.is_empty() {
            let Some(first) = open.next().await else { return outcome };
            ready.push(first);
        }
        gather(&mut open, &mut ready, limits::GATHER).await;
        let count = ready.len();
        let mut keeping = Box::pin(keep(std::mem::take(&mut ready)));
        // Side by side: a hand-over that stands still while others are settled would be late for nothing.
        let kept = loop {
            tokio::select! {
                biased;
                kept = &mut keeping => break kept,
                Some(one) = open.next() => ready.push(one),
            }
        };
        outcome = outcome.and(kept);
        held.release(count);
    }
}

/// Adds what is answered within a time.
async fn gather<T>(open: &mut FuturesUnordered<impl Future<Output = T>>, ready: &mut Vec<T>, time: Duration) {
    let all = async {
        while let Some(one) = open.next().await {
            ready.push(one);
        }
    };
    let _ = tokio::time::timeout(time, all).await;
}

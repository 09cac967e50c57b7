//! Concurrency slots for work that waits for external systems. Each item occupies a slot until its
//! outcome is settled, and is settled as soon as it is answered. An item that gets no answer
//! occupies its own slot only: the others go on through the other slots.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use entity::id::OrgId;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::failed_work::guarded;
use super::wake::Wake;
use crate::kernel::error::{Error, Result};
use crate::kernel::limits;

/// Work that is taken from a queue and waits for an external system.
pub(super) trait QueueWorker: Send + Sync + 'static {
    /// A claimed work item.
    type Taken: Send + Sync + 'static;
    /// The name of the queue in logs and metrics.
    const NAME: &'static str;
    /// Maximum number of items in flight at once.
    fn slots(&self) -> u64;
    /// True if each org is limited to its share of the slots, since an org that chooses where its
    /// work goes may choose a system that lets all of it wait.
    fn is_shared(&self) -> bool;
    /// The org of an item.
    fn org(taken: &Self::Taken) -> OrgId;
    /// Claims due items, up to `most`, within the orgs' shares.
    fn take(&self, most: u64, shares: Option<&OrgSlots>) -> impl Future<Output = Result<Vec<Self::Taken>>> + Send;
    /// Performs the items and settles each as soon as it is answered.
    fn finish(&self, taken: Vec<Self::Taken>, held: SlotGuard) -> impl Future<Output = Result<()>> + Send;
}

/// The slots that each org occupies, and the number of free ones.
///
/// An org may take another slot as long as it occupies fewer than are free: alone it gets half of
/// them, and each further org whose work hangs gets half of the rest.
#[derive(Clone, Debug)]
pub(super) struct OrgSlots {
    free: u64,
    held: HashMap<OrgId, u64>,
}

impl OrgSlots {
    /// The number of slots that an org occupies.
    pub(super) fn held(&self, org: OrgId) -> u64 {
        self.held.get(&org).copied().unwrap_or_default()
    }

    /// Takes a slot for an org; false if the org has its share.
    pub(super) fn take(&mut self, org: OrgId) -> bool {
        let held = self.held.entry(org).or_default();
        let allowed = *held < self.free;
        if allowed {
            *held += 1;
            self.free -= 1;
        }
        allowed
    }

    /// The number of slots that an org may still take.
    pub(super) fn left(&self, org: OrgId) -> u64 {
        self.free.saturating_sub(self.held(org)).div_ceil(2)
    }

    /// The orgs that have their share.
    pub(super) fn full(&self) -> Vec<OrgId> {
        self.held.keys().copied().filter(|org| self.left(*org) == 0).collect()
    }
}

/// The number of items in flight, by org.
type SlotsInUse = Arc<Mutex<HashMap<OrgId, u64>>>;

/// The slots of items in flight. Each is released once its item is settled, the rest on drop.
#[derive(Debug, Default)]
pub(super) struct SlotGuard {
    permit: Option<OwnedSemaphorePermit>,
    freed: Arc<Notify>,
    /// The org of each item, by the item's index; `None` once the item's slot is released.
    orgs: Vec<Option<OrgId>>,
    in_flight_by_org: SlotsInUse,
}

impl SlotGuard {
    fn of(permit: OwnedSemaphorePermit, freed: Arc<Notify>, orgs: Vec<OrgId>, in_flight_by_org: SlotsInUse) -> Self {
        let mut all = in_flight_by_org.lock().unwrap_or_else(PoisonError::into_inner);
        for org in &orgs {
            *all.entry(*org).or_default() += 1;
        }
        drop(all);
        Self { permit: Some(permit), freed, orgs: orgs.into_iter().map(Some).collect(), in_flight_by_org }
    }

    /// Releases the slots of some items.
    fn release(&mut self, numbers: &[usize]) {
        let mut all = self.in_flight_by_org.lock().unwrap_or_else(PoisonError::into_inner);
        for number in numbers {
            let Some(org) = self.orgs.get_mut(*number).and_then(Option::take) else { continue };
            if let Some(count) = all.get_mut(&org) {
                *count = count.saturating_sub(1);
            }
        }
        all.retain(|_, count| *count > 0);
        drop(all);
        drop(self.permit.as_mut().and_then(|permit| permit.split(numbers.len())));
        self.freed.notify_one();
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        let open: Vec<usize> = (0..self.orgs.len()).filter(|number| self.orgs[*number].is_some()).collect();
        self.release(&open);
        drop(self.permit.take());
        self.freed.notify_one();
    }
}

/// Works off a queue until the engine stops: several batches at once, as long as slots are free.
pub(super) async fn run<L: QueueWorker>(worker: L, mut wake: Wake) {
    let (worker, freed) = (Arc::new(worker), Arc::new(Notify::new()));
    let slots = usize::try_from(worker.slots()).unwrap_or(1).max(1);
    let (free, in_flight_by_org) = (Arc::new(Semaphore::new(slots)), SlotsInUse::default());
    let mut batches: JoinSet<()> = JoinSet::new();
    loop {
        wake.mark_seen();
        let worked = match guarded(begin(&worker, &free, &freed, &in_flight_by_org, &mut batches, slots)).await {
            Ok(begun) => begun,
            Err(err) => {
                failed::<L>(&err);
                false
            }
        };
        while batches.try_join_next().is_some() {}
        let go_on = worked
            || tokio::select! {
                go_on = wake.wait() => go_on,
                // Waits a little, so that slots released at about the same time make one batch.
                () = freed.notified() => free.available_permits() == slots || wake.pause(limits::COLLECT_DELAY).await,
            };
        if wake.stopping() || !go_on {
            while batches.join_next().await.is_some() {}
            return;
        }
    }
}

fn failed<L: QueueWorker>(err: &Error) {
    metrics::counter!("sortie_failed_ticks_total", "work" => L::NAME).increment(1);
    log_failure!(error, err, kind = L::NAME, "an iteration of an engine loop failed");
}

/// Claims items for the free slots and spawns their batch. Returns false if there was nothing to
/// do.
async fn begin<L: QueueWorker>(
    worker: &Arc<L>,
    free: &Arc<Semaphore>,
    freed: &Arc<Notify>,
    in_flight_by_org: &SlotsInUse,
    batches: &mut JoinSet<()>,
    slots: usize,
) -> Result<bool> {
    // The worker may have fewer slots now than at the start; the difference stays unused.
    let narrower = slots.saturating_sub(usize::try_from(worker.slots()).unwrap_or(1).max(1));
    let most = free.available_permits().saturating_sub(narrower);
    if most == 0 {
        return Ok(false);
    }
    let shares = worker.is_shared().then(|| OrgSlots {
        free: most as u64,
        held: in_flight_by_org.lock().unwrap_or_else(PoisonError::into_inner).clone(),
    });
    let taken = worker.take(most as u64, shares.as_ref()).await?;
    if taken.is_empty() {
        return Ok(false);
    }
    let count = u32::try_from(taken.len().min(most)).map_err(Error::internal)?;
    let permit = free.clone().try_acquire_many_owned(count).map_err(Error::internal)?;
    let orgs = taken.iter().map(L::org).collect();
    let (worker, held) = (worker.clone(), SlotGuard::of(permit, freed.clone(), orgs, in_flight_by_org.clone()));
    batches.spawn(async move {
        if let Err(err) = guarded(worker.finish(taken, held)).await {
            failed::<L>(&err);
        }
    });
    Ok(true)
}

/// Passes answers to `settle` as they arrive, each with its index. Those that arrive at about the
/// same time are passed together, while the others are awaited. Returns the first failure of
/// `settle`, once all answers are through.
pub(super) async fn settle_as_answered<'a, A, F, Settling>(
    answers: Vec<BoxFuture<'a, A>>,
    mut held: SlotGuard,
    settle: F,
) -> Result<()>
where
    A: Send + 'a,
    F: Fn(Vec<(usize, A)>) -> Settling + Send,
    Settling: Future<Output = Result<()>> + Send,
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
        gather(&mut open, &mut ready, limits::COLLECT_DELAY).await;
        let numbers: Vec<usize> = ready.iter().map(|(number, _)| *number).collect();
        let mut settling = Box::pin(settle(std::mem::take(&mut ready)));
        // Both are polled concurrently, so that a settle in progress delays no other hand-over.
        let result = loop {
            tokio::select! {
                biased;
                result = &mut settling => break result,
                Some(answer) = open.next() => ready.push(answer),
            }
        };
        outcome = outcome.and(result);
        held.release(&numbers);
    }
}

/// Adds the answers that arrive within a time.
async fn gather<T>(open: &mut FuturesUnordered<impl Future<Output = T>>, ready: &mut Vec<T>, time: Duration) {
    let all = async {
        while let Some(answer) = open.next().await {
            ready.push(answer);
        }
    };
    let _ = tokio::time::timeout(time, all).await;
}

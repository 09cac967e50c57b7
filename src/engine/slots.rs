//! Work that waits for an outside: each piece has a slot until what came of it is settled, and is settled as soon as it is
//! answered. One that gets no answer keeps its slot and nothing else: the others go on through the other slots.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use entity::id::OrgId;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::Wake;
use super::failed_work::guarded;
use crate::kernel::error::{Error, Result};
use crate::kernel::limits;

/// Work that is taken from a queue and waits for an outside.
pub(super) trait QueueWorker: Send + Sync + 'static {
    /// A piece of it, claimed.
    type Taken: Send + Sync + 'static;
    /// The name in logs and metrics.
    const NAME: &'static str;
    /// The number of pieces in hand at once.
    fn slots(&self) -> u64;
    /// True if orgs share the slots: an org that decides where its work goes may let all of it wait.
    fn is_shared(&self) -> bool;
    /// The org of a piece.
    fn org(taken: &Self::Taken) -> OrgId;
    /// Claims what there is to do, up to so many, within the orgs' shares.
    fn take(&self, most: u64, shares: Option<&OrgSlots>) -> impl Future<Output = Result<Vec<Self::Taken>>> + Send;
    /// Does it, and settles each as soon as it is answered.
    fn finish(&self, taken: Vec<Self::Taken>, held: SlotGuard) -> impl Future<Output = Result<()>> + Send;
}

/// The slots that each org has in hand, and those that are free.
///
/// An org may have one more as long as it has fewer than are free: alone it has half of them, and each further one whose
/// work hangs takes half of what the others left.
#[derive(Clone, Debug)]
pub(super) struct OrgSlots {
    free: u64,
    held: HashMap<OrgId, u64>,
}

impl OrgSlots {
    /// The number of slots that an org has in hand.
    pub(super) fn held(&self, org: OrgId) -> u64 {
        self.held.get(&org).copied().unwrap_or_default()
    }

    /// Takes a slot for an org; false where it has its share.
    pub(super) fn take(&mut self, org: OrgId) -> bool {
        let held = self.held.entry(org).or_default();
        let may = *held < self.free;
        if may {
            *held += 1;
            self.free -= 1;
        }
        may
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

/// The number of pieces that each org has in hand.
type SlotsInUse = Arc<Mutex<HashMap<OrgId, u64>>>;

/// The slots of pieces in hand; each is free again once its piece is settled.
#[derive(Debug, Default)]
pub(super) struct SlotGuard {
    permit: Option<OwnedSemaphorePermit>,
    freed: Arc<Notify>,
    /// The org of each piece, by its number, as long as it is in hand.
    orgs: Vec<Option<OrgId>>,
    in_hand: SlotsInUse,
}

impl SlotGuard {
    fn of(permit: OwnedSemaphorePermit, freed: Arc<Notify>, orgs: Vec<OrgId>, in_hand: SlotsInUse) -> Self {
        let mut all = in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        for org in &orgs {
            *all.entry(*org).or_default() += 1;
        }
        drop(all);
        Self { permit: Some(permit), freed, orgs: orgs.into_iter().map(Some).collect(), in_hand }
    }

    /// Lets the slots of some pieces go.
    fn release(&mut self, numbers: &[usize]) {
        let mut all = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
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

/// Does a lane's work, for ever: several turns at once, as long as slots are free.
pub(super) async fn run<L: QueueWorker>(lane: L, mut wake: Wake) {
    let (lane, freed) = (Arc::new(lane), Arc::new(Notify::new()));
    let slots = usize::try_from(lane.slots()).unwrap_or(1).max(1);
    let (free, in_hand) = (Arc::new(Semaphore::new(slots)), SlotsInUse::default());
    let mut turns: JoinSet<()> = JoinSet::new();
    loop {
        wake.look();
        let worked = match guarded(begin(&lane, &free, &freed, &in_hand, &mut turns, slots)).await {
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

fn failed<L: QueueWorker>(err: &Error) {
    metrics::counter!("sortie_failed_ticks_total", "work" => L::NAME).increment(1);
    log_failure!(error, err, kind = L::NAME, "a tick failed");
}

/// Claims as much as there are free slots, and has it done beside what is in hand. Says whether there was any.
async fn begin<L: QueueWorker>(
    lane: &Arc<L>,
    free: &Arc<Semaphore>,
    freed: &Arc<Notify>,
    in_hand: &SlotsInUse,
    turns: &mut JoinSet<()>,
    slots: usize,
) -> Result<bool> {
    // An outside that takes less than it might has the rest of the slots empty.
    let narrower = slots.saturating_sub(usize::try_from(lane.slots()).unwrap_or(1).max(1));
    let most = free.available_permits().saturating_sub(narrower);
    if most == 0 {
        return Ok(false);
    }
    let shares = lane
        .is_shared()
        .then(|| OrgSlots { free: most as u64, held: in_hand.lock().unwrap_or_else(PoisonError::into_inner).clone() });
    let taken = lane.take(most as u64, shares.as_ref()).await?;
    if taken.is_empty() {
        return Ok(false);
    }
    let count = u32::try_from(taken.len().min(most)).map_err(Error::ours)?;
    let permit = free.clone().try_acquire_many_owned(count).map_err(Error::ours)?;
    let orgs = taken.iter().map(L::org).collect();
    let (lane, held) = (lane.clone(), SlotGuard::of(permit, freed.clone(), orgs, in_hand.clone()));
    turns.spawn(async move {
        if let Err(err) = guarded(lane.finish(taken, held)).await {
            failed::<L>(&err);
        }
    });
    Ok(true)
}

/// Keeps answers as they come, each with its number: those that come about the same time together, while the others are
/// waited for. The first failure to keep some comes back, when all are through.
pub(super) async fn answered<'a, A, F, Kept>(answers: Vec<BoxFuture<'a, A>>, mut held: SlotGuard, keep: F) -> Result<()>
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
        let numbers: Vec<usize> = ready.iter().map(|(number, _)| *number).collect();
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
        held.release(&numbers);
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

//! Execution time of live queries: each key and each org has a share of the machine. One over its
//! share gets its updates later and delays nobody else; no update is skipped.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::{CostAccount, Costs, OwnerUsage, Usage};
use crate::kernel::limits;

/// Time that was used and has not been paid back yet.
#[derive(Debug)]
pub struct TimeUsed {
    taken: Duration,
    at: Instant,
}

impl TimeUsed {
    /// No time used yet.
    pub fn new(now: Instant) -> Self {
        Self { taken: Duration::ZERO, at: now }
    }

    /// The wait until less time is used than the burst allows; none if work may continue. `cores`
    /// is the rate of paying back.
    pub fn wait(&mut self, now: Instant, cores: f64) -> Option<Duration> {
        let given_back = now.saturating_duration_since(self.at).mul_f64(cores);
        self.taken = self.taken.saturating_sub(given_back);
        self.at = now;
        let excess = self.taken.checked_sub(limits::LIVE_AT_ONCE).filter(|excess| !excess.is_zero())?;
        Some(excess.div_f64(cores).max(Duration::from_millis(1)))
    }

    /// True if some used time has not been paid back yet.
    pub fn owes(&self, now: Instant, cores: f64) -> bool {
        self.taken > now.saturating_duration_since(self.at).mul_f64(cores)
    }

    /// Records used time.
    pub fn take(&mut self, took: Duration) {
        self.taken = self.taken.saturating_add(took);
    }
}

/// Throttles an execution by the shares of its owner.
#[derive(Debug)]
pub struct Live {
    costs: Costs,
    account: CostAccount,
    /// The account of the last owner.
    held: Mutex<Option<OwnerUsage>>,
}

impl Costs {
    /// Creates the throttle of an execution, for as long as it runs.
    pub fn live(&self, account: CostAccount) -> Live {
        Live { costs: self.clone(), account, held: Mutex::default() }
    }
}

/// Number of cores of the machine.
pub(super) fn cores() -> f64 {
    static CORES: LazyLock<f64> =
        LazyLock::new(|| std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64));
    *CORES
}

impl Drop for Live {
    fn drop(&mut self) {
        let held = self.held.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(owner_usage) = held {
            let owner = owner_usage.owner;
            drop(owner_usage);
            self.costs.delete_expired(owner);
        }
    }
}

impl Live {
    /// Runs work, polling it only while its key and its org are within their shares.
    pub async fn paced<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        let mut rest: Option<Pin<Box<tokio::time::Sleep>>> = None;
        poll_fn(|cx| self.poll(work.as_mut(), &mut rest, cx)).await
    }

    fn poll<F: Future>(
        &self,
        work: Pin<&mut F>,
        rest: &mut Option<Pin<Box<tokio::time::Sleep>>>,
        cx: &mut Context<'_>,
    ) -> Poll<F::Output> {
        loop {
            if let Some(sleep) = rest {
                if sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                *rest = None;
            }
            let begun = Instant::now();
            let Some(wait) = self.wait(begun) else {
                let done = work.poll(cx);
                self.take(begun.elapsed());
                return done;
            };
            // The owner may have changed by then.
            *rest = Some(Box::pin(tokio::time::sleep(wait.min(limits::LIVE_LOOK))));
        }
    }

    /// The wait until the owner is within its shares; none if it is.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        let owner_usage = self.owner_usage();
        let key = time_used(&owner_usage.key).wait(now, cores() * limits::LIVE_OF_KEY);
        let org = time_used(&owner_usage.org).wait(now, cores() * limits::LIVE_OF_ORG);
        key.max(org)
    }

    /// Charges used time to the owner.
    pub fn take(&self, took: Duration) {
        let owner_usage = self.owner_usage();
        time_used(&owner_usage.key).take(took);
        time_used(&owner_usage.org).take(took);
    }

    fn owner_usage(&self) -> OwnerUsage {
        let owner = self.account.owner();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(owner_usage) = held.as_ref().filter(|owner_usage| owner_usage.owner == owner) {
            return owner_usage.clone();
        }
        let owner_usage = self.costs.owner_usage(owner);
        let before = held.replace(owner_usage.clone()).map(|before| before.owner);
        drop(held);
        if let Some(before) = before {
            self.costs.delete_expired(before);
        }
        owner_usage
    }
}

fn time_used(of: &Arc<Usage>) -> MutexGuard<'_, TimeUsed> {
    of.live.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for TimeUsed {
    fn default() -> Self {
        Self::new(Instant::now())
    }
}

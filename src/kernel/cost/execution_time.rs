//! The time that live executions take: a share of the machine for each key and each org. Who is over it is told later, and
//! holds up nobody else; nothing is left out.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::{Account, CostAccount, Costs, Usage};
use crate::kernel::limits;

/// Time that was taken, and is not given back yet.
#[derive(Debug)]
pub struct TimeUsed {
    taken: Duration,
    at: Instant,
}

impl TimeUsed {
    /// Nothing taken yet.
    pub fn new(now: Instant) -> Self {
        Self { taken: Duration::ZERO, at: now }
    }

    /// Returns the wait until less is taken than may be at once; none where one may go on. `cores` is how much of the
    /// machine is given back with time.
    pub fn wait(&mut self, now: Instant, cores: f64) -> Option<Duration> {
        let given_back = now.saturating_duration_since(self.at).mul_f64(cores);
        self.taken = self.taken.saturating_sub(given_back);
        self.at = now;
        let over = self.taken.checked_sub(limits::LIVE_AT_ONCE).filter(|over| !over.is_zero())?;
        Some(over.div_f64(cores).max(Duration::from_millis(1)))
    }

    /// Returns true if something that was taken is not given back yet.
    pub fn owes(&self, now: Instant, cores: f64) -> bool {
        self.taken > now.saturating_duration_since(self.at).mul_f64(cores)
    }

    /// Takes time.
    pub fn take(&mut self, took: Duration) {
        self.taken = self.taken.saturating_add(took);
    }
}

/// The paces of whoever an execution is counted for.
#[derive(Debug)]
pub struct Live {
    costs: Costs,
    payer: CostAccount,
    /// The purses of the one who paid last.
    held: Mutex<Option<Account>>,
}

impl Costs {
    /// The paces of an execution, for as long as it runs.
    pub fn live(&self, payer: CostAccount) -> Live {
        Live { costs: self.clone(), payer, held: Mutex::default() }
    }
}

/// The number of cores of the machine.
pub(super) fn cores() -> f64 {
    static CORES: LazyLock<f64> =
        LazyLock::new(|| std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64));
    *CORES
}

impl Drop for Live {
    fn drop(&mut self) {
        let held = self.held.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(paying) = held {
            let asker = paying.asker;
            drop(paying);
            self.costs.delete_expired(asker);
        }
    }
}

impl Live {
    /// Goes on with something only while its key and its org are within their shares.
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
            if let Some(resting) = rest {
                if resting.as_mut().poll(cx).is_pending() {
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
            // Another may pay by then.
            *rest = Some(Box::pin(tokio::time::sleep(wait.min(limits::LIVE_LOOK))));
        }
    }

    /// Returns the wait until whoever pays is within its shares; none where that is now.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        let paying = self.paying();
        let key = paces(&paying.key).wait(now, cores() * limits::LIVE_OF_KEY);
        let org = paces(&paying.org).wait(now, cores() * limits::LIVE_OF_ORG);
        key.max(org)
    }

    /// Takes time from whoever pays.
    pub fn take(&self, took: Duration) {
        let paying = self.paying();
        paces(&paying.key).take(took);
        paces(&paying.org).take(took);
    }

    fn paying(&self) -> Account {
        let asker = self.payer.asker();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(paying) = held.as_ref().filter(|paying| paying.asker == asker) {
            return paying.clone();
        }
        let paying = self.costs.paying(asker);
        let before = held.replace(paying.clone()).map(|before| before.asker);
        drop(held);
        if let Some(before) = before {
            self.costs.delete_expired(before);
        }
        paying
    }
}

fn paces(of: &Arc<Usage>) -> MutexGuard<'_, TimeUsed> {
    of.live.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for TimeUsed {
    fn default() -> Self {
        Self::new(Instant::now())
    }
}

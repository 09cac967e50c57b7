//! The time that live executions take: a share of the machine for each key and each org. Who is over it is told later, and
//! holds up nobody else; nothing is left out.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::{Asker, Costs, Purse};
use crate::limits;

/// Time that was taken, and is not given back yet.
#[derive(Debug)]
pub struct Pace {
    taken: Duration,
    at: Instant,
}

impl Pace {
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

    /// Takes time.
    pub fn take(&mut self, took: Duration) {
        self.taken = self.taken.saturating_add(took);
    }
}

/// The paces of one subscription's key and org.
#[derive(Clone, Debug)]
pub struct Live {
    key: Arc<Purse>,
    org: Arc<Purse>,
    cores: f64,
}

impl Costs {
    /// The paces of an asker, for as long as a subscription of theirs is open.
    pub fn live(&self, asker: Asker) -> Live {
        let (key, org) = self.purses(asker);
        let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
        Live { key, org, cores }
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
            *rest = Some(Box::pin(tokio::time::sleep(wait)));
        }
    }

    fn wait(&self, now: Instant) -> Option<Duration> {
        let key = paces(&self.key).wait(now, self.cores * limits::LIVE_OF_KEY);
        let org = paces(&self.org).wait(now, self.cores * limits::LIVE_OF_ORG);
        key.max(org)
    }

    fn take(&self, took: Duration) {
        paces(&self.key).take(took);
        paces(&self.org).take(took);
    }
}

fn paces(of: &Arc<Purse>) -> MutexGuard<'_, Pace> {
    of.live.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Pace {
    fn default() -> Self {
        Self::new(Instant::now())
    }
}

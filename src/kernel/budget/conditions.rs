//! The budget of the conditions that are evaluated within one transaction, which they hold up:
//! those before a step, which depend on locked rows.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{ALL_TIME, Steps};

/// Steps after which the clock is read in any case.
const CLOCK: u64 = 16;

/// The budget of a transaction's conditions. Each has the steps of one evaluation until together
/// they took [`ALL_TIME`]; then the remaining ones share the budget of one batch, and those beyond
/// it fail with a message.
#[derive(Debug)]
pub struct Conditions {
    spent: Mutex<Duration>,
    rest: Steps,
}

impl Default for Conditions {
    fn default() -> Self {
        Self { spent: Mutex::default(), rest: Steps::of_batch() }
    }
}

impl Conditions {
    /// Evaluates one condition, or a few that belong together.
    pub fn judge<T>(&self, work: impl FnOnce(&Steps) -> T) -> T {
        let spent = || self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let (begun, one) = (Instant::now(), Steps::of_one());
        let is_late = *spent() > ALL_TIME;
        if is_late {
            // Reads the clock, also for conditions without loops, which take no steps.
            self.rest.take(CLOCK);
        }
        let done = work(if is_late { &self.rest } else { &one });
        *spent() += begun.elapsed();
        done
    }
}

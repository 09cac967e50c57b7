//! Refusals of each key in its minute: the first are written one by one, what comes beyond is counted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use entity::AuditOutcome;

use super::Entry;
use crate::kernel::cost::CostOwner;
use crate::kernel::limits;

/// The minutes of all keys.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<CostOwner, Minute>>);

#[derive(Debug)]
struct Minute {
    begun: DateTime<Utc>,
    written: usize,
    beyond: Vec<RefusalCount>,
}

/// Refusals of one mutation with one outcome and code.
#[derive(Debug)]
pub(crate) struct RefusalCount {
    /// The first of them.
    pub(crate) entry: Arc<Entry>,
    pub(crate) outcome: AuditOutcome,
    pub(crate) code: Option<String>,
    pub(crate) at: DateTime<Utc>,
    pub(crate) times: i32,
}

impl Minute {
    fn is_over(&self, now: DateTime<Utc>) -> bool {
        (now - self.begun).abs() >= limits::AUDIT_MINUTE
    }

    fn count(&mut self, more: RefusalCount) {
        let same = |one: &&mut RefusalCount| {
            one.outcome == more.outcome && one.code == more.code && one.entry.mutation == more.entry.mutation
        };
        let kinds = self.beyond.len();
        if let Some(one) = self.beyond.iter_mut().find(same) {
            one.times = one.times.saturating_add(more.times);
        } else if kinds < limits::AUDIT_KINDS {
            self.beyond.push(more);
        } else if let Some(last) = self.beyond.last_mut() {
            // Names that somebody makes up are counted with the last.
            last.times = last.times.saturating_add(more.times);
        }
    }
}

impl Refusals {
    /// Counts a refusal: true if it is to be written by itself; and what is to be written of the key's last minute.
    pub(crate) fn take(
        &self,
        entry: &Arc<Entry>,
        outcome: AuditOutcome,
        code: Option<&str>,
        now: DateTime<Utc>,
    ) -> (bool, Vec<RefusalCount>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Minute { begun: now, written: 0, beyond: Vec::new() };
        let minute = all.entry(CostOwner::of(&entry.viewer)).or_insert_with(fresh);
        let over = if minute.is_over(now) { std::mem::replace(minute, fresh()).beyond } else { Vec::new() };
        if minute.written < limits::AUDIT_REFUSALS {
            minute.written += 1;
            return (true, over);
        }
        let code = code.map(str::to_owned);
        minute.count(RefusalCount { entry: entry.clone(), outcome, code, at: now, times: 1 });
        (false, over)
    }

    /// Counts again what was taken and could not be written.
    pub(crate) fn put_back(&self, over: Vec<RefusalCount>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for one in over {
            let begun = one.at;
            let fresh = || Minute { begun, written: 0, beyond: Vec::new() };
            all.entry(CostOwner::of(&one.entry.viewer)).or_insert_with(fresh).count(one);
        }
    }

    /// Takes what is to be written of all minutes that are over.
    pub(crate) fn over(&self, now: DateTime<Utc>) -> Vec<RefusalCount> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut over = Vec::new();
        all.retain(|_, minute| {
            let is_over = minute.is_over(now);
            if is_over {
                over.append(&mut minute.beyond);
            }
            !is_over
        });
        over
    }
}

//! Counts the rejections of each key per minute: the first are written one by one, further ones
//! only as counts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use entity::AuditOutcome;

use super::entry::Entry;
use crate::kernel::cost::CostOwner;
use crate::kernel::limits;

/// The current minute of each key.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<CostOwner, Minute>>);

#[derive(Debug)]
struct Minute {
    begun: DateTime<Utc>,
    written: usize,
    counts: Vec<RefusalCount>,
}

/// Rejections of one mutation with one outcome and code.
#[derive(Debug)]
pub(crate) struct RefusalCount {
    /// The first rejection.
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

    fn count(&mut self, added: RefusalCount) {
        let same = |one: &&mut RefusalCount| {
            one.outcome == added.outcome && one.code == added.code && one.entry.mutation == added.entry.mutation
        };
        let kinds = self.counts.len();
        if let Some(one) = self.counts.iter_mut().find(same) {
            one.times = one.times.saturating_add(added.times);
        } else if kinds < limits::AUDIT_KINDS {
            self.counts.push(added);
        } else if let Some(last) = self.counts.last_mut() {
            // Invented mutation names are counted with the last one.
            last.times = last.times.saturating_add(added.times);
        }
    }
}

impl Refusals {
    /// Counts a rejection: true if it must be written by itself, and the due counts of the key's
    /// previous minute.
    pub(crate) fn take(
        &self,
        entry: &Arc<Entry>,
        outcome: AuditOutcome,
        code: Option<&str>,
        now: DateTime<Utc>,
    ) -> (bool, Vec<RefusalCount>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new_minute = || Minute { begun: now, written: 0, counts: Vec::new() };
        let minute = all.entry(CostOwner::of(&entry.viewer)).or_insert_with(new_minute);
        let due = if minute.is_over(now) { std::mem::replace(minute, new_minute()).counts } else { Vec::new() };
        if minute.written < limits::AUDIT_REFUSALS {
            minute.written += 1;
            return (true, due);
        }
        let code = code.map(str::to_owned);
        minute.count(RefusalCount { entry: entry.clone(), outcome, code, at: now, times: 1 });
        (false, due)
    }

    /// Returns counts that could not be written.
    pub(crate) fn put_back(&self, due: Vec<RefusalCount>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for one in due {
            let begun = one.at;
            let new_minute = || Minute { begun, written: 0, counts: Vec::new() };
            all.entry(CostOwner::of(&one.entry.viewer)).or_insert_with(new_minute).count(one);
        }
    }

    /// Takes the counts of all minutes that are over.
    pub(crate) fn due(&self, now: DateTime<Utc>) -> Vec<RefusalCount> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        all.retain(|_, minute| {
            let is_over = minute.is_over(now);
            if is_over {
                due.append(&mut minute.counts);
            }
            !is_over
        });
        due
    }
}

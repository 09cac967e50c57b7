//! Failed logins: counted by reason, told in the log by address and minute, and slowed. Who was let in before is not held
//! up by what others of the same address do: only what was never found good is not looked at any more.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};

use chrono::{DateTime, Utc};
use entity::id::ApiKeyId;

use super::address_limits::Network;
use crate::kernel::limits;
use crate::kernel::viewer::Reason;

/// The failed logins of the window that is open.
#[derive(Debug, Default)]
pub struct Failures(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    begun: Option<DateTime<Utc>>,
    by: HashMap<Network, Seen>,
    others: u32,
    told: usize,
    audited: HashSet<ApiKeyId>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Those that slow down what follows.
    failed: u32,
    reasons: BTreeMap<Reason, u32>,
    /// Whether the log has a line of it in this window.
    told: bool,
}

impl Seen {
    fn all(&self) -> u32 {
        self.reasons.values().sum()
    }
}

impl Failures {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Counts one.
    pub fn count(&self, now: DateTime<Utc>, address: IpAddr, reason: Reason) {
        metrics::counter!("sortie_failed_logins_total", "reason" => reason.as_str()).increment(1);
        let mut table = self.lock();
        table.roll(now);
        let net = Network::from(address);
        if !table.by.contains_key(&net) && table.by.len() >= limits::FAILING_ADDRESSES {
            table.others = table.others.saturating_add(1);
            return;
        }
        let tell = table.told < limits::FAILING_TOLD;
        let seen = table.by.entry(net).or_default();
        *seen.reasons.entry(reason).or_default() += 1;
        // Who shows nothing costs nothing; and what was not looked at must not hold the brake for ever.
        if !matches!(reason, Reason::Missing | Reason::Slowed) {
            seen.failed += 1;
        }
        if tell && !seen.told {
            seen.told = true;
            table.told += 1;
            let reason = reason.as_str();
            tracing::warn!(address = %net, reason, "a login failed; further ones are told in a minute");
        }
    }

    /// How many seconds an address waits until new credentials of it are looked at; none: not at all.
    pub fn wait(&self, now: DateTime<Utc>, address: IpAddr) -> Option<u64> {
        let mut table = self.lock();
        table.roll(now);
        let braked = match table.by.get(&Network::from(address)) {
            Some(seen) => seen.failed >= limits::FAILED_LOGINS,
            None => table.others >= limits::FAILED_LOGINS_OTHERS,
        };
        let end = table.begun.filter(|_| braked)? + limits::FAILED_LOGINS_WINDOW;
        Some((end - now).num_seconds().max(1).unsigned_abs())
    }

    /// Whether it is the first time in the window that this key is shown in vain.
    pub fn is_first(&self, id: ApiKeyId) -> bool {
        let mut table = self.lock();
        table.audited.len() < limits::FAILING_ADDRESSES && table.audited.insert(id)
    }

    /// Ends the window if its time is over, and tells what was in it.
    pub fn roll(&self, now: DateTime<Utc>) {
        self.lock().roll(now);
    }
}

impl Table {
    fn roll(&mut self, now: DateTime<Utc>) {
        let open = |begun: DateTime<Utc>| begun <= now && now - begun < limits::FAILED_LOGINS_WINDOW;
        if self.begun.is_some_and(open) {
            return;
        }
        let mut ended: Vec<(Network, Seen)> = self.by.drain().collect();
        ended.sort_by_key(|(_, seen)| std::cmp::Reverse(seen.all()));
        // One failure was told when it came.
        let more = |seen: &Seen| !seen.told || seen.all() > 1;
        let (mut addresses, mut failures) = (0_u64, u64::from(self.others));
        let mut told = HashMap::new();
        for (net, seen) in ended.into_iter().filter(|(_, seen)| seen.all() > 0 && more(seen)) {
            if told.len() < limits::FAILING_TOLD {
                let each = seen.reasons.iter().map(|(reason, count)| format!("{} {count}", reason.as_str()));
                let reasons = each.collect::<Vec<_>>().join(", ");
                tracing::warn!(address = %net, count = seen.all(), reasons, "logins failed within a minute");
                // It has its line of this minute.
                told.insert(net, Seen { told: true, ..Seen::default() });
            } else {
                addresses += 1;
                failures += u64::from(seen.all());
            }
        }
        if failures > 0 {
            tracing::warn!(addresses, count = failures, "logins of further addresses failed within a minute");
        }
        *self = Self { begun: Some(now), told: told.len(), by: told, others: 0, audited: HashSet::new() };
    }
}

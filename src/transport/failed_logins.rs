//! Counts failed logins by reason, logs them by address and minute, and slows them down. Clients
//! with credentials that were valid before are not affected by failures of others at the same
//! address: only unseen credentials are rejected without a check.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};

use chrono::{DateTime, Utc};
use entity::id::ApiKeyId;

use super::address_limits::Network;
use crate::kernel::limits;
use crate::kernel::viewer::Reason;

/// The failed logins of the current window.
#[derive(Debug, Default)]
pub struct Failures(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    begun: Option<DateTime<Utc>>,
    by: HashMap<Network, Seen>,
    others: u32,
    logged: usize,
    audited: HashSet<ApiKeyId>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Failures that count towards slowing the address down.
    failed: u32,
    reasons: BTreeMap<Reason, u32>,
    /// True if the log has a line about the address in this window.
    logged: bool,
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

    /// Counts a failed login.
    pub fn count(&self, now: DateTime<Utc>, address: IpAddr, reason: Reason) {
        metrics::counter!("sortie_failed_logins_total", "reason" => reason.as_str()).increment(1);
        let mut table = self.lock();
        table.roll(now);
        let net = Network::from(address);
        if !table.by.contains_key(&net) && table.by.len() >= limits::FAILING_ADDRESSES {
            table.others = table.others.saturating_add(1);
            return;
        }
        let may_log = table.logged < limits::FAILING_TOLD;
        let seen = table.by.entry(net).or_default();
        *seen.reasons.entry(reason).or_default() += 1;
        // A request without credentials costs nothing; and a rejected login that was not checked
        // must not keep the address slowed down forever.
        if !matches!(reason, Reason::Missing | Reason::Slowed) {
            seen.failed += 1;
        }
        if may_log && !seen.logged {
            seen.logged = true;
            table.logged += 1;
            let reason = reason.as_str();
            tracing::warn!(address = %net, reason, "a login failed; further ones are logged in a minute");
        }
    }

    /// The seconds until new credentials from an address are checked again; `None` if they are now.
    pub fn wait(&self, now: DateTime<Utc>, address: IpAddr) -> Option<u64> {
        let mut table = self.lock();
        table.roll(now);
        let is_slowed = match table.by.get(&Network::from(address)) {
            Some(seen) => seen.failed >= limits::FAILED_LOGINS,
            None => table.others >= limits::FAILED_LOGINS_OTHERS,
        };
        let end = table.begun.filter(|_| is_slowed)? + limits::FAILED_LOGINS_WINDOW;
        Some((end - now).num_seconds().max(1).unsigned_abs())
    }

    /// True if it is the first failed login with this key in the window.
    pub fn is_first(&self, id: ApiKeyId) -> bool {
        let mut table = self.lock();
        table.audited.len() < limits::FAILING_ADDRESSES && table.audited.insert(id)
    }

    /// Ends the window if its time is over, and logs its failures.
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
        // A single failure was logged when it happened.
        let more = |seen: &Seen| !seen.logged || seen.all() > 1;
        let (mut addresses, mut failures) = (0_u64, u64::from(self.others));
        let mut logged = HashMap::new();
        for (net, seen) in ended.into_iter().filter(|(_, seen)| seen.all() > 0 && more(seen)) {
            if logged.len() < limits::FAILING_TOLD {
                let counts = seen.reasons.iter().map(|(reason, count)| format!("{} {count}", reason.as_str()));
                let reasons = counts.collect::<Vec<_>>().join(", ");
                tracing::warn!(address = %net, count = seen.all(), reasons, "logins failed within a minute");
                // The address has its line of the new window.
                logged.insert(net, Seen { logged: true, ..Seen::default() });
            } else {
                addresses += 1;
                failures += u64::from(seen.all());
            }
        }
        if failures > 0 {
            tracing::warn!(addresses, count = failures, "logins of further addresses failed within a minute");
        }
        *self = Self { begun: Some(now), logged: logged.len(), by: logged, others: 0, audited: HashSet::new() };
    }
}

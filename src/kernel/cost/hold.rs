//! The bytes that a request holds, charged to its key and its org.
//!
//! An org whose memory is full refuses the keys that hold much. One that holds little is admitted
//! all the same, from a reserve: the reserve is bounded, and so is each key's part of it, so that
//! no few keys use it up. What several keys share counts for the org alone; it finds room only in
//! the first half of the reserve, so that the rest is left to the keys.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use super::{CostOwner, Costs, Held, OwnerUsage, Request, busy, too_much};
use crate::kernel::error::Refusal;
use crate::kernel::limits;

impl Costs {
    /// Releases the bytes that a request held.
    pub(super) fn release(&self, mut held: Held) {
        held.shrink(0);
        let owner = held.owner_usage.owner;
        drop(held);
        self.delete_expired(owner);
    }
}

impl Held {
    /// Nothing yet, for an owner.
    fn nothing(owner_usage: OwnerUsage) -> Self {
        Self { owner_usage, bytes: 0, reserved: 0 }
    }

    /// Charges bytes; returns the totals of the key and of the org.
    fn grow(&mut self, bytes: usize) -> (usize, usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        let OwnerUsage { key, org, .. } = &self.owner_usage;
        let [key, org] = [key, org].map(|usage| usage.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes));
        (key, org)
    }

    /// Releases all but some bytes.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.bytes -= less;
        let unreserved = self.reserved.saturating_sub(self.bytes);
        self.reserved -= unreserved;
        self.owner_usage.key.bytes.fetch_sub(less, Ordering::Relaxed);
        self.owner_usage.org.bytes.fetch_sub(less, Ordering::Relaxed);
        self.owner_usage.org.reserved.fetch_sub(unreserved, Ordering::Relaxed);
    }

    /// Takes bytes from the org's reserve; false if there is no room, or none for this owner.
    fn reserve(&mut self, key_bytes: usize, bytes: usize, answer: usize) -> bool {
        let most = answer.saturating_mul(limits::RESERVE_ANSWERS);
        // The bytes of a key that are in the reserve are among those that it holds.
        let (is_small, room) = match self.owner_usage.owner.is_org() {
            true => (self.bytes <= answer / limits::RESERVE_PARTS, most / 2),
            false => (key_bytes <= answer / limits::RESERVE_PARTS, most),
        };
        let take = |reserved: usize| reserved.checked_add(bytes).filter(|reserved| *reserved <= room);
        let org = &self.owner_usage.org;
        let taken = is_small && org.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if taken {
            self.reserved += bytes;
        }
        taken
    }
}

impl Request {
    pub(super) fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases what it holds for its document and variables, but some bytes.
    pub fn shrink_input(&self, bytes: usize) {
        let bytes = if bytes <= limits::INPUT_FREE_BYTES { 0 } else { bytes };
        if let Some(held) = self.held().as_mut() {
            held.shrink(bytes);
        }
    }

    /// Charges all that it holds to its owner, if that has changed.
    pub fn follow_owner(&self) {
        let owner = self.account.owner();
        self.move_to(&mut self.held(), owner);
    }

    fn move_to(&self, held: &mut Option<Held>, owner: CostOwner) {
        let Some(mut before) = held.take_if(|held| held.owner_usage.owner != owner) else { return };
        let mut now = Held::nothing(self.costs.owner_usage(owner));
        now.grow(before.bytes);
        if owner.org == before.owner_usage.owner.org {
            now.reserved = std::mem::take(&mut before.reserved);
        }
        *held = Some(now);
        self.costs.release(before);
    }

    /// Charges bytes to its key and its org while it exists.
    pub(super) fn hold(&self, bytes: usize) -> Result<(), Refusal> {
        let answer = self.costs.0.answer_bytes;
        if bytes == 0 {
            return self.refusal().map_or(Ok(()), |refusal| Err(refusal.clone()));
        }
        let owner = self.account.owner();
        let mut held = self.held();
        self.move_to(&mut held, owner);
        let held = held.get_or_insert_with(|| Held::nothing(self.costs.owner_usage(owner)));
        let (key_bytes, org_bytes) = held.grow(bytes);
        // What is too much for one request alone is too much later, too.
        if held.bytes > answer.saturating_mul(limits::ANSWERS_PER_KEY) {
            let most = limits::ANSWERS_PER_KEY;
            return Err(self.end(too_much(format!("the request uses more memory than {most} answers may have"))));
        }
        let full = if key_bytes > answer.saturating_mul(limits::ANSWERS_PER_KEY) {
            Some(("key", limits::ANSWERS_PER_KEY))
        } else if org_bytes > answer.saturating_mul(limits::ANSWERS_PER_ORG) && !held.reserve(key_bytes, bytes, answer)
        {
            Some(("org", limits::ANSWERS_PER_ORG))
        } else {
            None
        };
        if let Some((scope, answers)) = full {
            self.end(busy(format!(
                "the running requests of this {scope} use more memory than {answers} answers may have"
            )));
        }
        self.refusal().map_or(Ok(()), |refusal| Err(refusal.clone()))
    }
}

//! The tail of the log in memory: the newest events of an org, filled by one reader, so that ten
//! thousand followers cost one read. A follower that is further behind reads the database until it
//! has caught up.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use entity::event::Model;
use entity::id::OrgId;
use tokio::sync::watch;

use crate::kernel::limits;

/// The tails with at least one follower, by org, and the size of their events in bytes.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    all: Mutex<HashMap<OrgId, Weak<Tail>>>,
    bytes: Arc<AtomicUsize>,
}

/// One org's tail.
#[derive(Debug)]
pub(super) struct Tail {
    ring: RwLock<Ring>,
    /// Position of the newest event in the ring.
    head: watch::Sender<i64>,
}

impl Tail {
    /// Position of the newest event.
    pub(super) fn head(&self) -> i64 {
        *self.head.borrow()
    }

    /// Wakes when events were added.
    pub(super) fn subscribe(&self) -> watch::Receiver<i64> {
        self.head.subscribe()
    }

    /// The next chunk after a position; `None` if that lies before the tail.
    pub(super) fn after(&self, position: i64) -> Option<Vec<Arc<Model>>> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).after(position)
    }

    /// Adds the next events, and wakes the followers.
    pub(super) fn push(&self, events: Vec<Model>) {
        let Some(last) = events.last().map(|event| event.position) else { return };
        self.ring.write().unwrap_or_else(PoisonError::into_inner).push(events);
        self.head.send_replace(last);
    }
}

#[derive(Debug)]
struct Ring {
    /// Position before the oldest event in the ring.
    before: i64,
    events: VecDeque<Arc<Model>>,
    /// Size of the events.
    bytes: usize,
    /// Size of the events of all rings.
    of_all: Arc<AtomicUsize>,
}

/// Approximate size of an event in memory.
fn size(event: &Model) -> usize {
    size_of::<Model>() + event.kind.len() + event.payload.bytes()
}

impl Ring {
    /// The next chunk after a position; `None` if that lies before the ring.
    fn after(&self, position: i64) -> Option<Vec<Arc<Model>>> {
        let skip = usize::try_from(position.checked_sub(self.before)?).ok()?;
        Some(self.events.iter().skip(skip).take(limits::FOLLOW_CHUNK).cloned().collect())
    }

    fn push(&mut self, events: Vec<Model>) {
        let added = events.iter().map(size).sum();
        self.bytes += added;
        self.of_all.fetch_add(added, Ordering::Relaxed);
        self.events.extend(events.into_iter().map(Arc::new));
        while self.is_full() {
            let Some(dropped) = self.events.pop_front() else { break };
            self.before = dropped.position;
            self.bytes -= size(&dropped);
            self.of_all.fetch_sub(size(&dropped), Ordering::Relaxed);
        }
    }

    fn is_full(&self) -> bool {
        self.events.len() > limits::RING
            || self.bytes > limits::RING_BYTES
            || self.bytes > limits::RING_LEAST_BYTES && self.of_all.load(Ordering::Relaxed) > limits::RINGS_BYTES
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.of_all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Tails {
    /// Size of the events in memory, all orgs together.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Number of followers, all orgs together.
    pub(crate) fn followers(&self) -> usize {
        self.lock().values().filter_map(Weak::upgrade).map(|tail| tail.head.receiver_count()).sum()
    }

    /// The org's tail, if it has a follower.
    pub(super) fn find(&self, org_id: OrgId) -> Option<Arc<Tail>> {
        self.lock().get(&org_id).and_then(Weak::upgrade)
    }

    /// The org's tail, and true if it is new; a new one begins after the log's head.
    pub(super) fn find_or_insert(&self, org_id: OrgId, head: i64) -> (Arc<Tail>, bool) {
        let mut all = self.lock();
        if let Some(tail) = all.get(&org_id).and_then(Weak::upgrade) {
            return (tail, false);
        }
        let ring = Ring { before: head, events: VecDeque::new(), bytes: 0, of_all: self.bytes.clone() };
        let ring = RwLock::new(ring);
        let tail = Arc::new(Tail { ring, head: watch::Sender::new(head) });
        all.insert(org_id, Arc::downgrade(&tail));
        (tail, true)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OrgId, Weak<Tail>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

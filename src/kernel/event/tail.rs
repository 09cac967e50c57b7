//! The tail of the log in memory: the newest events of an org, filled by one reader, so that ten
//! thousand followers cost one read. A follower that is further behind reads the database until it
//! has caught up.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use entity::event::Model;
use entity::id::OrgId;
use tokio::sync::watch;

use crate::kernel::limits;

/// The tails with at least one follower, by org.
#[derive(Debug, Default)]
pub(crate) struct Tails(Mutex<HashMap<OrgId, Weak<Tail>>>);

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
}

impl Ring {
    /// The next chunk after a position; `None` if that lies before the ring.
    fn after(&self, position: i64) -> Option<Vec<Arc<Model>>> {
        let skip = usize::try_from(position.checked_sub(self.before)?).ok()?;
        Some(self.events.iter().skip(skip).take(limits::FOLLOW_CHUNK).cloned().collect())
    }

    fn push(&mut self, events: Vec<Model>) {
        self.events.extend(events.into_iter().map(Arc::new));
        while self.events.len() > limits::RING {
            if let Some(dropped) = self.events.pop_front() {
                self.before = dropped.position;
            }
        }
    }
}

impl Tails {
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
        let ring = RwLock::new(Ring { before: head, events: VecDeque::new() });
        let tail = Arc::new(Tail { ring, head: watch::Sender::new(head) });
        all.insert(org_id, Arc::downgrade(&tail));
        (tail, true)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OrgId, Weak<Tail>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The tail of the log in memory: the newest events of an org, filled by one reader, so that ten
//! thousand followers cost one read. A follower that is further behind reads the database until it
//! has caught up.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use entity::event::Model;
use entity::id::OrgId;
use futures_util::Stream;
use tokio::sync::watch;

use crate::kernel::db::Db;
use crate::kernel::error::Result;
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;

/// The tails with at least one follower, by org.
#[derive(Debug, Default)]
pub(crate) struct Tails(Mutex<HashMap<OrgId, Weak<Tail>>>);

/// One org's tail.
#[derive(Debug)]
struct Tail {
    ring: RwLock<Ring>,
    /// Position of the newest event in the ring.
    head: watch::Sender<i64>,
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

    fn lock(&self) -> MutexGuard<'_, HashMap<OrgId, Weak<Tail>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The org's tail; its reader starts with the first follower and ends with the last.
    async fn of(db: &Db, viewer: &Viewer) -> Result<Arc<Tail>> {
        if let Some(tail) = db.tails().lock().get(&viewer.org_id).and_then(Weak::upgrade) {
            return Ok(tail);
        }
        let head = super::head(db, viewer).await?;
        let mut all = db.tails().lock();
        // Another task may have inserted it meanwhile.
        if let Some(tail) = all.get(&viewer.org_id).and_then(Weak::upgrade) {
            return Ok(tail);
        }
        let ring = RwLock::new(Ring { before: head, events: VecDeque::new() });
        let tail = Arc::new(Tail { ring, head: watch::Sender::new(head) });
        all.insert(viewer.org_id, Arc::downgrade(&tail));
        tokio::spawn(read(db.clone(), viewer.clone(), Arc::downgrade(&tail)));
        Ok(tail)
    }
}

/// Reads new events into the ring while there are followers.
async fn read(db: Db, viewer: Viewer, tail: Weak<Tail>) {
    let mut nudges = db.nudges();
    loop {
        // Marked before the read, so that a commit during it wakes the wait after it.
        nudges.mark_unchanged();
        let Some(tail) = tail.upgrade() else { return };
        let position = *tail.head.borrow();
        match super::after(&db, &viewer, position).await {
            Ok(events) => {
                if let Some(last) = events.last().map(|event| event.position) {
                    tail.ring.write().unwrap_or_else(PoisonError::into_inner).push(events);
                    tail.head.send_replace(last);
                    continue;
                }
            }
            Err(err) => log_failure!(error, err, "the event log could not be read; followers wait"),
        }
        drop(tail);
        let _ = tokio::time::timeout(limits::POLL, nudges.changed()).await;
    }
}

/// The log after a position, forever, in chunks.
pub(super) fn follow(db: Arc<Db>, viewer: Viewer, position: i64) -> impl Stream<Item = Result<Vec<Arc<Model>>>> + Send {
    let begin = Some((db, viewer, position, None::<(Arc<Tail>, watch::Receiver<i64>)>));
    futures_util::stream::unfold(begin, |state| async move {
        let (db, viewer, position, mut tail) = state?;
        loop {
            let (ring, head) = match &mut tail {
                Some((tail, head)) => (tail, head),
                None => match Tails::of(&db, &viewer).await {
                    Ok(found) => {
                        let head = found.head.subscribe();
                        let (ring, head) = tail.insert((found, head));
                        (ring, head)
                    }
                    Err(err) => return Some((Err(err), None)),
                },
            };
            head.mark_unchanged();
            let found = ring.ring.read().unwrap_or_else(PoisonError::into_inner).after(position);
            let events = match found {
                Some(events) => events,
                None => match super::after(&db, &viewer, position).await {
                    Ok(events) => events.into_iter().map(Arc::new).collect(),
                    Err(err) => return Some((Err(err), None)),
                },
            };
            if let Some(last) = events.last().map(|event| event.position) {
                return Some((Ok(events), Some((db, viewer, last, tail))));
            }
            let _ = tokio::time::timeout(limits::POLL, head.changed()).await;
        }
    })
}

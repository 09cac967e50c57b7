//! Follows the log. One reader per org fills its tail while there are followers.

use std::sync::{Arc, Weak};

use entity::event::Model;
use futures_util::Stream;
use tokio::sync::watch;

use super::tail::Tail;
use crate::kernel::db::Db;
use crate::kernel::error::Result;
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;

/// The org's tail; its reader starts with the first follower and ends with the last.
async fn tail_of(db: &Db, viewer: &Viewer) -> Result<Arc<Tail>> {
    if let Some(tail) = db.tails().find(viewer.org_id) {
        return Ok(tail);
    }
    let head = super::head(db, viewer).await?;
    // Another task may have inserted it meanwhile.
    let (tail, is_new) = db.tails().find_or_insert(viewer.org_id, head);
    if is_new {
        tokio::spawn(read(db.clone(), viewer.clone(), Arc::downgrade(&tail)));
    }
    Ok(tail)
}

/// Reads new events into the tail while there are followers.
async fn read(db: Db, viewer: Viewer, tail: Weak<Tail>) {
    let mut nudges = db.nudges();
    loop {
        // Marked before the read, so that a commit during it wakes the wait after it.
        nudges.mark_unchanged();
        let Some(tail) = tail.upgrade() else { return };
        match super::after(&db, &viewer, tail.head()).await {
            Ok(events) if !events.is_empty() => {
                tail.push(events);
                continue;
            }
            Ok(_) => {}
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
                None => match tail_of(&db, &viewer).await {
                    Ok(found) => {
                        let head = found.subscribe();
                        let (ring, head) = tail.insert((found, head));
                        (ring, head)
                    }
                    Err(err) => return Some((Err(err), None)),
                },
            };
            head.mark_unchanged();
            let events = match ring.after(position) {
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

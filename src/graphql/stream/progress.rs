//! The progress of one object: it is read again when the log has events of it; events that arrive
//! close together are one item.

use std::sync::Arc;

use async_graphql::{Context, Result};
use entity::event::Model as Event;
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt, stream};

use super::{Batches, LogScope, begin};
use crate::graphql::{db, viewer};
use crate::kernel::db::Db;
use crate::kernel::error;
use crate::kernel::event::{self as log, EventSelector, LogRange};
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;

/// An object whose progress is followed.
pub(super) trait Followed: Send + Sync + 'static {
    /// An item of the subscription.
    type Progress: Send;

    /// True for an event of the object.
    fn is_of(&self, event: &Event) -> bool;

    /// Events among which the object's last one is.
    fn last_events(&self) -> EventSelector;

    /// Reads the item at a position of the log, and if the object is open.
    fn read<'a>(
        &'a self,
        db: &'a Db,
        viewer: &'a Viewer,
        position: i64,
    ) -> BoxFuture<'a, error::Result<(Self::Progress, bool)>>;
}

/// The state of a subscriber to the progress of one object.
struct Follower<F> {
    db: Arc<Db>,
    viewer: Viewer,
    followed: F,
    batches: Batches,
    position: i64,
    scope: LogScope,
    at_once: bool,
    over: bool,
}

/// Returns the stream of an object's progress. The first item comes immediately, or after a cursor
/// with the object's next event; the stream ends with the object.
pub(super) async fn follow<F: Followed>(
    ctx: &Context<'_>,
    followed: F,
    is_open: bool,
    after: Option<String>,
) -> Result<impl Stream<Item = Result<F::Progress>> + use<F>> {
    let (db, viewer) = (db(ctx).clone(), viewer(ctx).clone());
    let has_after = after.is_some();
    let (position, scope, batches) = begin(ctx, after).await?;
    let at_once = !has_after && scope.0.from.is_none();
    if at_once {
        scope.forget_start();
    }
    let mut follower = Follower { db, viewer, followed, batches, position, scope, at_once, over: false };
    // One that has ended emits nothing after its last event: end instead of waiting.
    follower.over = !at_once && !is_open && !follower.has_event_left().await?;
    Ok(stream::unfold(follower, |mut follower| async move {
        let item = follower.next().await?;
        Some((item.map_err(Into::into), follower))
    }))
}

impl<F: Followed> Follower<F> {
    /// True if the log has an event of the object after the position.
    async fn has_event_left(&mut self) -> error::Result<bool> {
        let (selector, mut after) = (self.followed.last_events(), self.position);
        loop {
            let range = LogRange::first(limits::PAGE_MAX, after);
            let (events, has_more) = log::page(&self.db, &self.viewer, &selector, range).await?;
            if events.iter().any(|event| self.followed.is_of(event)) {
                return Ok(true);
            }
            match events.last() {
                Some(last) if has_more => after = last.position,
                _ => return Ok(false),
            }
        }
    }

    async fn next(&mut self) -> Option<error::Result<F::Progress>> {
        if self.over {
            return None;
        }
        let at_once = std::mem::replace(&mut self.at_once, false);
        if !at_once && let Err(err) = self.wait_for_event().await? {
            self.over = true;
            return Some(Err(err));
        }
        let found = self.followed.read(&self.db, &self.viewer, self.position).await;
        self.over = !found.as_ref().is_ok_and(|(_, is_open)| *is_open);
        if found.is_ok() {
            // Events that arrive during the pause are read in one batch: this coalesces them.
            if !at_once && !self.over {
                tokio::time::sleep(limits::PROGRESS_EVERY).await;
            }
            self.scope.set(self.position);
        }
        Some(found.map(|(progress, _)| progress))
    }

    /// Waits until the log has an event of the object; none if the log ends first.
    async fn wait_for_event(&mut self) -> Option<error::Result<()>> {
        loop {
            match self.batches.next().await? {
                Ok(batch) => {
                    self.position = batch.last().map_or(self.position, |event| event.position);
                    if batch.iter().any(|event| self.followed.is_of(event)) {
                        return Some(Ok(()));
                    }
                }
                Err(err) => return Some(Err(err)),
            }
        }
    }
}

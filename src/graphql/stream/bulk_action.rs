//! `bulkActionProgress`: a bulk action, read again when the log has events of it; events that arrive
//! close together are one item.

use std::sync::Arc;

use async_graphql::{Context, ID, Result, SimpleObject, Subscription as GraphqlSubscription};
use entity::id::BulkActionId;
use futures_util::{Stream, StreamExt, stream};

use super::{Batches, LogScope, begin, payload_value};
use crate::domain::bulk_action as noun;
use crate::graphql::bulk_action::BulkAction;
use crate::graphql::{db, viewer};
use crate::kernel::db::Db;
use crate::kernel::event as log;
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};

/// A bulk action at a position of the log.
#[derive(SimpleObject)]
pub struct BulkActionProgress {
    /// Position in the log; pass it as `after` to resume after this item.
    cursor: String,
    /// The bulk action in its current state.
    bulk_action: BulkAction,
}

/// Subscription to the progress of bulk actions.
#[derive(Default)]
#[doc(hidden)]
pub struct BulkActionSubscription;

#[GraphqlSubscription]
impl BulkActionSubscription {
    /// Progress of a bulk action: immediately, then after its events at most a few times per second,
    /// always including the last one; ends with the bulk action. With `after`, the first item of an
    /// open one is sent once there is an event after that cursor. Rejected with NOT_FOUND for an
    /// unknown bulk action.
    async fn bulk_action_progress(
        &self,
        ctx: &Context<'_>,
        id: ID,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<BulkActionProgress>> + use<>> {
        follow(ctx, validate::id("id", &id)?, after).await
    }
}

/// The state of a subscriber to one bulk action.
struct Follower {
    db: Arc<Db>,
    viewer: Viewer,
    id: BulkActionId,
    batches: Batches,
    position: i64,
    scope: LogScope,
    at_once: bool,
    over: bool,
}

async fn follow(
    ctx: &Context<'_>,
    id: BulkActionId,
    after: Option<String>,
) -> Result<impl Stream<Item = Result<BulkActionProgress>> + use<>> {
    let (db, viewer) = (db(ctx).clone(), viewer(ctx).clone());
    let found = noun::must_find(db.read(), &viewer, id).await?;
    let has_after = after.is_some();
    let (position, scope, batches) = begin(ctx, after).await?;
    let from_start = !has_after && scope.0.from.is_none();
    if from_start {
        scope.forget_start();
    }
    // One that has ended emits nothing any more: its state is the only item.
    let at_once = from_start || !found.status.is_open();
    let follower = Follower { db, viewer, id, batches, position, scope, at_once, over: false };
    Ok(stream::unfold(follower, |mut follower| async move {
        let item = follower.next().await?;
        Some((item.map_err(Into::into), follower))
    }))
}

impl Follower {
    async fn next(&mut self) -> Option<crate::kernel::error::Result<BulkActionProgress>> {
        if self.over {
            return None;
        }
        let at_once = std::mem::replace(&mut self.at_once, false);
        if !at_once && let Err(err) = self.wait_for_event().await? {
            self.over = true;
            return Some(Err(err));
        }
        let progress = self.read().await;
        self.over |= progress.is_err();
        if progress.is_ok() {
            // Events that arrive during the pause are read in one batch: this coalesces them.
            if !at_once && !self.over {
                tokio::time::sleep(limits::PROGRESS_EVERY).await;
            }
            self.scope.set(self.position);
        }
        Some(progress)
    }

    /// Waits until the log has an event of the bulk action; none if the log ends first.
    async fn wait_for_event(&mut self) -> Option<crate::kernel::error::Result<()>> {
        loop {
            match self.batches.next().await? {
                Ok(batch) => {
                    self.position = batch.last().map_or(self.position, |event| event.position);
                    let is_of_it = |event: &Arc<entity::event::Model>| {
                        event.kind.starts_with("bulk_action.") && payload_value(event, "bulkActionId") == Some(self.id)
                    };
                    if batch.iter().any(is_of_it) {
                        return Some(Ok(()));
                    }
                }
                Err(err) => return Some(Err(err)),
            }
        }
    }

    async fn read(&mut self) -> crate::kernel::error::Result<BulkActionProgress> {
        let found = noun::must_find(self.db.read(), &self.viewer, self.id).await?;
        self.over = !found.status.is_open();
        Ok(BulkActionProgress { cursor: log::cursor(found.org_id, self.position), bulk_action: BulkAction(found) })
    }
}

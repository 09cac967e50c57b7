//! `runProgress`: a run's progress, read again when the log has events of the run; events that
//! arrive close together are one item.

use std::sync::Arc;

use async_graphql::{Context, Result};
use entity::id::RunId;
use futures_util::{Stream, StreamExt, stream};

use super::{Batches, LogScope, begin};
use crate::domain::run as noun;
use crate::graphql::run::progress::RunProgress;
use crate::graphql::{db, viewer};
use crate::kernel::db::Db;
use crate::kernel::event::{self as log, EventSelector};
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;

/// The state of a subscriber to one run's progress.
struct Follower {
    db: Arc<Db>,
    viewer: Viewer,
    run: RunId,
    batches: Batches,
    position: i64,
    scope: LogScope,
    at_once: bool,
    over: bool,
}

/// Returns the stream of a run's progress. The first item comes immediately, or after a cursor with
/// the run's next event; the stream ends with the run.
pub(super) async fn follow(
    ctx: &Context<'_>,
    id: RunId,
    after: Option<String>,
) -> Result<impl Stream<Item = Result<RunProgress>> + use<>> {
    let (db, viewer) = (db(ctx).clone(), viewer(ctx).clone());
    let run = noun::must_find(db.read(), &viewer, id).await?;
    let has_after = after.is_some();
    let (position, scope, batches) = begin(ctx, after).await?;
    let at_once = !has_after && scope.0.from.is_none();
    if at_once {
        scope.forget_start();
    }
    let mut follower = Follower { db, viewer, run: id, batches, position, scope, at_once, over: false };
    // A run that has ended emits nothing after its last event: end instead of waiting.
    if !at_once && !run.status.is_open() {
        let selector = EventSelector { runs: Some(vec![id]), ..EventSelector::default() };
        let next = log::LogRange::first(1, position);
        follower.over = log::page(&follower.db, &follower.viewer, &selector, next).await?.0.is_empty();
    }
    Ok(stream::unfold(follower, |mut follower| async move {
        let item = follower.next().await?;
        Some((item.map_err(Into::into), follower))
    }))
}

impl Follower {
    async fn next(&mut self) -> Option<crate::kernel::error::Result<RunProgress>> {
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

    /// Waits until the log has an event of the run; none if the log ends first.
    async fn wait_for_event(&mut self) -> Option<crate::kernel::error::Result<()>> {
        loop {
            match self.batches.next().await? {
                Ok(batch) => {
                    self.position = batch.last().map_or(self.position, |event| event.position);
                    if batch.iter().any(|event| event.run_id == Some(self.run)) {
                        return Some(Ok(()));
                    }
                }
                Err(err) => return Some(Err(err)),
            }
        }
    }

    async fn read(&mut self) -> crate::kernel::error::Result<RunProgress> {
        let run = noun::must_find(self.db.read(), &self.viewer, self.run).await?;
        self.over = !run.status.is_open();
        RunProgress::read(&self.db, &self.viewer, &run, Some(log::cursor(run.org_id, self.position))).await
    }
}

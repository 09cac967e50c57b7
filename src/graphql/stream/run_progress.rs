//! `runProgress`: the progress of a run.

use async_graphql::{Context, Result};
use entity::event::Model as Event;
use entity::id::RunId;
use futures_util::Stream;
use futures_util::future::{BoxFuture, FutureExt};

use super::progress::{self, Followed};
use crate::domain::run as noun;
use crate::graphql::run::progress::RunProgress;
use crate::graphql::{db, viewer};
use crate::kernel::db::Db;
use crate::kernel::error;
use crate::kernel::event::{self as log, EventSelector};
use crate::kernel::viewer::Viewer;

/// Returns the stream of a run's progress. Errors: NOT_FOUND.
pub(super) async fn follow(
    ctx: &Context<'_>,
    id: RunId,
    after: Option<String>,
) -> Result<impl Stream<Item = Result<RunProgress>> + use<>> {
    let run = noun::must_find(db(ctx).read(), viewer(ctx), id).await?;
    progress::follow(ctx, FollowedRun(id), run.status.is_open(), after).await
}

struct FollowedRun(RunId);

impl Followed for FollowedRun {
    type Progress = RunProgress;

    fn is_of(&self, event: &Event) -> bool {
        event.run_id == Some(self.0)
    }

    fn last_events(&self) -> EventSelector {
        EventSelector { runs: Some(vec![self.0]), ..EventSelector::default() }
    }

    fn read<'a>(
        &'a self,
        db: &'a Db,
        viewer: &'a Viewer,
        position: i64,
    ) -> BoxFuture<'a, error::Result<(RunProgress, bool)>> {
        async move {
            let run = noun::must_find(db.read(), viewer, self.0).await?;
            let cursor = log::cursor(run.org_id, position);
            Ok((RunProgress::read(db, viewer, &run, Some(cursor)).await?, run.status.is_open()))
        }
        .boxed()
    }
}

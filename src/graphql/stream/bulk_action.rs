//! `bulkActionProgress`: the progress of a bulk action.

use async_graphql::{Context, ID, Result, SimpleObject, Subscription as GraphqlSubscription};
use entity::event::Model as Event;
use entity::id::BulkActionId;
use futures_util::Stream;
use futures_util::future::{BoxFuture, FutureExt};

use super::payload_value;
use super::progress::{self, Followed};
use crate::domain::bulk_action as noun;
use crate::graphql::bulk_action::BulkAction;
use crate::graphql::{db, viewer};
use crate::kernel::db::Db;
use crate::kernel::event::{self as log, EventSelector};
use crate::kernel::viewer::Viewer;
use crate::kernel::{error, validate};

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
    /// always including the last one; ends with the bulk action. With `after`, the first item is sent
    /// once there is an event after that cursor. Rejected with NOT_FOUND for an unknown bulk action.
    async fn bulk_action_progress(
        &self,
        ctx: &Context<'_>,
        id: ID,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<BulkActionProgress>> + use<>> {
        let id = validate::id("id", &id)?;
        let found = noun::must_find(db(ctx).read(), viewer(ctx), id).await?;
        progress::follow(ctx, FollowedBulkAction(id), found.status.is_open(), after).await
    }
}

struct FollowedBulkAction(BulkActionId);

impl Followed for FollowedBulkAction {
    type Progress = BulkActionProgress;

    fn is_of(&self, event: &Event) -> bool {
        event.kind.starts_with("bulk_action.") && payload_value(event, "bulkActionId") == Some(self.0)
    }

    fn last_events(&self) -> EventSelector {
        let kinds = ["bulk_action.completed", "bulk_action.stopped"].map(str::to_owned).to_vec();
        EventSelector { kinds: Some(kinds), ..EventSelector::default() }
    }

    fn read<'a>(
        &'a self,
        db: &'a Db,
        viewer: &'a Viewer,
        position: i64,
    ) -> BoxFuture<'a, error::Result<(BulkActionProgress, bool)>> {
        async move {
            let found = noun::must_find(db.read(), viewer, self.0).await?;
            let (cursor, is_open) = (log::cursor(found.org_id, position), found.status.is_open());
            Ok((BulkActionProgress { cursor, bulk_action: BulkAction(found) }, is_open))
        }
        .boxed()
    }
}

//! Activities in a run, as a subscription.

use std::sync::Arc;

use async_graphql::{Context, ID, Object, Result};
use chrono::{DateTime, Utc};
use entity::ActivityKind;
use entity::id::ActivityId;

use super::payload_value;
use crate::graphql::Actor;
use crate::graphql::activity::Activity;
use crate::graphql::loader::load;
use crate::kernel::event as log;

/// An activity took place in a run.
pub struct RunActivity(pub(super) Arc<entity::event::Model>);

/// An activity took place in a run.
#[Object]
impl RunActivity {
    /// Position in the log; pass it as `after` to resume after this item.
    async fn cursor(&self) -> String {
        log::cursor(self.0.org_id, self.0.position)
    }

    /// The stored activity; null if it no longer exists.
    async fn activity(&self, ctx: &Context<'_>) -> Result<Option<Activity>> {
        Ok(load(ctx, payload_value::<ActivityId>(&self.0, "activityId")).await?.map(Activity))
    }

    /// Kind of the activity; always set.
    async fn kind(&self) -> Option<ActivityKind> {
        payload_value(&self.0, "kind")
    }

    /// One-sentence summary; always set.
    async fn summary(&self) -> Option<String> {
        payload_value(&self.0, "summary")
    }

    /// Id of the step within which it took place; always set.
    async fn step_id(&self) -> Option<ID> {
        self.0.step_id.map(|id| id.to_string().into())
    }

    /// Id of the record; null if it is not about a record.
    async fn record_id(&self) -> Option<ID> {
        self.0.record_id.map(|id| id.to_string().into())
    }

    /// The actor.
    async fn actor(&self) -> Actor {
        self.0.actor.clone().into()
    }

    /// Time of the activity.
    async fn at(&self) -> DateTime<Utc> {
        self.0.at
    }
}

//! What somebody did in a run of guided work, as it happens.

use std::sync::Arc;

use async_graphql::{Context, ID, Object, Result};
use chrono::{DateTime, Utc};
use entity::ActivityKind;
use entity::id::ActivityId;

use super::told;
use crate::graphql::Actor;
use crate::graphql::activity::Activity;
use crate::graphql::loader::load;
use crate::kernel::event as log;

/// Somebody did something in a run of guided work.
pub struct RunActivity(pub(super) Arc<entity::event::Model>);

/// Somebody did something in a run of guided work.
#[Object]
impl RunActivity {
    /// Where it stands in the log; pass it as `after` to resume behind it.
    async fn cursor(&self) -> String {
        log::cursor(self.0.org_id, self.0.position)
    }

    /// The activity as it is kept; null where it is gone.
    async fn activity(&self, ctx: &Context<'_>) -> Result<Option<Activity>> {
        Ok(load(ctx, told::<ActivityId>(&self.0, "activityId")).await?.map(Activity))
    }

    /// What was done.
    async fn kind(&self) -> Option<ActivityKind> {
        told(&self.0, "kind")
    }

    /// The same as a sentence.
    async fn summary(&self) -> Option<String> {
        told(&self.0, "summary")
    }

    /// The step that it was done from.
    async fn step_id(&self) -> Option<ID> {
        self.0.step_id.map(|id| id.to_string().into())
    }

    /// The record that it was done to; null where it was about none.
    async fn record_id(&self) -> Option<ID> {
        self.0.record_id.map(|id| id.to_string().into())
    }

    /// Who did it.
    async fn actor(&self) -> Actor {
        self.0.actor.clone().into()
    }

    /// When.
    async fn at(&self) -> DateTime<Utc> {
        self.0.at
    }
}

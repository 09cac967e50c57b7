//! The plan's history.

use async_graphql::{ID, Json, Object};
use chrono::{DateTime, Utc};

use crate::graphql::Actor;

/// The plan as it was.
pub struct CampaignVersion(pub entity::campaign_version::Model);

/// The plan as it was.
#[Object]
impl CampaignVersion {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// 1, 2, 3 …
    async fn version(&self) -> i32 {
        self.0.version
    }

    /// What changed to make it: a list of `{field, from, to}`; empty for the first.
    async fn changes(&self) -> Json<serde_json::Value> {
        Json(self.0.changes.clone())
    }

    /// Who changed it.
    async fn actor(&self) -> Actor {
        self.0.actor.clone().into()
    }

    /// When.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }
}

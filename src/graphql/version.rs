//! The versions of what is changed: campaigns, message templates, writers.

use async_graphql::{ID, Json, Object};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::Actor;
use crate::graphql::counted::Counted;

/// What a version changed in one field.
#[derive(Deserialize)]
pub struct VersionChange {
    field: String,
    from: Value,
    to: Value,
}

/// What a version changed in one field.
#[Object]
impl VersionChange {
    /// The field, as the object has it; of a part, its id.
    async fn field(&self) -> &str {
        &self.field
    }

    /// What it was; null where there was nothing.
    async fn from(&self) -> Counted<Json<&Value>> {
        Counted(Json(&self.from))
    }

    /// What it became; null where there is nothing.
    async fn to(&self) -> Counted<Json<&Value>> {
        Counted(Json(&self.to))
    }
}

fn changes(told: &Value) -> Vec<VersionChange> {
    serde_json::from_value(told.clone()).unwrap_or_default()
}

macro_rules! versions {
    ($($(#[$doc:meta])* $object:ident of $table:ident;)*) => {$(
        $(#[$doc])*
        pub struct $object(pub entity::$table::Model);

        $(#[$doc])*
        #[Object]
        impl $object {
            /// The id.
            pub async fn id(&self) -> ID {
                self.0.id.to_string().into()
            }

            /// 1, 2, 3 …
            async fn version(&self) -> i32 {
                self.0.version
            }

            /// What changed to make it, field by field; empty for the first.
            async fn changes(&self) -> Vec<VersionChange> {
                changes(&self.0.changes)
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
    )*};
}

versions! {
    /// The plan as it was.
    CampaignVersion of campaign_version;
    /// A message template as it was.
    MessageTemplateVersion of message_template_version;
    /// A writer as it was.
    WriterVersion of writer_version;
}

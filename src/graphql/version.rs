//! Versions of campaigns, message templates and writers: author, time and changes.

use async_graphql::{ID, Json, Object};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::Actor;
use crate::graphql::counted::Counted;
use crate::graphql::selection::RowFields;

/// A version's change to one field.
#[derive(Deserialize)]
pub struct VersionChange {
    field: String,
    from: Value,
    to: Value,
}

/// A version's change to one field.
#[Object]
impl VersionChange {
    /// Name of the field on the object. For a part such as `goal`, the values are ids.
    async fn field(&self) -> &str {
        &self.field
    }

    /// Previous value; the JSON value null if there was none.
    async fn from(&self) -> Counted<Json<&Value>> {
        Counted(Json(&self.from))
    }

    /// New value; the JSON value null if there is none.
    async fn to(&self) -> Counted<Json<&Value>> {
        Counted(Json(&self.to))
    }
}

fn changes(value: &Value) -> Vec<VersionChange> {
    serde_json::from_value(value.clone()).unwrap_or_default()
}

// A macro because `#[Object]` takes an object's name and description from its type.
macro_rules! versions {
    ($($(#[$doc:meta])* $object:ident of $table:ident;)*) => {$(
        $(#[$doc])*
        pub struct $object(pub entity::$table::Model);

        impl RowFields for $object {}

        $(#[$doc])*
        #[Object]
        impl $object {
            /// Global id; `node(id)` accepts it.
            pub async fn id(&self) -> ID {
                self.0.id.to_string().into()
            }

            /// Version number: 1, 2, 3 …
            async fn version(&self) -> i32 {
                self.0.version
            }

            /// Changes from the previous version, one per field; empty for the first version.
            async fn changes(&self) -> Vec<VersionChange> {
                changes(&self.0.changes)
            }

            /// The actor that made the changes.
            async fn actor(&self) -> Actor {
                self.0.actor.clone().into()
            }

            /// Time of the changes.
            async fn created_at(&self) -> DateTime<Utc> {
                self.0.created_at
            }
        }
    )*};
}

versions! {
    /// A version of a campaign.
    CampaignVersion of campaign_version;
    /// A version of a message template.
    MessageTemplateVersion of message_template_version;
    /// A version of a writer.
    WriterVersion of writer_version;
}

//! The fields of a record whose values its row has.

use async_graphql::{InputType, Value};
use entity::columns::{Columns, PartialModel};

use super::Record;
use crate::graphql::selection::{RowFields, text};

impl RowFields for Record {
    fn row_field(&self, name: &str) -> Option<Value> {
        let row = &self.0;
        Some(match name {
            "id" => text(row.id),
            "kind" => row.kind.to_value(),
            "externalId" => row.external_id.to_value(),
            "name" => row.name.to_value(),
            "email" => row.email.to_value(),
            "phone" => row.phone.to_value(),
            "timeZone" => row.time_zone.to_value(),
            "stage" => row.stage.to_value(),
            "lastContactedAt" => row.last_contacted_at.to_value(),
            "priority" => row.priority.to_value(),
            "lastRepliedAt" => row.last_replied_at.to_value(),
            "unsubscribedAt" => row.unsubscribed_at.to_value(),
            "createdAt" => row.created_at.to_value(),
            "updatedAt" => row.updated_at.to_value(),
            "revision" => row.revision.to_value(),
            _ => return None,
        })
    }

    fn columns_of(name: &str) -> Option<Columns> {
        use entity::record::Column::*;
        Some(entity::record::Model::columns(match name {
            "id" => &[Id],
            "kind" => &[Kind],
            "externalId" => &[ExternalId],
            "name" => &[Name],
            "email" => &[Email],
            "phone" => &[Phone],
            "timeZone" => &[TimeZone],
            "stage" => &[Stage],
            "lastContactedAt" => &[LastContactedAt],
            "priority" => &[Priority],
            "lastRepliedAt" => &[LastRepliedAt],
            "unsubscribedAt" => &[UnsubscribedAt],
            "createdAt" => &[CreatedAt],
            "updatedAt" => &[UpdatedAt],
            "revision" => &[Revision],
            _ => return None,
        }))
    }
}

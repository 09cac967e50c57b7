//! The fields of a record whose values its row has.

use super::Record;
use crate::graphql::selection::text;

row_fields! {
    Record, entity::record, |row: 0|
    "id" [Id] => text(row.id),
    "kind" [Kind] => row.kind.to_value(),
    "externalId" [ExternalId] => row.external_id.to_value(),
    "name" [Name] => row.name.to_value(),
    "email" [Email] => row.email.to_value(),
    "phone" [Phone] => row.phone.to_value(),
    "timeZone" [TimeZone] => row.time_zone.to_value(),
    "stage" [Stage] => row.stage.to_value(),
    "lastContactedAt" [LastContactedAt] => row.last_contacted_at.to_value(),
    "priority" [Priority] => row.priority.to_value(),
    "lastRepliedAt" [LastRepliedAt] => row.last_replied_at.to_value(),
    "unsubscribedAt" [UnsubscribedAt] => row.unsubscribed_at.to_value(),
    "erasedAt" [ErasedAt] => row.erased_at.to_value(),
    "erasureCompletedAt" [ErasureCompletedAt] => row.erasure_completed_at.to_value(),
    "createdAt" [CreatedAt] => row.created_at.to_value(),
    "updatedAt" [UpdatedAt] => row.updated_at.to_value(),
    "revision" [Revision] => row.revision.to_value(),
    resolved from:

}

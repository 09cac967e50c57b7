//! The fields of a step whose values its row has.

use async_graphql::{InputType, Value};
use entity::columns::{Columns, PartialModel};

use super::Step;
use crate::graphql::selection::{RowFields, text};

impl RowFields for Step {
    fn row_field(&self, name: &str) -> Option<Value> {
        let row = &self.0;
        Some(match name {
            "id" => text(row.id),
            "key" => row.key.to_value(),
            "name" => row.name.to_value(),
            "type" => row.kind.to_value(),
            "sequence" => row.sequence.to_value(),
            "status" => row.status.to_value(),
            "contentSource" => row.content_source.to_value(),
            "trigger" => row.trigger.to_value(),
            "error" => row.error.to_value(),
            "reasonCode" => row.reason.to_value(),
            "assignedTo" => row.assigned_to.to_value(),
            "availableAt" => row.available_at.to_value(),
            "attemptCount" => row.attempt_count.to_value(),
            "maxAttempts" => row.max_attempts.to_value(),
            "leaseExpiresAt" => row.lease_expires_at.to_value(),
            "startedAt" => row.started_at.to_value(),
            "completedAt" => row.completed_at.to_value(),
            "assigneeRole" => row.assignee_role.to_value(),
            "dueAt" => row.due_at.to_value(),
            "overdueAt" => row.overdue_at.to_value(),
            "createdAt" => row.created_at.to_value(),
            "revision" => row.revision.to_value(),
            _ => return None,
        })
    }

    fn columns_of(name: &str) -> Option<Columns> {
        use entity::step::Column::*;
        Some(entity::step::Model::columns(match name {
            "id" => &[Id],
            "key" => &[Key],
            "name" => &[Name],
            "type" => &[Kind],
            "sequence" => &[Sequence],
            "status" => &[Status],
            "contentSource" => &[ContentSource],
            "trigger" => &[Trigger],
            "error" => &[Error],
            "reasonCode" => &[Reason],
            "assignedTo" => &[AssignedTo],
            "availableAt" => &[AvailableAt],
            "attemptCount" => &[AttemptCount],
            "maxAttempts" => &[MaxAttempts],
            "leaseExpiresAt" => &[LeaseExpiresAt],
            "startedAt" => &[StartedAt],
            "completedAt" => &[CompletedAt],
            "assigneeRole" => &[AssigneeRole],
            "dueAt" => &[DueAt],
            "overdueAt" => &[OverdueAt],
            "createdAt" => &[CreatedAt],
            "revision" => &[Revision],
            "run" => &[RunId],
            "record" => &[RunId, RecordId, RunRecordId],
            _ => return None,
        }))
    }
}

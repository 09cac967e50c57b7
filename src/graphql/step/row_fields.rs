//! The fields of a step whose values its row has.

use super::Step;
use crate::graphql::selection::text;

row_fields! {
    Step, entity::step, |row: 0|
    "id" [Id] => text(row.id),
    "key" [Key] => row.key.to_value(),
    "name" [Name] => row.name.to_value(),
    "type" [Kind] => row.kind.to_value(),
    "sequence" [Sequence] => row.sequence.to_value(),
    "status" [Status] => row.status.to_value(),
    "contentSource" [ContentSource] => row.content_source.to_value(),
    "trigger" [Trigger] => row.trigger.to_value(),
    "error" [Error] => row.error.to_value(),
    "reasonCode" [Reason] => row.reason.to_value(),
    "assignedTo" [AssignedTo] => row.assigned_to.to_value(),
    "availableAt" [AvailableAt] => row.available_at.to_value(),
    "attemptCount" [AttemptCount] => row.attempt_count.to_value(),
    "maxAttempts" [MaxAttempts] => row.max_attempts.to_value(),
    "leaseExpiresAt" [LeaseExpiresAt] => row.lease_expires_at.to_value(),
    "startedAt" [StartedAt] => row.started_at.to_value(),
    "completedAt" [CompletedAt] => row.completed_at.to_value(),
    "assigneeRole" [AssigneeRole] => row.assignee_role.to_value(),
    "dueAt" [DueAt] => row.due_at.to_value(),
    "overdueAt" [OverdueAt] => row.overdue_at.to_value(),
    "createdAt" [CreatedAt] => row.created_at.to_value(),
    "revision" [Revision] => row.revision.to_value(),
    resolved from:
    "run" [RunId],
    "record" [RunId, RecordId, RunRecordId],
}

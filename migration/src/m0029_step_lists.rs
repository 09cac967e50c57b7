//! Indexes the lists of steps by status, type, executor, role and record, and of those that are due;
//! the events of a step and of a record.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, DOWN).await
    }
}

const UP: &str = "
CREATE INDEX step_by_status ON step (org_id, status, id);
CREATE INDEX step_by_type ON step (org_id, kind, id);
CREATE INDEX step_by_executor ON step (org_id, assigned_to, id) WHERE assigned_to <> 'WORKFLOW';
CREATE INDEX step_by_role ON step (org_id, assignee_role, id) WHERE assignee_role IS NOT NULL;
CREATE INDEX step_by_record ON step (record_id, id) WHERE record_id IS NOT NULL;
CREATE INDEX step_open_due ON step (org_id, id)
    WHERE due_at IS NOT NULL AND status IN ('PENDING', 'QUEUED', 'IN_PROGRESS', 'AWAITING_APPROVAL');
CREATE INDEX event_by_step ON event (step_id, position) WHERE step_id IS NOT NULL;
CREATE INDEX event_by_record ON event (record_id, position) WHERE record_id IS NOT NULL;
";

const DOWN: &str = "
DROP INDEX event_by_record;
DROP INDEX event_by_step;
DROP INDEX step_open_due;
DROP INDEX step_by_record;
DROP INDEX step_by_role;
DROP INDEX step_by_executor;
DROP INDEX step_by_type;
DROP INDEX step_by_status;
";

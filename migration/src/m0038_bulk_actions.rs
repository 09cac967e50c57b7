//! Adds bulk actions with a result per target.

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

// A target refers to no row, since the ids that a client gives need not exist.
const UP: &str = "
CREATE TABLE bulk_action (
    id {uuid} NOT NULL PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    verb {text} NOT NULL CHECK (verb IN ('CANCEL_RUNS', 'RETRY_RUNS', 'PAUSE_RUNS', 'RESUME_RUNS',
        'APPROVE_STEPS', 'REJECT_STEPS', 'ASSIGN_STEPS', 'SKIP_STEPS')),
    status {text} NOT NULL CHECK (status IN ('PENDING', 'RUNNING', 'COMPLETED', 'STOPPED')),
    filter {json}, reason {text}, assignee_id {uuid},
    matched {int} NOT NULL, done {int} NOT NULL, refused {int} NOT NULL, failed {int} NOT NULL,
    created_by {json} NOT NULL,
    role {text} NOT NULL CHECK (role IN ('VIEWER', 'OPERATOR', 'REVIEWER', 'MANAGER', 'ADMIN', 'WORKER')),
    lease_owner {text}, lease_expires_at {time}, taken_at {time} NOT NULL,
    created_at {time} NOT NULL, started_at {time}, ended_at {time}, revision {int} NOT NULL
);
CREATE INDEX bulk_action_by_org ON bulk_action (org_id, id);
CREATE INDEX bulk_action_by_status ON bulk_action (org_id, status, id);
CREATE INDEX bulk_action_open ON bulk_action (org_id, taken_at, id) WHERE status IN ('PENDING', 'RUNNING');
CREATE TABLE bulk_result (
    bulk_action_id {uuid} NOT NULL REFERENCES bulk_action (id), sequence {int} NOT NULL,
    org_id {uuid} NOT NULL REFERENCES org (id), target_id {uuid} NOT NULL,
    status {text} NOT NULL CHECK (status IN ('PENDING', 'DONE', 'REFUSED', 'FAILED')),
    code {text}, message {text},
    PRIMARY KEY (bulk_action_id, sequence)
);
CREATE INDEX bulk_result_by_status ON bulk_result (bulk_action_id, status, sequence, target_id);
";

const DOWN: &str = "
DROP TABLE bulk_result;
DROP TABLE bulk_action;
";

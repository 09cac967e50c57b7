//! Indexes the engine's queues by org, so that orgs take turns.

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
DROP INDEX step_to_claim;
CREATE INDEX step_to_claim ON step (kind, org_id, available_at, id) WHERE status = 'QUEUED';
DROP INDEX posting_due;
CREATE INDEX posting_due ON posting (org_id, available_at, communication_id);
";

const DOWN: &str = "
DROP INDEX posting_due;
CREATE INDEX posting_due ON posting (available_at, communication_id);
DROP INDEX step_to_claim;
CREATE INDEX step_to_claim ON step (kind, available_at, id) WHERE status = 'QUEUED';
";

//! Indexes the engine's queues by the groups that are held together, so that a look passes over the
//! queued steps of a paused run, and over its messages, in one step each.

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
CREATE INDEX step_queued ON step (org_id, outside, kind, phase_id, available_at, id) WHERE status = 'QUEUED';
CREATE INDEX posting_by_run ON posting (org_id, run_id, available_at, communication_id);
CREATE INDEX posting_leased ON posting (lease_expires_at) WHERE lease_owner IS NOT NULL;
";

const DOWN: &str = "
DROP INDEX posting_leased;
DROP INDEX posting_by_run;
DROP INDEX step_queued;
";

//! Indexes the runs of a status in the order of their channel and of their type: lists of a million runs
//! sorted tens of thousands of rows for them.

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
CREATE INDEX run_by_status_channel ON run (org_id, status, channel, id);
CREATE INDEX run_by_status_type ON run (org_id, status, type, id);
";

const DOWN: &str = "
DROP INDEX run_by_status_type;
DROP INDEX run_by_status_channel;
";

//! Indexes the log by time and by kind.

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
CREATE INDEX event_by_time ON event (org_id, at, position);
CREATE INDEX event_by_kind ON event (org_id, kind, position);
";

const DOWN: &str = "
DROP INDEX event_by_kind;
DROP INDEX event_by_time;
";

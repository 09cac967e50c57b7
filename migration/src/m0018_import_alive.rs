//! Adds the time of a running import's last progress, by which an import whose process has ended is
//! found.

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
ALTER TABLE import ADD COLUMN alive_at {time};
CREATE INDEX import_running ON import (alive_at) WHERE status = 'RUNNING';
";

const DOWN: &str = "
DROP INDEX import_running;
ALTER TABLE import DROP COLUMN alive_at;
";

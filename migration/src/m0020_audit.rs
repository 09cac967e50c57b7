//! Adds the number of rejected requests that an audit entry stands for, and the index for deleting
//! old entries.

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
ALTER TABLE audit ADD COLUMN times {int} NOT NULL DEFAULT 1;
CREATE INDEX audit_by_time ON audit (at);
";

const DOWN: &str = "
DROP INDEX audit_by_time;
ALTER TABLE audit DROP COLUMN times;
";

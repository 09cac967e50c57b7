//! Marks runs whose messages a language model writes, so that those are drafted separately; adds
//! the index that finds a run's messages to an address.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseBackend;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, UP).await?;
        let kind = match manager.get_database_backend() {
            DatabaseBackend::Postgres => "instructions->>'writerKind'",
            _ => "json_extract(instructions, '$.writerKind')",
        };
        let sql =
            format!("UPDATE run SET by_model = true WHERE id IN (SELECT run_id FROM brief WHERE {kind} = 'AGENT')");
        crate::run(manager, &sql).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, DOWN).await
    }
}

const UP: &str = "
ALTER TABLE run ADD COLUMN by_model {bool} NOT NULL DEFAULT false;
CREATE INDEX communication_by_address ON communication (run_id, LOWER(to_address));
";

const DOWN: &str = "
DROP INDEX communication_by_address;
ALTER TABLE run DROP COLUMN by_model;
";

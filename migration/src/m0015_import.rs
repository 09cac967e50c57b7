//! Adds an import's columns as they were read, its warnings, and its number of omitted fields.

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
ALTER TABLE import ADD COLUMN fields_left_out {long} NOT NULL DEFAULT 0;
ALTER TABLE import ADD COLUMN columns {json} NOT NULL DEFAULT '[]';
ALTER TABLE import ADD COLUMN warnings {json} NOT NULL DEFAULT '[]';
";

const DOWN: &str = "
ALTER TABLE import DROP COLUMN warnings;
ALTER TABLE import DROP COLUMN columns;
ALTER TABLE import DROP COLUMN fields_left_out;
";

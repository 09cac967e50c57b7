//! Adds the order in which kept events occurred: the numbers of the first and the latest occurrence.

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
ALTER TABLE early_event ADD COLUMN number {long} NOT NULL DEFAULT 0;
ALTER TABLE early_event ADD COLUMN first_number {long} NOT NULL DEFAULT 0;
ALTER TABLE early_event ADD COLUMN first_at {time};
ALTER TABLE early_run_event ADD COLUMN number {long} NOT NULL DEFAULT 0;
ALTER TABLE early_run_event ADD COLUMN first_number {long} NOT NULL DEFAULT 0;
ALTER TABLE early_run_event ADD COLUMN first_at {time};
CREATE INDEX early_event_in_order ON early_event (run_id, number);
";

const DOWN: &str = "
DROP INDEX early_event_in_order;
ALTER TABLE early_run_event DROP COLUMN first_at;
ALTER TABLE early_run_event DROP COLUMN first_number;
ALTER TABLE early_run_event DROP COLUMN number;
ALTER TABLE early_event DROP COLUMN first_at;
ALTER TABLE early_event DROP COLUMN first_number;
ALTER TABLE early_event DROP COLUMN number;
";

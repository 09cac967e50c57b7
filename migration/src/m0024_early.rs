//! Adds events about records that occurred before their run created the steps that they stop or
//! start.

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
CREATE TABLE early_event (
    run_id {uuid} NOT NULL REFERENCES run (id), record_id {uuid} NOT NULL REFERENCES record (id) ON DELETE CASCADE,
    name {text} NOT NULL, org_id {uuid} NOT NULL REFERENCES org (id), at {time} NOT NULL,
    PRIMARY KEY (run_id, record_id, name)
);
";

const DOWN: &str = "
DROP TABLE early_event;
";

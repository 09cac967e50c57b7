//! Indexes the messages of a meeting in the order in which they were written; adds events about a
//! run as a whole.

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
CREATE INDEX communication_by_meeting ON communication (meeting_id, occasion, id) WHERE meeting_id IS NOT NULL;
CREATE TABLE early_run_event (
    run_id {uuid} NOT NULL REFERENCES run (id), name {text} NOT NULL, org_id {uuid} NOT NULL REFERENCES org (id),
    at {time} NOT NULL, PRIMARY KEY (run_id, name)
);
";

const DOWN: &str = "
DROP TABLE early_run_event;
DROP INDEX communication_by_meeting;
";

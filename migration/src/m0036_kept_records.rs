//! Adds the records that a process keeps as they were at its start: those of a bulk unsubscribe, and
//! the list of a run that still adds its recipients when the list changes. They do not refer to their
//! records: an insert would lock all of those.

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
        crate::run(manager, "DROP TABLE kept_record;\n").await
    }
}

const UP: &str = "
CREATE TABLE kept_record (
    owner_id {uuid} NOT NULL, record_id {uuid} NOT NULL, org_id {uuid} NOT NULL, PRIMARY KEY (owner_id, record_id)
);
";

//! Adds links between records, indexed newest first from both ends.

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

// Both records are of one org, so that the unique index needs no `org_id`.
const UP: &str = "
CREATE TABLE record_link (
    id {uuid} NOT NULL PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    from_id {uuid} NOT NULL REFERENCES record (id), to_id {uuid} NOT NULL REFERENCES record (id),
    role {text} NOT NULL, created_by {json} NOT NULL, created_at {time} NOT NULL,
    CHECK (from_id <> to_id)
);
CREATE UNIQUE INDEX record_link_once ON record_link (from_id, to_id, role);
CREATE INDEX record_link_by_org ON record_link (org_id, id);
CREATE INDEX record_link_of_from ON record_link (from_id, id);
CREATE INDEX record_link_of_to ON record_link (to_id, id);
";

const DOWN: &str = "
DROP TABLE record_link;
";

//! Adds saved views.

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

// A private view has an owner: without one, nobody would see it.
const UP: &str = "
CREATE TABLE saved_view (
    id {uuid} NOT NULL PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    owner_id {uuid} REFERENCES member (id),
    page {text} NOT NULL, name {text} NOT NULL, filter {json}, order_by {json}, settings {json},
    shared {bool} NOT NULL CHECK (shared OR owner_id IS NOT NULL),
    created_at {time} NOT NULL, updated_at {time} NOT NULL, revision {int} NOT NULL
);
CREATE UNIQUE INDEX saved_view_of_owner ON saved_view (owner_id, page, name) WHERE owner_id IS NOT NULL;
CREATE INDEX saved_view_of_page ON saved_view (org_id, page, name, id);
CREATE INDEX saved_view_by_name ON saved_view (org_id, name, id);
";

const DOWN: &str = "
DROP TABLE saved_view;
";

//! Adds the mark of sweeps that wait for the retry of their failed run, and an index of the others:
//! the engine's look passes over runs that failed and are never retried.

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
ALTER TABLE sweep ADD COLUMN held {bool} NOT NULL DEFAULT FALSE;
UPDATE sweep SET held = TRUE WHERE run_id IN (SELECT id FROM run WHERE status = 'FAILED');
CREATE INDEX sweep_free ON sweep (org_id, id) WHERE NOT held;
";

const DOWN: &str = "
DROP INDEX sweep_free;
ALTER TABLE sweep DROP COLUMN held;
";

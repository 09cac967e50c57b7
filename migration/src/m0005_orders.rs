//! Adds an index for each order of the lists, exactly as src/kernel/page.rs sorts: rows without a
//! time come last in either direction.

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
DROP INDEX run_by_scheduled_for;
CREATE INDEX run_by_scheduled_for ON run (org_id, (COALESCE(scheduled_for, {after_all})), id);
CREATE INDEX run_by_scheduled_for_down ON run (org_id, (COALESCE(scheduled_for, {before_all})), id);
CREATE INDEX run_by_started_at ON run (org_id, (COALESCE(started_at, {after_all})), id);
CREATE INDEX run_by_started_at_down ON run (org_id, (COALESCE(started_at, {before_all})), id);
CREATE INDEX run_by_status_created ON run (org_id, status, created_at, id);
CREATE INDEX record_by_last_contacted ON record (org_id, (COALESCE(last_contacted_at, {after_all})), id);
CREATE INDEX record_by_last_contacted_down ON record (org_id, (COALESCE(last_contacted_at, {before_all})), id);
";

const DOWN: &str = "
DROP INDEX record_by_last_contacted_down;
DROP INDEX record_by_last_contacted;
DROP INDEX run_by_status_created;
DROP INDEX run_by_started_at_down;
DROP INDEX run_by_started_at;
DROP INDEX run_by_scheduled_for_down;
DROP INDEX run_by_scheduled_for;
CREATE INDEX run_by_scheduled_for ON run (org_id, scheduled_for, id);
";

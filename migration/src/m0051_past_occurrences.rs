//! Adds indexes for the past occurrences of a schedule in the order of their times.

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
CREATE INDEX run_of_schedule_by_occurrence ON run (schedule_id, occurrence_at, id) WHERE occurrence_at IS NOT NULL;
CREATE INDEX run_of_schedule_by_backfill ON run (schedule_id, backfill_for, id) WHERE backfill_for IS NOT NULL;
CREATE INDEX unfired_by_time ON unfired (schedule_id, last_at, id);
";

const DOWN: &str = "
DROP INDEX unfired_by_time;
DROP INDEX run_of_schedule_by_backfill;
DROP INDEX run_of_schedule_by_occurrence;
";

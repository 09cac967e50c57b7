//! Adds bounds, a number of starts, a jitter, an overlap policy and timed pauses of schedules; runs
//! that wait for an earlier run of their schedule, or start for a time in the past; and the reasons
//! of occurrences that were skipped by name or because of an open run.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseBackend;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All or nothing: on SQLite a table is rebuilt.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        change_reasons(manager, WITHOUT, WITH).await?;
        crate::run(manager, UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, DOWN).await?;
        change_reasons(manager, WITH, WITHOUT).await
    }
}

async fn change_reasons(manager: &SchemaManager<'_>, from: &str, to: &str) -> Result<(), DbErr> {
    match manager.get_database_backend() {
        DatabaseBackend::Postgres => crate::replace_check_values(manager, "unfired", "reason", from, to).await,
        _ => crate::rebuild_table(manager, "unfired", from, to).await,
    }
}

const WITHOUT: &str = "CHECK (reason IN ('LATE', 'PAUSED', 'CANCELLED', 'NO_SUCH_LOCAL_TIME'))";
const WITH: &str = "CHECK (reason IN ('LATE', 'PAUSED', 'CANCELLED', 'NO_SUCH_LOCAL_TIME', 'SKIPPED', 'OVERLAP'))";

// Existing schedules keep their behaviour: each occurrence starts, whatever is open.
const UP: &str = "
ALTER TABLE schedule ADD COLUMN start_at {time};
ALTER TABLE schedule ADD COLUMN end_at {time};
ALTER TABLE schedule ADD COLUMN remaining {int} CHECK (remaining >= 0);
ALTER TABLE schedule ADD COLUMN jitter_seconds {int} NOT NULL DEFAULT 0 CHECK (jitter_seconds BETWEEN 0 AND 86400);
ALTER TABLE schedule ADD COLUMN overlap {text} NOT NULL DEFAULT 'ALLOW_ALL' CHECK (overlap IN ('SKIP', 'BUFFER_ONE', 'BUFFER_ALL', 'CANCEL_OTHER', 'ALLOW_ALL'));
ALTER TABLE schedule ADD COLUMN paused_until {time};
ALTER TABLE run ADD COLUMN buffered_at {time};
ALTER TABLE run ADD COLUMN backfill_for {time};
CREATE INDEX schedule_to_resume ON schedule (paused_until) WHERE status = 'PAUSED' AND paused_until IS NOT NULL;
CREATE INDEX schedule_by_next_at ON schedule (org_id, (COALESCE(next_at, {after_all})), id);
CREATE INDEX schedule_by_next_at_down ON schedule (org_id, (COALESCE(next_at, {before_all})), id);
CREATE INDEX run_buffered ON run (schedule_id) WHERE status = 'SCHEDULED' AND buffered_at IS NOT NULL;
CREATE INDEX run_of_schedule_open ON run (schedule_id) WHERE schedule_id IS NOT NULL AND status IN ('QUEUED', 'IN_PROGRESS', 'PAUSED');
";

// Runs that wait for an earlier one start at once: the previous schema knows no such wait.
const DOWN: &str = "
UPDATE schedule SET next_at = (SELECT MIN(r.scheduled_for) FROM run r WHERE r.schedule_id = schedule.id AND r.status = 'SCHEDULED') WHERE status = 'ACTIVE';
UPDATE unfired SET reason = 'CANCELLED' WHERE reason = 'SKIPPED';
UPDATE unfired SET reason = 'LATE' WHERE reason = 'OVERLAP';
DROP INDEX run_of_schedule_open;
DROP INDEX run_buffered;
DROP INDEX schedule_by_next_at_down;
DROP INDEX schedule_by_next_at;
DROP INDEX schedule_to_resume;
ALTER TABLE run DROP COLUMN backfill_for;
ALTER TABLE run DROP COLUMN buffered_at;
ALTER TABLE schedule DROP COLUMN paused_until;
ALTER TABLE schedule DROP COLUMN overlap;
ALTER TABLE schedule DROP COLUMN jitter_seconds;
ALTER TABLE schedule DROP COLUMN remaining;
ALTER TABLE schedule DROP COLUMN end_at;
ALTER TABLE schedule DROP COLUMN start_at;
";

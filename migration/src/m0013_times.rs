//! Adds pauses and catch-up policies of schedules, and records occurrences that did not start, one
//! row per stretch.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseBackend;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All or nothing: on SQLite the table is rebuilt.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        match manager.get_database_backend() {
            DatabaseBackend::Postgres => {
                crate::replace_check_values(manager, "schedule", "status", WITHOUT, WITH).await?
            }
            _ => crate::rebuild_table(manager, "schedule", WITHOUT, WITH).await?,
        }
        crate::run(manager, UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, DOWN).await?;
        match manager.get_database_backend() {
            DatabaseBackend::Postgres => {
                crate::replace_check_values(manager, "schedule", "status", WITH, WITHOUT).await
            }
            _ => crate::rebuild_table(manager, "schedule", WITH, WITHOUT).await,
        }
    }
}

const WITHOUT: &str = "status {text} NOT NULL CHECK (status IN ('ACTIVE', 'ENDED'))";
const WITH: &str = "status {text} NOT NULL CHECK (status IN ('ACTIVE', 'PAUSED', 'ENDED'))";

const UP: &str = "
ALTER TABLE schedule ADD COLUMN name {text};
ALTER TABLE schedule ADD COLUMN catch_up {text} NOT NULL DEFAULT 'LAST' CHECK (catch_up IN ('NONE', 'LAST', 'ALL'));
ALTER TABLE schedule ADD COLUMN catch_up_window_seconds {long};
ALTER TABLE schedule ADD COLUMN accounted_until {time};
ALTER TABLE schedule ADD COLUMN pattern_since {time};
ALTER TABLE schedule ADD COLUMN paused_at {time};
ALTER TABLE schedule ADD COLUMN ended_at {time};
ALTER TABLE schedule ADD COLUMN end_reason {text} CHECK (end_reason IN ('ENDED_BY_PERSON', 'EXHAUSTED', 'CAMPAIGN_CANCELLED', 'CAMPAIGN_COMPLETED'));
UPDATE schedule SET accounted_until = (SELECT MAX(r.occurrence_at) FROM run r WHERE r.schedule_id = schedule.id);
UPDATE schedule SET name = (SELECT r.name FROM run r WHERE r.schedule_id = schedule.id ORDER BY r.occurrence_at DESC LIMIT 1);
UPDATE schedule SET next_at = (SELECT MIN(r.scheduled_for) FROM run r WHERE r.schedule_id = schedule.id AND r.status = 'SCHEDULED') WHERE status = 'ACTIVE';
CREATE INDEX schedule_due ON schedule (next_at) WHERE status = 'ACTIVE';
CREATE INDEX run_of_schedule_waiting ON run (schedule_id, scheduled_for) WHERE status = 'SCHEDULED';
CREATE TABLE unfired (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    schedule_id {uuid} NOT NULL REFERENCES schedule (id),
    reason {text} NOT NULL CHECK (reason IN ('LATE', 'PAUSED', 'CANCELLED', 'NO_SUCH_LOCAL_TIME')),
    first_at {time} NOT NULL, last_at {time} NOT NULL, count {long} NOT NULL CHECK (count > 0), local_times {json},
    created_at {time} NOT NULL, CHECK (last_at >= first_at)
);
CREATE INDEX unfired_by_schedule ON unfired (schedule_id, id);
";

// Paused schedules become active: the previous schema has no pause, and their runs wait all the
// same.
const DOWN: &str = "
DROP TABLE unfired;
DROP INDEX run_of_schedule_waiting;
DROP INDEX schedule_due;
UPDATE schedule SET status = 'ACTIVE' WHERE status = 'PAUSED';
ALTER TABLE schedule DROP COLUMN end_reason;
ALTER TABLE schedule DROP COLUMN ended_at;
ALTER TABLE schedule DROP COLUMN paused_at;
ALTER TABLE schedule DROP COLUMN pattern_since;
ALTER TABLE schedule DROP COLUMN accounted_until;
ALTER TABLE schedule DROP COLUMN catch_up_window_seconds;
ALTER TABLE schedule DROP COLUMN catch_up;
ALTER TABLE schedule DROP COLUMN name;
";

//! Adds stuck work items, pauses of channels, and temporary refusals of messages.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All or nothing.
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
CREATE TABLE stuck (
    work {text} NOT NULL CHECK (work IN ('FIRE', 'BEGIN', 'SWEEP', 'CLOSE', 'TELL', 'RESCUE', 'CLAIM', 'SETTLE')),
    subject {uuid} NOT NULL, org_id {uuid} NOT NULL REFERENCES org (id), run_id {uuid} REFERENCES run (id),
    failures {int} NOT NULL, error {text} NOT NULL, since {time} NOT NULL, last_at {time} NOT NULL,
    next_try_at {time} NOT NULL,
    PRIMARY KEY (subject, work)
);
CREATE INDEX stuck_by_run ON stuck (run_id) WHERE run_id IS NOT NULL;
CREATE TABLE channel_pause (
    org_id {uuid} NOT NULL REFERENCES org (id), channel {text} NOT NULL CHECK (channel IN ('EMAIL', 'SMS', 'PHONE')),
    refused {json} NOT NULL, error {text} NOT NULL, tries {int} NOT NULL, since {time}, next_try_at {time},
    PRIMARY KEY (org_id, channel)
);
ALTER TABLE communication ADD COLUMN refusals {int} NOT NULL DEFAULT 0;
ALTER TABLE communication ADD COLUMN refused_since {time};
CREATE INDEX communication_refused ON communication (run_id) WHERE refusals > 0;
";

const DOWN: &str = "
DROP INDEX communication_refused;
ALTER TABLE communication DROP COLUMN refused_since;
ALTER TABLE communication DROP COLUMN refusals;
DROP TABLE channel_pause;
DROP TABLE stuck;
";

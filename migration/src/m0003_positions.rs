//! Lets events on Postgres have no position yet: the sequencer (src/kernel/event/sequencer.rs)
//! assigns it after the commit.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseBackend;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        match manager.get_database_backend() {
            DatabaseBackend::Postgres => crate::run(manager, UP).await,
            // SQLite's single writer assigns positions within its transaction.
            _ => Ok(()),
        }
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        match manager.get_database_backend() {
            DatabaseBackend::Postgres => crate::run(manager, DOWN).await,
            _ => Ok(()),
        }
    }
}

const UP: &str = "
ALTER TABLE event DROP CONSTRAINT event_pkey;
ALTER TABLE event ALTER COLUMN position DROP NOT NULL;
ALTER TABLE event ADD COLUMN sequence bigserial PRIMARY KEY;
ALTER TABLE event ADD COLUMN transaction xid8 NOT NULL DEFAULT pg_current_xact_id();
CREATE UNIQUE INDEX event_by_position ON event (org_id, position);
CREATE INDEX event_without_position ON event (sequence) WHERE position IS NULL;
";

// Events without a position get one first: nothing else writes while a migration is reverted.
const DOWN: &str = "
UPDATE event e SET position = c.position + n.number FROM event_counter c, (SELECT sequence, row_number() OVER (PARTITION BY org_id ORDER BY sequence) AS number FROM event WHERE position IS NULL) n WHERE n.sequence = e.sequence AND c.org_id = e.org_id;
UPDATE event_counter c SET position = (SELECT MAX(position) FROM event e WHERE e.org_id = c.org_id) WHERE EXISTS (SELECT 1 FROM event e WHERE e.org_id = c.org_id);
DROP INDEX event_without_position;
DROP INDEX event_by_position;
ALTER TABLE event DROP COLUMN transaction;
ALTER TABLE event DROP COLUMN sequence;
ALTER TABLE event ADD PRIMARY KEY (org_id, position);
";

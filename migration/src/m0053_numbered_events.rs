//! Indexes events of the log only once they have their position, on Postgres: an event is inserted
//! without one and gets it after the commit, so that each index was written twice. The index by run
//! stays whole: `sortie check` reads a run's events that have no position yet.

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
DROP INDEX event_by_campaign;
DROP INDEX event_by_kind;
DROP INDEX event_by_position;
DROP INDEX event_by_record;
DROP INDEX event_by_step;
DROP INDEX event_by_time;
CREATE INDEX event_by_campaign ON event (campaign_id, position) WHERE position IS NOT NULL AND campaign_id IS NOT NULL;
CREATE INDEX event_by_kind ON event (org_id, kind, position) WHERE position IS NOT NULL;
CREATE UNIQUE INDEX event_by_position ON event (org_id, position) WHERE position IS NOT NULL;
CREATE INDEX event_by_record ON event (record_id, position) WHERE position IS NOT NULL AND record_id IS NOT NULL;
CREATE INDEX event_by_step ON event (step_id, position) WHERE position IS NOT NULL AND step_id IS NOT NULL;
CREATE INDEX event_by_time ON event (org_id, at, position) WHERE position IS NOT NULL;
";

const DOWN: &str = "
DROP INDEX event_by_campaign;
DROP INDEX event_by_kind;
DROP INDEX event_by_position;
DROP INDEX event_by_record;
DROP INDEX event_by_step;
DROP INDEX event_by_time;
CREATE INDEX event_by_campaign ON event (campaign_id, position);
CREATE INDEX event_by_kind ON event (org_id, kind, position);
CREATE UNIQUE INDEX event_by_position ON event (org_id, position);
CREATE INDEX event_by_record ON event (record_id, position) WHERE record_id IS NOT NULL;
CREATE INDEX event_by_step ON event (step_id, position) WHERE step_id IS NOT NULL;
CREATE INDEX event_by_time ON event (org_id, at, position);
";

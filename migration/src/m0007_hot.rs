//! Adds indexes for frequent queries, and for those that were slow over a million runs
//! (benches/speed).

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
        crate::run(manager, UP).await?;
        match manager.get_database_backend() {
            DatabaseBackend::Postgres => crate::run(manager, SEARCH).await,
            _ => Ok(()),
        }
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() == DatabaseBackend::Postgres {
            crate::run(manager, "DROP INDEX IF EXISTS run_by_search;\n").await?;
        }
        crate::run(manager, DOWN).await
    }
}

// Queries of the engine after each commit; runs of one channel or type in other orders, or newest
// first.
const UP: &str = "
CREATE INDEX run_queued ON run (id) WHERE status = 'QUEUED';
CREATE INDEX run_by_channel_created ON run (org_id, channel, created_at, id);
CREATE INDEX run_by_channel_type ON run (org_id, channel, type, id);
CREATE INDEX run_by_type_channel ON run (org_id, type, channel, id);
";

const DOWN: &str = "
DROP INDEX run_by_type_channel;
DROP INDEX run_by_channel_type;
DROP INDEX run_by_channel_created;
DROP INDEX run_queued;
";

// Searches for any part of a name. If the extension can't be created, the search reads all rows, as
// it does on SQLite.
const SEARCH: &str = "
DO $$ BEGIN CREATE EXTENSION IF NOT EXISTS pg_trgm; EXECUTE 'CREATE INDEX run_by_search ON run USING gin (search gin_trgm_ops)'; EXCEPTION WHEN insufficient_privilege OR undefined_file OR feature_not_supported THEN RAISE NOTICE 'no pg_trgm'; END $$;
";

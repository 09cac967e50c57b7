//! Adds suppressions, idempotency keys, channel rates, retries, and sweeps over records.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseBackend;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All or nothing: on SQLite tables are rebuilt.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for word in WORDS {
            word.change(manager, word.before, word.after).await?;
        }
        let (null, not_null) = ("run_id {uuid} REFERENCES", "run_id {uuid} NOT NULL REFERENCES");
        match manager.get_database_backend() {
            DatabaseBackend::Postgres => {
                crate::run(manager, "ALTER TABLE sweep ALTER COLUMN run_id DROP NOT NULL").await?;
            }
            _ => crate::rebuild_table(manager, "sweep", not_null, null).await?,
        }
        crate::run(manager, include_str!("m0002_trust.sql")).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, DOWN).await?;
        let (null, not_null) = ("run_id {uuid} REFERENCES", "run_id {uuid} NOT NULL REFERENCES");
        match manager.get_database_backend() {
            DatabaseBackend::Postgres => {
                crate::run(manager, "ALTER TABLE sweep ALTER COLUMN run_id SET NOT NULL").await?;
            }
            _ => crate::rebuild_table(manager, "sweep", null, not_null).await?,
        }
        for word in WORDS {
            word.change(manager, word.after, word.before).await?;
        }
        Ok(())
    }
}

/// The values that a column's CHECK allows, before and after.
struct Words {
    table: &'static str,
    column: &'static str,
    before: &'static str,
    after: &'static str,
}

const WORDS: &[Words] = &[
    Words {
        table: "communication",
        column: "status",
        before: "'FAILED', 'UNKNOWN', 'CANCELLED')",
        after: "'FAILED', 'SUPPRESSED', 'UNKNOWN', 'CANCELLED')",
    },
    Words {
        table: "run_record",
        column: "outcome",
        before: "'FAILED', 'SKIPPED', 'UNKNOWN')",
        after: "'FAILED', 'SUPPRESSED', 'SKIPPED', 'UNKNOWN')",
    },
    Words {
        table: "sweep",
        column: "kind",
        before: "'REDRAFT', 'CANCEL')",
        after: "'REDRAFT', 'CANCEL', 'RETRY', 'UNSUBSCRIBE')",
    },
];

impl Words {
    async fn change(&self, manager: &SchemaManager<'_>, from: &str, to: &str) -> Result<(), DbErr> {
        match manager.get_database_backend() {
            DatabaseBackend::Postgres => crate::replace_check_values(manager, self.table, self.column, from, to).await,
            _ => crate::rebuild_table(manager, self.table, from, to).await,
        }
    }
}

const DOWN: &str = "
DROP INDEX IF EXISTS run_record_by_record;
DROP TABLE IF EXISTS channel_rate;
DROP TABLE IF EXISTS idempotency_key;
DROP TABLE IF EXISTS suppression;
UPDATE communication SET status = 'CANCELLED' WHERE status = 'SUPPRESSED';
UPDATE run_record SET outcome = 'SKIPPED' WHERE outcome = 'SUPPRESSED';
DELETE FROM sweep WHERE kind IN ('RETRY', 'UNSUBSCRIBE');
ALTER TABLE sweep DROP COLUMN detail;
ALTER TABLE task DROP COLUMN retrying;
";

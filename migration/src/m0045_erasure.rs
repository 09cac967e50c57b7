//! Adds the times of a record's erasure, and permits the sweep that empties what is personal.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseBackend;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const KINDS: &str = "'CLOSE', 'FOLLOW')";
const WITH_ERASE: &str = "'CLOSE', 'FOLLOW', 'ERASE')";

const UP: &str = "
ALTER TABLE record ADD COLUMN erased_at {time};
ALTER TABLE record ADD COLUMN erasure_completed_at {time};
CREATE INDEX record_erased ON record (org_id, id) WHERE erased_at IS NOT NULL;
";

// What has been emptied stays so; an erasure that is still in progress ends where it is.
const DOWN: &str = "
DELETE FROM sweep WHERE kind = 'ERASE';
DROP INDEX record_erased;
ALTER TABLE record DROP COLUMN erasure_completed_at;
ALTER TABLE record DROP COLUMN erased_at;
";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, UP).await?;
        change(manager, KINDS, WITH_ERASE).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, DOWN).await?;
        change(manager, WITH_ERASE, KINDS).await
    }
}

async fn change(manager: &SchemaManager<'_>, from: &str, to: &str) -> Result<(), DbErr> {
    match manager.get_database_backend() {
        DatabaseBackend::Postgres => crate::replace_check_values(manager, "sweep", "kind", from, to).await,
        _ => crate::rebuild_table(manager, "sweep", from, to).await,
    }
}

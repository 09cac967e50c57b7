//! Permits the sweep that enqueues a fan-out's steps whose single step before completes after all.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseBackend;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const KINDS: &str = "'UNSUBSCRIBE', 'CLOSE')";
const WITH_FOLLOW: &str = "'UNSUBSCRIBE', 'CLOSE', 'FOLLOW')";

const DOWN: &str = "
UPDATE task SET fan_out_done = TRUE WHERE id IN (SELECT task_id FROM sweep WHERE kind = 'FOLLOW');
DELETE FROM sweep WHERE kind = 'FOLLOW';
";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        change(manager, KINDS, WITH_FOLLOW).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, DOWN).await?;
        change(manager, WITH_FOLLOW, KINDS).await
    }
}

async fn change(manager: &SchemaManager<'_>, from: &str, to: &str) -> Result<(), DbErr> {
    match manager.get_database_backend() {
        DatabaseBackend::Postgres => crate::replace_check_values(manager, "sweep", "kind", from, to).await,
        _ => crate::rebuild_table(manager, "sweep", from, to).await,
    }
}

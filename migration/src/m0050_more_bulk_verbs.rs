//! Permits the bulk verbs of messages and campaigns, adds the resolution of the messages, and an
//! index for the retention of bulk actions.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseBackend;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const VERBS: &str = "'ASSIGN_STEPS', 'SKIP_STEPS')";
const MORE_VERBS: &str = "'ASSIGN_STEPS', 'SKIP_STEPS', 'RESOLVE_COMMUNICATIONS', 'ARCHIVE_CAMPAIGNS')";
const RESOLUTION: &str = "resolution {text} CHECK (resolution IN ('SENT', 'SEND_AGAIN', 'NOT_SENT'))";

const UP: &str = "
ALTER TABLE bulk_action ADD COLUMN resolution {text} CHECK (resolution IN ('SENT', 'SEND_AGAIN', 'NOT_SENT'));
CREATE INDEX bulk_action_ended ON bulk_action (ended_at, id) WHERE ended_at IS NOT NULL;
";

const DELETE: &str = "
DROP INDEX bulk_action_ended;
DELETE FROM bulk_result WHERE bulk_action_id IN
    (SELECT id FROM bulk_action WHERE verb IN ('RESOLVE_COMMUNICATIONS', 'ARCHIVE_CAMPAIGNS'));
DELETE FROM bulk_action WHERE verb IN ('RESOLVE_COMMUNICATIONS', 'ARCHIVE_CAMPAIGNS');
";

const DROP: &str = "
ALTER TABLE bulk_action DROP COLUMN resolution;
";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        change(manager, VERBS, MORE_VERBS).await?;
        crate::run(manager, UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, DELETE).await?;
        if manager.get_database_backend() == DatabaseBackend::Sqlite {
            // A column with a CHECK can't be dropped.
            crate::rebuild_table(manager, "bulk_action", RESOLUTION, "resolution {text}").await?;
        }
        crate::run(manager, DROP).await?;
        change(manager, MORE_VERBS, VERBS).await
    }
}

async fn change(manager: &SchemaManager<'_>, from: &str, to: &str) -> Result<(), DbErr> {
    match manager.get_database_backend() {
        DatabaseBackend::Postgres => crate::replace_check_values(manager, "bulk_action", "verb", from, to).await,
        _ => crate::rebuild_table(manager, "bulk_action", from, to).await,
    }
}

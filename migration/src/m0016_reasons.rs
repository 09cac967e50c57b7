//! Sets missing reason codes: of steps without a sentence, since a person may skip one without a
//! reason, and of steps carried over by a repeat, which had only the sentence for a while.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, UP).await
    }

    /// Nothing to revert: the codes are valid in the previous schema, too.
    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Ok(())
    }
}

const UP: &str = "
UPDATE step SET reason = CASE WHEN error LIKE 'done in run_%' THEN 'CARRIED_OVER' ELSE 'PERSON' END
WHERE status = 'SKIPPED' AND reason IS NULL;
UPDATE step SET reason = 'WORK_FAILED' WHERE status = 'FAILED' AND reason IS NULL;
";

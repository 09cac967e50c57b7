//! Reasons of steps that had neither a sentence nor a code: a person who skipped one need not say why. And of those that a
//! repeat took over, which were kept with the sentence alone for a while.

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

    /// What is true now was true before.
    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Ok(())
    }
}

const UP: &str = "
UPDATE step SET reason = CASE WHEN error LIKE 'done in run_%' THEN 'CARRIED_OVER' ELSE 'PERSON' END
WHERE status = 'SKIPPED' AND reason IS NULL;
UPDATE step SET reason = 'WORK_FAILED' WHERE status = 'FAILED' AND reason IS NULL;
";

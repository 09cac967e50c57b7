//! Stores with an idempotency key what a repeated request returns besides the object: the refusals of
//! `settleSteps`. Keys from before have none.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, "ALTER TABLE idempotency_key ADD COLUMN detail {json};\n").await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, "ALTER TABLE idempotency_key DROP COLUMN detail;\n").await
    }
}

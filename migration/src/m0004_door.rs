//! Adds API keys, subjects of tokens, the audit log, and versions of message templates and writers.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All or nothing.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, include_str!("m0004_door.sql")).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, DOWN).await
    }
}

const DOWN: &str = "
DROP TABLE IF EXISTS writer_version;
DROP TABLE IF EXISTS message_template_version;
DROP TABLE IF EXISTS audit;
DROP TABLE IF EXISTS api_key;
ALTER TABLE writer DROP COLUMN version;
DROP INDEX IF EXISTS member_by_subject;
ALTER TABLE member DROP COLUMN subject;
";

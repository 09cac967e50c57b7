//! Adds the index of campaigns for a single record.

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

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, "DROP INDEX campaign_of_record;\n").await
    }
}

const UP: &str = "
CREATE INDEX campaign_of_record ON campaign (org_id, record_id, created_at, id) WHERE record_id IS NOT NULL;
";

//! Adds the archive and the tags of campaigns.

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
        crate::run(manager, DOWN).await
    }
}

const UP: &str = "
ALTER TABLE campaign ADD COLUMN archived_at {time};
ALTER TABLE campaign ADD COLUMN archived_by {json};
CREATE TABLE campaign_tag (
    campaign_id {uuid} NOT NULL REFERENCES campaign (id),
    tag {text} NOT NULL,
    org_id {uuid} NOT NULL,
    PRIMARY KEY (campaign_id, tag)
);
CREATE INDEX campaign_tag_by_tag ON campaign_tag (org_id, tag, campaign_id);
";

const DOWN: &str = "
DROP TABLE campaign_tag;
ALTER TABLE campaign DROP COLUMN archived_by;
ALTER TABLE campaign DROP COLUMN archived_at;
";

//! Adds the times at which a campaign began and ended, and indexes for its latest run, for the next
//! start of its schedules, and for messages by their time and for those of tests.
//!
//! Earlier campaigns get the times of their events: of the first approval, and of the last end. Where
//! the log has none, that of the last approval, or for the end that of the last change.

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
ALTER TABLE campaign ADD COLUMN started_at {time};
ALTER TABLE campaign ADD COLUMN completed_at {time};
UPDATE campaign SET started_at = COALESCE(
    (SELECT MIN(e.at) FROM event e WHERE e.campaign_id = campaign.id AND e.kind = 'campaign.approved'), approved_at);
UPDATE campaign SET completed_at = COALESCE(
    (SELECT MAX(e.at) FROM event e WHERE e.campaign_id = campaign.id
        AND e.kind IN ('campaign.completed', 'campaign.failed', 'campaign.cancelled')), updated_at)
    WHERE status IN ('COMPLETED', 'FAILED', 'CANCELLED');
CREATE INDEX run_of_campaign_begun ON run (campaign_id, started_at, id) WHERE started_at IS NOT NULL AND type <> 'TEST_RUN';
CREATE INDEX schedule_of_campaign_next ON schedule (campaign_id, next_at) WHERE status = 'ACTIVE';
CREATE INDEX communication_by_created ON communication (org_id, created_at, id);
CREATE INDEX communication_of_tests ON communication (org_id, id) WHERE test;
";

const DOWN: &str = "
DROP INDEX communication_of_tests;
DROP INDEX communication_by_created;
DROP INDEX schedule_of_campaign_next;
DROP INDEX run_of_campaign_begun;
ALTER TABLE campaign DROP COLUMN completed_at;
ALTER TABLE campaign DROP COLUMN started_at;
";

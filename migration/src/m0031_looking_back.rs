//! Indexes the campaigns that use a goal, segment, writer, reviewer or message template, and those
//! changed last; stores with each run the goal that it was launched for, and indexes it.
//!
//! Runs from before get the goal that their campaign has at the time of the migration.

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

// The goal of a run refers to no row: a goal that only ended runs had may be deleted.
const UP: &str = "
CREATE INDEX campaign_by_updated ON campaign (org_id, updated_at, id);
CREATE INDEX campaign_of_goal ON campaign (org_id, goal_id, created_at, id) WHERE goal_id IS NOT NULL;
CREATE INDEX campaign_of_segment ON campaign (org_id, segment_id, created_at, id) WHERE segment_id IS NOT NULL;
CREATE INDEX campaign_of_writer ON campaign (org_id, writer_id, created_at, id) WHERE writer_id IS NOT NULL;
CREATE INDEX campaign_of_reviewer ON campaign (org_id, reviewer_id, created_at, id) WHERE reviewer_id IS NOT NULL;
CREATE INDEX campaign_of_message_template ON campaign (org_id, message_template_id, created_at, id)
    WHERE message_template_id IS NOT NULL;
ALTER TABLE run ADD COLUMN goal_id {uuid};
UPDATE run SET goal_id = (SELECT campaign.goal_id FROM campaign WHERE campaign.id = run.campaign_id)
    WHERE campaign_id IS NOT NULL;
CREATE INDEX run_of_goal ON run (org_id, goal_id, created_at, id) WHERE goal_id IS NOT NULL;
CREATE INDEX run_of_goal_by_status ON run (org_id, goal_id, status, type, id) WHERE goal_id IS NOT NULL;
";

const DOWN: &str = "
DROP INDEX run_of_goal_by_status;
DROP INDEX run_of_goal;
ALTER TABLE run DROP COLUMN goal_id;
DROP INDEX campaign_of_message_template;
DROP INDEX campaign_of_reviewer;
DROP INDEX campaign_of_writer;
DROP INDEX campaign_of_segment;
DROP INDEX campaign_of_goal;
DROP INDEX campaign_by_updated;
";

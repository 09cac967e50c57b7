//! Adds notes about runs, indexed newest first by run, by campaign and by goal.

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

// The goal refers to no row: one that only ended runs had may be deleted.
const UP: &str = "
CREATE TABLE run_note (
    id {uuid} NOT NULL PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    run_id {uuid} NOT NULL REFERENCES run (id), campaign_id {uuid} REFERENCES campaign (id), goal_id {uuid},
    belongs_to {text} NOT NULL CHECK (belongs_to IN ('CAMPAIGN', 'GOAL', 'EXECUTION')),
    text {text} NOT NULL, created_by {json} NOT NULL,
    created_at {time} NOT NULL, updated_at {time} NOT NULL, revision {int} NOT NULL,
    CHECK (belongs_to = 'EXECUTION' OR campaign_id IS NOT NULL)
);
CREATE INDEX run_note_of_run ON run_note (run_id, id);
CREATE INDEX run_note_of_campaign ON run_note (campaign_id, belongs_to, id) WHERE campaign_id IS NOT NULL;
CREATE INDEX run_note_of_goal ON run_note (goal_id, belongs_to, id) WHERE goal_id IS NOT NULL;
";

const DOWN: &str = "
DROP TABLE run_note;
";

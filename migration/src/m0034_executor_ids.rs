//! Stores with a run's snapshot the ids of the agents and members that its structure names. Runs from
//! before have none, and go by the names. Open steps of agents and members that have been deleted
//! become anybody's.

use sea_orm_migration::prelude::*;

const UP: &str = "
ALTER TABLE brief ADD COLUMN executors {json};
UPDATE step SET assignee_id = NULL WHERE assignee_id IS NOT NULL
    AND status IN ('PENDING', 'QUEUED', 'IN_PROGRESS', 'AWAITING_APPROVAL')
    AND NOT EXISTS (SELECT 1 FROM member m WHERE m.id = step.assignee_id)
    AND NOT EXISTS (SELECT 1 FROM agent a WHERE a.id = step.assignee_id);
";

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
        crate::run(manager, "ALTER TABLE brief DROP COLUMN executors;\n").await
    }
}

//! Creates the first schema: definitions, records, runs and their parts, the event log.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in TABLES.iter().rev() {
            crate::run(manager, &format!("DROP TABLE IF EXISTS {table};\n")).await?;
        }
        Ok(())
    }
}

const TABLES: &[&str] = &[
    "org",
    "event_counter",
    "event",
    "member",
    "goal",
    "writer",
    "reviewer",
    "message_template",
    "segment",
    "record",
    "segment_record",
    "campaign",
    "campaign_version",
    "schedule",
    "run",
    "run_record",
    "phase",
    "task",
    "step",
    "communication",
    "reply",
    "sweep",
    "import",
    "import_problem",
    "import_seen",
];

const UP: &str = include_str!("m0001_begin.sql");

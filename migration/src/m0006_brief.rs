//! Moves a run's snapshot out of the run's row: lists, locks and settles read that row, and none of
//! them needs the snapshot.

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
CREATE TABLE brief (
    run_id {uuid} PRIMARY KEY REFERENCES run (id), org_id {uuid} NOT NULL REFERENCES org (id),
    definition {json} NOT NULL, instructions {json} NOT NULL, test {json}, preflight {json}
);
INSERT INTO brief (run_id, org_id, definition, instructions, test, preflight)
SELECT id, org_id, definition, instructions, test, preflight FROM run;
ALTER TABLE run DROP COLUMN definition;
ALTER TABLE run DROP COLUMN instructions;
ALTER TABLE run DROP COLUMN test;
ALTER TABLE run DROP COLUMN preflight;
";

// NOT NULL columns need a default if the table has rows.
const DOWN: &str = "
ALTER TABLE run ADD COLUMN definition {json} NOT NULL DEFAULT '{}';
ALTER TABLE run ADD COLUMN instructions {json} NOT NULL DEFAULT '{}';
ALTER TABLE run ADD COLUMN test {json};
ALTER TABLE run ADD COLUMN preflight {json};
UPDATE run SET (definition, instructions, test, preflight) = (SELECT b.definition, b.instructions, b.test, b.preflight FROM brief b WHERE b.run_id = run.id);
DROP TABLE brief;
";

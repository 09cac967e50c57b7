//! Adds layered run templates, agents, and assignees, due times and approvals of steps.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseBackend;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All or nothing: on SQLite tables are rebuilt.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, column, before, after) in WORDS {
            change(manager, table, column, before, after).await?;
        }
        crate::run(manager, UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() == DatabaseBackend::Sqlite {
            // A column with a foreign key can't be dropped.
            for (table, column, of) in REFERENCES {
                let refers = format!("{column} {{uuid}} REFERENCES {of} (id)");
                crate::rebuild_table(manager, table, &refers, &format!("{column} {{uuid}}")).await?;
            }
        }
        crate::run(manager, DOWN).await?;
        for (table, column, before, after) in WORDS {
            change(manager, table, column, after, before).await?;
        }
        Ok(())
    }
}

/// Columns with a foreign key.
const REFERENCES: &[(&str, &str, &str)] =
    &[("campaign", "run_template_id", "run_template"), ("run", "parent_id", "run"), ("api_key", "agent_id", "agent")];

/// The values that a column's CHECK allows, before and after.
const WORDS: &[(&str, &str, &str, &str)] = &[
    (
        "run_record",
        "outcome",
        "'FAILED', 'SUPPRESSED', 'SKIPPED', 'UNKNOWN')",
        "'FAILED', 'SUPPRESSED', 'SKIPPED', 'UNKNOWN', 'DONE')",
    ),
    ("sweep", "kind", "'RETRY', 'UNSUBSCRIBE')", "'RETRY', 'UNSUBSCRIBE', 'CLOSE')"),
];

async fn change(manager: &SchemaManager<'_>, table: &str, column: &str, from: &str, to: &str) -> Result<(), DbErr> {
    match manager.get_database_backend() {
        DatabaseBackend::Postgres => crate::replace_check_values(manager, table, column, from, to).await,
        _ => crate::rebuild_table(manager, table, from, to).await,
    }
}

const UP: &str = "
CREATE TABLE run_template (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    key {text} NOT NULL, name {text} NOT NULL, description {text} NOT NULL, built_in {bool} NOT NULL,
    base_id {uuid} REFERENCES run_template (id), definition {json}, overrides {json} NOT NULL,
    created_at {time} NOT NULL, updated_at {time} NOT NULL, revision {int} NOT NULL,
    UNIQUE (org_id, key),
    CHECK ((base_id IS NULL) <> (definition IS NULL))
);
CREATE INDEX run_template_by_org ON run_template (org_id, id);
CREATE TABLE agent (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    name {text} NOT NULL, description {text} NOT NULL,
    kind {text} NOT NULL CHECK (kind IN ('OUTSIDE', 'FUNCTION', 'BUILT_IN')),
    filter {text} NOT NULL, context {text} NOT NULL, output_schema {json}, instructions {text} NOT NULL,
    created_at {time} NOT NULL, updated_at {time} NOT NULL, revision {int} NOT NULL,
    UNIQUE (org_id, name)
);
CREATE INDEX agent_by_org ON agent (org_id, id);
ALTER TABLE campaign ADD COLUMN run_template_id {uuid} REFERENCES run_template (id);
ALTER TABLE campaign ADD COLUMN overrides {json} NOT NULL DEFAULT '[]';
ALTER TABLE run ADD COLUMN parent_id {uuid} REFERENCES run (id);
ALTER TABLE api_key ADD COLUMN agent_id {uuid} REFERENCES agent (id);
ALTER TABLE phase ADD COLUMN open_until {time};
CREATE INDEX phase_open_until ON phase (open_until) WHERE open_until IS NOT NULL AND status = 'ACTIVE';
ALTER TABLE task ADD COLUMN due_at {time};
ALTER TABLE task ADD COLUMN left_out {text};
ALTER TABLE step ADD COLUMN lease_token {text};
ALTER TABLE step ADD COLUMN assignee_id {uuid};
ALTER TABLE step ADD COLUMN assignee_role {text};
ALTER TABLE step ADD COLUMN outside {bool} NOT NULL DEFAULT FALSE;
ALTER TABLE step ADD COLUMN due_at {time};
ALTER TABLE step ADD COLUMN overdue_at {time};
ALTER TABLE step ADD COLUMN approval {json};
CREATE INDEX step_to_take ON step (org_id, available_at, id) WHERE status = 'QUEUED' AND outside;
CREATE INDEX step_of_assignee ON step (assignee_id, id) WHERE assignee_id IS NOT NULL;
CREATE INDEX step_due ON step (due_at) WHERE due_at IS NOT NULL AND overdue_at IS NULL AND status IN ('PENDING', 'QUEUED', 'IN_PROGRESS', 'AWAITING_APPROVAL');
";

const DOWN: &str = "
DROP INDEX step_due;
DROP INDEX step_of_assignee;
DROP INDEX step_to_take;
ALTER TABLE step DROP COLUMN approval;
ALTER TABLE step DROP COLUMN overdue_at;
ALTER TABLE step DROP COLUMN due_at;
ALTER TABLE step DROP COLUMN outside;
ALTER TABLE step DROP COLUMN assignee_role;
ALTER TABLE step DROP COLUMN assignee_id;
ALTER TABLE step DROP COLUMN lease_token;
ALTER TABLE task DROP COLUMN left_out;
ALTER TABLE task DROP COLUMN due_at;
DROP INDEX phase_open_until;
ALTER TABLE phase DROP COLUMN open_until;
ALTER TABLE api_key DROP COLUMN agent_id;
ALTER TABLE run DROP COLUMN parent_id;
ALTER TABLE campaign DROP COLUMN overrides;
ALTER TABLE campaign DROP COLUMN run_template_id;
DROP TABLE agent;
DROP TABLE run_template;
UPDATE run_record SET outcome = 'SKIPPED' WHERE outcome = 'DONE';
DELETE FROM sweep WHERE kind = 'CLOSE';
";

//! Indexes the work list: steps by their due time, by their creation, and those that may be begun.
//! Adds the text that searches compare, where a step's name in lower case is not that text.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{DatabaseBackend, Statement, Value};

use crate::m0010_folded::folded;

/// Number of rows read at once.
const ROWS: i64 = 1_000;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, "ALTER TABLE step ADD COLUMN search {text};\n").await?;
        fold_names(manager).await?;
        crate::run(manager, INDEXES).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, DOWN).await
    }
}

// The conditions are those of src/domain/run/step/list.rs and src/domain/run/step/ready.rs.
const INDEXES: &str = "
CREATE INDEX step_by_created ON step (org_id, created_at, id);
CREATE INDEX step_by_due ON step (org_id, due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX step_open_by_due ON step (org_id, due_at, id)
    WHERE due_at IS NOT NULL AND status IN ('PENDING', 'QUEUED', 'IN_PROGRESS', 'AWAITING_APPROVAL');
CREATE INDEX step_of_assignee_by_due ON step (assignee_id, due_at, id)
    WHERE assignee_id IS NOT NULL AND due_at IS NOT NULL;
CREATE INDEX step_to_begin ON step (org_id, id)
    WHERE status = 'QUEUED' OR (status = 'PENDING' AND assigned_to = 'HUMAN');
CREATE INDEX step_to_begin_by_others ON step (org_id, id)
    WHERE assigned_to <> 'WORKFLOW' AND (status = 'QUEUED' OR (status = 'PENDING' AND assigned_to = 'HUMAN'));
";

const DOWN: &str = "
DROP INDEX step_to_begin_by_others;
DROP INDEX step_to_begin;
DROP INDEX step_of_assignee_by_due;
DROP INDEX step_open_by_due;
DROP INDEX step_by_due;
DROP INDEX step_by_created;
ALTER TABLE step DROP COLUMN search;
";

/// Stores the folded text of names with characters beyond ASCII.
async fn fold_names(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let (db, backend) = (manager.get_connection(), manager.get_database_backend());
    let (id, beyond_ascii, between) = match backend {
        DatabaseBackend::Postgres => {
            ("id::text", "name ~ '[^\\x01-\\x7f]'", ["id > CAST($1 AS uuid)", "id = CAST($1 AS uuid)"])
        }
        _ => {
            ("hex(id)", "name GLOB '*[^' || char(1) || '-' || char(127) || ']*'", ["id > unhex($1)", "id = unhex($1)"])
        }
    };
    let [behind, this] = between;
    let mut last = "0".repeat(32);
    loop {
        let sql =
            format!("SELECT {id}, name FROM step WHERE {beyond_ascii} AND {behind} ORDER BY step.id LIMIT {ROWS}");
        let rows = db.query_all_raw(Statement::from_sql_and_values(backend, sql, [last.as_str().into()])).await?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in &rows {
            last = row.try_get_by_index::<String>(0)?.replace('-', "");
            let name: String = row.try_get_by_index(1)?;
            let values: [Value; 2] = [last.as_str().into(), folded(&name).into()];
            let sql = format!("UPDATE step SET search = $2 WHERE {this}");
            db.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        }
    }
}

//! Adds the text that searches of messages compare, where subject and recipient's name in lower case
//! are not that text. Indexes the steps of a run by their due time.

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
        crate::run(manager, UP).await?;
        fold(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, DOWN).await
    }
}

// Without `run_id IS NOT NULL`, which always holds, SQLite takes the index for one of all steps with a due time,
// and then reads those of an org by `step_by_org` (seen in 3.51).
const UP: &str = "
ALTER TABLE communication ADD COLUMN search {text};
CREATE INDEX step_of_run_by_due ON step (run_id, due_at, id) WHERE due_at IS NOT NULL AND run_id IS NOT NULL;
";

const DOWN: &str = "
DROP INDEX step_of_run_by_due;
ALTER TABLE communication DROP COLUMN search;
";

/// Stores the folded text of messages whose subject or recipient's name has characters beyond ASCII.
/// The text is that of src/domain/message/communication/search.rs.
async fn fold(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let (db, backend) = (manager.get_connection(), manager.get_database_backend());
    let text = "COALESCE(subject, '') || ' ' || to_name";
    let (id, beyond_ascii, between) = match backend {
        DatabaseBackend::Postgres => {
            ("id::text", format!("({text}) ~ '[^\\x01-\\x7f]'"), ["id > CAST($1 AS uuid)", "id = CAST($1 AS uuid)"])
        }
        _ => (
            "hex(id)",
            format!("({text}) GLOB '*[^' || char(1) || '-' || char(127) || ']*'"),
            ["id > unhex($1)", "id = unhex($1)"],
        ),
    };
    let [behind, this] = between;
    let mut last = "0".repeat(32);
    loop {
        let sql = format!(
            "SELECT {id}, {text} FROM communication WHERE {beyond_ascii} AND {behind} ORDER BY communication.id LIMIT {ROWS}"
        );
        let rows = db.query_all_raw(Statement::from_sql_and_values(backend, sql, [last.as_str().into()])).await?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in &rows {
            last = row.try_get_by_index::<String>(0)?.replace('-', "");
            let text: String = row.try_get_by_index(1)?;
            let values: [Value; 2] = [last.as_str().into(), folded(&text).into()];
            let sql = format!("UPDATE communication SET search = $2 WHERE {this}");
            db.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        }
    }
}

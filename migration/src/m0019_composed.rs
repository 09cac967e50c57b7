//! Rewrites compared texts of existing rows to NFC: external ids, addresses, stages and attributes
//! of records, and names used for lookup. An external id that another record has already stays as
//! it is.

use icu_normalizer::ComposingNormalizer;
use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{DatabaseBackend, Statement, Value};

/// Number of rows read at once.
const ROWS: i64 = 1_000;

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0019_composed"
    }
}

/// Tables whose rows are looked up by name.
const NAMED: [&str; 8] =
    ["goal", "writer", "message_template", "segment", "reviewer", "member", "agent", "run_template"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in ["external_id", "email", "stage", "attributes"] {
            compose(manager, "record", column).await?;
        }
        for table in NAMED {
            compose(manager, table, "name").await?;
        }
        Ok(())
    }

    /// Nothing to revert: a composed text is the same text.
    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Ok(())
    }
}

/// Composes the texts of one column. Repeatable.
async fn compose(manager: &SchemaManager<'_>, table: &str, column: &str) -> Result<(), DbErr> {
    let (db, backend) = (manager.get_connection(), manager.get_database_backend());
    let postgres = backend == DatabaseBackend::Postgres;
    let text = if postgres { format!("{column}::text") } else { column.to_owned() };
    let (id, beyond_ascii, behind, this) = match backend {
        DatabaseBackend::Postgres => {
            ("id::text", format!("{text} ~ '[^\\x01-\\x7f]'"), "id > CAST($1 AS uuid)", "CAST($1 AS uuid)")
        }
        _ => (
            "hex(id)",
            format!("{text} GLOB '*[^' || char(1) || '-' || char(127) || ']*'"),
            "id > unhex($1)",
            "unhex($1)",
        ),
    };
    let given = if postgres && column == "attributes" { "CAST($2 AS jsonb)" } else { "$2" };
    // External ids are unique per kind.
    let free = match column {
        "external_id" => {
            " AND NOT EXISTS (SELECT 1 FROM record o WHERE o.org_id = record.org_id AND o.kind = record.kind AND o.external_id = $2)"
        }
        _ => "",
    };
    let mut last = "0".repeat(32);
    loop {
        let sql =
            format!("SELECT {id}, {text} FROM {table} WHERE {beyond_ascii} AND {behind} ORDER BY id LIMIT {ROWS}");
        let rows = db.query_all_raw(Statement::from_sql_and_values(backend, sql, [last.as_str().into()])).await?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in rows {
            let found: String = row.try_get_by_index(1)?;
            last = row.try_get_by_index::<String>(0)?.replace('-', "");
            let composed = ComposingNormalizer::new_nfc().normalize(&found).into_owned();
            if composed == found {
                continue;
            }
            let values: [Value; 2] = [last.as_str().into(), composed.into()];
            let sql = format!("UPDATE {table} SET {column} = {given} WHERE id = {this}{free}");
            db.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        }
    }
}

//! Rewrites search texts, so far in lower case, to NFKC with full case folding, and compared names
//! to NFC. ASCII texts do not change.

use icu_casemap::CaseMapper;
use icu_normalizer::ComposingNormalizer;
use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{DatabaseBackend, Statement, Value};

/// Number of rows read at once.
const ROWS: i64 = 1_000;

#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0010_folded"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["record", "campaign", "run"] {
            fold(manager, table).await?;
        }
        Ok(())
    }

    /// Nothing to revert: folded texts work as lower-case texts do, with few exceptions.
    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Ok(())
    }
}

/// Rewrites the texts of one table. Repeatable.
async fn fold(manager: &SchemaManager<'_>, table: &str) -> Result<(), DbErr> {
    let (db, backend) = (manager.get_connection(), manager.get_database_backend());
    let (id, beyond_ascii, behind) = match backend {
        DatabaseBackend::Postgres => ("id::text", "search ~ '[^\\x01-\\x7f]'", "id > CAST($1 AS uuid)"),
        _ => ("hex(id)", "search GLOB '*[^' || char(1) || '-' || char(127) || ']*'", "id > unhex($1)"),
    };
    let mut last = "0".repeat(32);
    loop {
        let sql = format!(
            "SELECT {id}, search, name FROM {table} WHERE {beyond_ascii} AND {behind} ORDER BY id LIMIT {ROWS}"
        );
        let rows = db.query_all_raw(Statement::from_sql_and_values(backend, sql, [last.as_str().into()])).await?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in rows {
            let (search, name): (String, String) = (row.try_get_by_index(1)?, row.try_get_by_index(2)?);
            last = row.try_get_by_index::<String>(0)?.replace('-', "");
            let values: [Value; 3] = [last.as_str().into(), folded(&search).into(), composed(&name).into()];
            let this = if backend == DatabaseBackend::Postgres { "CAST($1 AS uuid)" } else { "unhex($1)" };
            let sql = format!("UPDATE {table} SET search = $2, name = $3 WHERE id = {this}");
            db.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        }
    }
}

fn composed(text: &str) -> String {
    ComposingNormalizer::new_nfc().normalize(text).into_owned()
}

pub(crate) fn folded(text: &str) -> String {
    let normalizer = ComposingNormalizer::new_nfkc();
    let folded = CaseMapper::new().fold_string(&normalizer.normalize(text)).into_owned();
    normalizer.normalize(&folded).into_owned()
}

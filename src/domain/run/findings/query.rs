//! Statements over the rows of many runs, which read by an index that begins with the run.

use entity::id::RunId;
use sea_orm::{ConnectionTrait, QueryResult, Statement};
use serde_json::json;

use crate::kernel::db::Db;
use crate::kernel::db::dialect::Type;
use crate::kernel::error::Result;

/// The condition that a row is one of the runs'. There is none on the org: the runs are the viewer's,
/// and SQLite would rather read all of an org's steps of a status.
pub(super) fn among_runs(db: &Db) -> String {
    format!("run_id {}", db.dialect().among("$1", Type::Uuid))
}

/// Reads the rows of a statement with that condition.
pub(super) async fn read(db: &Db, sql: String, runs: &[RunId]) -> Result<Vec<QueryResult>> {
    let ids: Vec<String> = runs.iter().map(|id| id.0.simple().to_string()).collect();
    let backend = db.read().get_database_backend();
    Ok(db.read().query_all_raw(Statement::from_sql_and_values(backend, sql, [json!(ids).into()])).await?)
}

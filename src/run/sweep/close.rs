//! What came of the places of a run that is through, where nothing has been said yet: from the steps and messages of each.

use entity::id::*;
use entity::sweep::Model;
use entity::{run, run_record};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Statement};
use serde_json::json;

use crate::db::Tx;
use crate::db::dialect::Type;
use crate::error::Result;
use crate::limits;

/// Whether there is a place of which nothing has been said.
pub(in crate::run) async fn is_any(tx: &Tx, run: &run::Model) -> Result<bool> {
    let open = run_record::Entity::find()
        .select_only()
        .column(run_record::Column::Id)
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(run_record::COLUMN.outcome.is_null())
        .limit(1)
        .into_tuple::<RunRecordId>()
        .one(tx.db())
        .await?;
    Ok(open.is_some())
}

/// Closes a chunk of them.
pub(super) async fn chunk(tx: &Tx, run: &run::Model, sweep: &Model) -> Result<Option<uuid::Uuid>> {
    let mut open = run_record::Entity::find()
        .select_only()
        .column(run_record::Column::Id)
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(run_record::COLUMN.outcome.is_null());
    if let Some(key) = sweep.last_key {
        open = open.filter(run_record::COLUMN.id.gt(RunRecordId(key)));
    }
    let open: Vec<RunRecordId> =
        open.order_by_asc(run_record::COLUMN.id).limit(limits::CHUNK).into_tuple().all(tx.db()).await?;
    let Some(last) = open.last() else { return Ok(None) };
    say(tx, &open).await?;
    Ok(Some(last.0))
}

/// Closes all of them: of guided work, whose places are few.
pub(in crate::run) async fn all(tx: &Tx, run: &run::Model) -> Result<()> {
    let open: Vec<RunRecordId> = run_record::Entity::find()
        .select_only()
        .column(run_record::Column::Id)
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(run_record::COLUMN.outcome.is_null())
        .into_tuple()
        .all(tx.db())
        .await?;
    if open.is_empty() { Ok(()) } else { say(tx, &open).await }
}

async fn say(tx: &Tx, open: &[RunRecordId]) -> Result<()> {
    let rows: Vec<_> = open.iter().map(|id| json!({ "of_id": id.0.simple().to_string() })).collect();
    let step = |status| format!("EXISTS (SELECT 1 FROM step s WHERE s.run_record_id = run_record.id {status})");
    let sent = |status| {
        format!(
            "EXISTS (SELECT 1 FROM communication c WHERE c.run_record_id = run_record.id AND c.status = '{status}')"
        )
    };
    let (failed, completed, any) = (step("AND s.status = 'FAILED'"), step("AND s.status = 'COMPLETED'"), step(""));
    let sql = format!(
        "UPDATE run_record SET outcome = CASE WHEN {unknown} THEN 'UNKNOWN' WHEN {failed} THEN 'FAILED' \
         WHEN {sent} THEN 'SENT' WHEN {suppressed} THEN 'SUPPRESSED' WHEN {completed} THEN 'DONE' \
         WHEN {any} THEN 'SKIPPED' ELSE 'DONE' END, \
         reason = CASE WHEN {failed} THEN 'STEP_FAILED' WHEN {suppressed} THEN 'SUPPRESSED' \
         WHEN {any} AND NOT {completed} THEN 'ALL_SKIPPED' END \
         FROM {rows} WHERE run_record.id = v.of_id",
        unknown = sent("UNKNOWN"),
        sent = sent("SENT"),
        suppressed = sent("SUPPRESSED"),
        rows = tx.dialect().rows("$1", "v", &[("of_id", Type::Uuid)]),
    );
    let backend = tx.db().get_database_backend();
    tx.db().execute_raw(Statement::from_sql_and_values(backend, sql, [json!(rows).into()])).await?;
    Ok(())
}

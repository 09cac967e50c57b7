//! Deletes bulk actions that are past their retention, with their results.

use chrono::TimeDelta;
use entity::bulk_action::{COLUMN, Entity};
use entity::{Actor, bulk_result};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;

use super::emit;
use crate::kernel::db::WriteContext;
use crate::kernel::error::Result;
use crate::transact;

/// The time for which a bulk action is kept after its end.
pub const KEPT: TimeDelta = TimeDelta::days(90);

/// Number of bulk actions that are deleted at a time.
const AT_A_TIME: u64 = 10;

/// Deletes a few of the bulk actions that ended long ago, each in one transaction, so that none is
/// seen without its results. Returns their number.
pub async fn delete_expired(db: &WriteContext) -> Result<usize> {
    let past = Entity::find().filter(COLUMN.ended_at.lt(db.now() - KEPT));
    let past = past.order_by_asc(COLUMN.ended_at).limit(AT_A_TIME).all(db.read()).await?;
    for row in &past {
        transact!(db, |tx| {
            let results = bulk_result::Entity::delete_many().filter(bulk_result::COLUMN.bulk_action_id.eq(row.id));
            results.exec(tx.db()).await?;
            // Another process may have deleted it in the meantime.
            if Entity::delete_by_id(row.id).exec(tx.db()).await?.rows_affected > 0 {
                emit(tx, &Actor::engine(), "bulk_action.deleted", row, json!({ "id": row.id }));
            }
            Ok(())
        })?;
    }
    Ok(past.len())
}

//! Deletes idempotency keys that are past their retention.

use entity::idempotency_key::{COLUMN, Entity};
use sea_orm::{EntityTrait, QueryFilter};

use crate::kernel::db::WriteContext;
use crate::kernel::error::Result;
use crate::kernel::limits;
use crate::transact;

/// Deletes keys that are past their retention. Returns the number.
pub async fn delete_expired(db: &WriteContext) -> Result<u64> {
    let before = db.now() - limits::IDEMPOTENCY_KEPT;
    let any = Entity::find().filter(COLUMN.created_at.lt(before)).one(db.read()).await?;
    if any.is_none() {
        return Ok(0);
    }
    transact!(db, |tx| {
        Ok(Entity::delete_many().filter(COLUMN.created_at.lt(before)).exec(tx.db()).await?.rows_affected)
    })
}

//! Records that a process keeps as they were at its start.

use entity::id::*;
use entity::kept_record::{COLUMN, Column, Entity};
use entity::record;
use sea_orm::sea_query::{Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter};
use uuid::Uuid;

use crate::kernel::db::Tx;
use crate::kernel::error::{Error, Result};

/// Keeps the records that meet a condition for a process. Returns their number.
pub(crate) async fn keep(tx: &Tx, owner: Uuid, org_id: OrgId, met: Condition) -> Result<u64> {
    let mut records = Query::select();
    let own = |column| Expr::col((record::Entity, column));
    records.expr(Expr::val(owner)).expr(own(record::Column::Id)).expr(own(record::Column::OrgId));
    records.from(record::Entity).and_where(record::COLUMN.org_id.eq(org_id)).cond_where(met);
    let mut insert = Query::insert();
    insert.into_table(Entity).columns([Column::OwnerId, Column::RecordId, Column::OrgId]);
    let insert = insert.select_from(records).map_err(Error::internal)?;
    Ok(tx.db().execute(insert).await?.rows_affected())
}

/// True if a process keeps records.
pub(crate) async fn has_any(tx: &Tx, owner: Uuid) -> Result<bool> {
    Ok(Entity::find().filter(COLUMN.owner_id.eq(owner)).one(tx.db()).await?.is_some())
}

/// Subquery of the ids of the records that a process keeps.
pub(crate) fn ids(owner: Uuid) -> SelectStatement {
    let mut kept = Query::select();
    kept.column(Column::RecordId).from(Entity).and_where(COLUMN.owner_id.eq(owner));
    kept
}

/// Condition on a record: a process keeps it.
pub(crate) fn is_kept(owner: Uuid) -> Expr {
    let mut kept = Query::select();
    kept.expr(Expr::val(1))
        .from(Entity)
        .and_where(COLUMN.owner_id.eq(owner))
        .and_where(Expr::col((Entity, Column::RecordId)).equals((record::Entity, record::Column::Id)));
    Expr::exists(kept)
}

/// Subquery: a process keeps records.
pub(crate) fn any(owner: Uuid) -> SelectStatement {
    let mut kept = Query::select();
    kept.expr(Expr::val(1)).from(Entity).and_where(COLUMN.owner_id.eq(owner));
    kept
}

/// Forgets the records of a process that has ended.
pub(crate) async fn forget(tx: &Tx, owner: Uuid) -> Result<()> {
    Entity::delete_many().filter(COLUMN.owner_id.eq(owner)).exec(tx.db()).await?;
    Ok(())
}

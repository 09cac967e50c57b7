//! Erased records: the row is emptied and marked at once, all other tables afterwards, by
//! `run::erasure`.

use entity::id::*;
use entity::record::{COLUMN, Column, Entity, Model};
use sea_orm::sea_query::{Expr, Query};
use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Set};
use serde_json::json;

use crate::domain::audience::suppression::erased::ERASED;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;

/// Value of `extensions.reason` of the CONFLICT at an erased record.
pub const RECORD_ERASED: &str = "RECORD_ERASED";

/// Rejects changes of an erased record. Errors: CONFLICT, with the reason RECORD_ERASED.
pub(crate) fn check_not_erased(record: &Model) -> Result<()> {
    let Some(at) = record.erased_at else { return Ok(()) };
    let message = format!("the record was erased at {}: it can't be changed", at.to_rfc3339());
    let refusal = Refusal::conflict(message).with("reason", json!(RECORD_ERASED)).with("recordId", json!(record.id));
    Err(refusal.with("erasedAt", json!(at)).into())
}

/// Rejects writing about some records if one of them was erased; none of them is until the transaction
/// ends. Call it after the runs are locked. Errors: CONFLICT, with the reason RECORD_ERASED.
pub(crate) async fn hold_off(tx: &Tx, viewer: &Viewer, ids: impl IntoIterator<Item = RecordId>) -> Result<()> {
    let ids: Vec<RecordId> = ids.into_iter().collect();
    if ids.is_empty() {
        return Ok(());
    }
    let held = Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(any_of(tx.dialect(), COLUMN.id, ids))
        .order_by_asc(COLUMN.id)
        .lock_shared()
        .all(tx.db())
        .await?;
    held.iter().try_for_each(check_not_erased)
}

/// Condition on the table `record`: the record was not erased. A subquery over an index of the few that
/// were, so that counts still need no row.
pub(crate) fn not_erased(org: OrgId) -> Expr {
    let mut erased = Query::select();
    erased.column(Column::Id).from(Entity).and_where(COLUMN.org_id.eq(org)).and_where(COLUMN.erased_at.is_not_null());
    COLUMN.id.not_in_subquery(erased)
}

/// Rejects the deletion of an erased record, to which the suppression of its addresses refers. Errors:
/// CONFLICT.
pub(super) async fn keep_erased(tx: &Tx, viewer: &Viewer, id: RecordId) -> Result<()> {
    check_not_erased(&super::must_find(tx.db(), viewer, id).await?)
}

/// Empties and marks a locked row, and opts it out.
pub(crate) async fn empty(tx: &Tx, before: &Model) -> Result<Model> {
    let mut row = before.clone().into_active_model();
    row.external_id = Set(None);
    row.name = Set(ERASED.to_owned());
    row.email = Set(None);
    row.phone = Set(None);
    row.time_zone = Set(None);
    row.attributes = Set(json!({}));
    row.priority = Set(0);
    row.search = Set(String::new());
    row.unsubscribed_at = Set(before.unsubscribed_at.or_else(|| Some(tx.now())));
    row.erased_at = Set(Some(tx.now()));
    super::save(tx, row, before.revision).await
}

/// Marks that nothing personal is left. Returns the row, if it still exists.
pub(crate) async fn complete(tx: &Tx, viewer: &Viewer, id: RecordId) -> Result<Option<Model>> {
    let Some(before) = super::find(tx.db(), viewer, id).await? else { return Ok(None) };
    let before = super::must_lock(tx, viewer, before.id, None).await?;
    let mut row = before.clone().into_active_model();
    row.erasure_completed_at = Set(Some(tx.now()));
    Ok(Some(super::save(tx, row, before.revision).await?))
}

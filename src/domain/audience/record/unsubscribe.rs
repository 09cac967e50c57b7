//! Bulk unsubscribe. The sweep's row takes effect for all matching records as soon as it commits;
//! the records themselves are updated afterwards, in chunks.

use std::collections::HashSet;

use entity::Channel;
use entity::id::*;
use entity::record::{self, COLUMN, Column, Entity};
use entity::sweep::{self as sweeps, SweepKind};
use sea_orm::sea_query::{Expr, ExprTrait, Func, Query};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Set,
};
use serde_json::json;

use super::filter::{self, RecordFilter};
use super::kept;
use crate::domain::audience::suppression;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::dialect::Dialect;
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};
use crate::transact;

/// The result of a bulk unsubscribe, which is still in progress.
#[derive(Clone, Copy, Debug)]
pub struct BulkUnsubscribe {
    /// Number of records that match the filter and are still subscribed.
    pub count: u64,
}

/// Unsubscribes all records that match the filter now. Nothing is sent to them once this returns;
/// their rows, events and open steps in runs follow in chunks. Errors: BAD_USER_INPUT.
pub async fn unsubscribe(
    db: &WriteContext,
    viewer: &Viewer,
    filter: &RecordFilter,
    reason: Option<&str>,
    dry_run: bool,
) -> Result<BulkUnsubscribe> {
    let reason = reason.map(|reason| validate::name("reason", reason)).transpose()?;
    let met = filter::condition(filter, db.dialect(), db.now())?;
    filter.require_condition()?;
    let condition = subscribed(viewer.org_id, met);
    if dry_run {
        return Ok(BulkUnsubscribe { count: Entity::find().filter(condition).count(db.read()).await? });
    }
    transact!(db, |tx| {
        let id = SweepId::new();
        // Kept, because a record may meet the filter no more before the sweep reaches it.
        let count = kept::keep(tx, id.0, viewer.org_id, condition.clone()).await?;
        if count == 0 {
            tx.discard();
            return Ok(BulkUnsubscribe { count });
        }
        // Reservations in progress commit first; every later one sees the sweep.
        suppression::lock_exclusive(tx, viewer.org_id).await?;
        let row = sweeps::ActiveModel {
            id: Set(id),
            org_id: Set(viewer.org_id),
            run_id: Set(None),
            task_id: Set(None),
            kind: Set(SweepKind::Unsubscribe),
            last_key: Set(None),
            actor: Set(viewer.actor()),
            reason: Set(reason.clone()),
            detail: Set(None),
            created_at: Set(tx.now_locked()),
            held: Set(false),
        };
        row.insert(tx.db()).await?;
        let payload = json!({ "count": count, "reason": reason });
        let event = crate::kernel::event::Event::new(viewer.org_id, "sweep.begun", &viewer.actor()).payload(payload);
        crate::kernel::event::append(tx, event);
        Ok(BulkUnsubscribe { count })
    })
}

/// The org's records that meet a condition and are still subscribed.
fn subscribed(org_id: OrgId, met: Condition) -> Condition {
    Condition::all().add(COLUMN.org_id.eq(org_id)).add(COLUMN.unsubscribed_at.is_null()).add(met)
}

/// Returns the next records that the sweep unsubscribes.
pub(crate) async fn next_chunk(tx: &Tx, sweep: &sweeps::Model) -> Result<Vec<record::Model>> {
    let mut select = Entity::find().filter(condition(tx.dialect(), sweep)?);
    if let Some(key) = sweep.last_key {
        select = select.filter(COLUMN.id.gt(RecordId(key)));
    }
    Ok(select.order_by_asc(COLUMN.id).limit(limits::CHUNK).all(tx.db()).await?)
}

/// Unsubscribes a chunk of the sweep's records.
pub(crate) async fn write_chunk(tx: &Tx, viewer: &Viewer, sweep: &sweeps::Model, ids: &[RecordId]) -> Result<()> {
    let rows = Entity::update_many()
        .col_expr(Column::UnsubscribedAt, Expr::value(sweep.created_at))
        .col_expr(Column::UpdatedAt, Expr::value(tx.now()))
        .col_expr(Column::Revision, Expr::col(Column::Revision).add(1))
        .filter(any_of(tx.dialect(), COLUMN.id, ids.iter().copied()))
        .filter(COLUMN.unsubscribed_at.is_null())
        .exec_with_returning(tx.db())
        .await?;
    suppression::opt_out(tx, viewer, &rows).await?;
    for row in &rows {
        super::emit(tx, viewer, "record.unsubscribed", row, json!({ "reason": sweep.reason }));
    }
    Ok(())
}

fn condition(dialect: Dialect, sweep: &sweeps::Model) -> Result<Condition> {
    let Some(stored) = &sweep.detail else {
        let kept = Condition::all().add(kept::is_kept(sweep.id.0));
        return Ok(subscribed(sweep.org_id, kept));
    };
    // A sweep that was begun before its records were kept. Records created after the request are not
    // part of it.
    let met = filter::stored(stored, dialect, sweep.created_at)?;
    let existing = COLUMN.created_at.lte(sweep.created_at);
    Ok(subscribed(sweep.org_id, met).add(existing))
}

/// Returns the records that have opted out, by their row or by a sweep that hasn't reached them
/// yet.
pub(crate) async fn among(tx: &Tx, org_id: OrgId, records: &[RecordId]) -> Result<HashSet<RecordId>> {
    let ids = async |met: Condition| -> Result<Vec<RecordId>> {
        let select = Entity::find().select_only().column(Column::Id).filter(any_of(
            tx.dialect(),
            COLUMN.id,
            records.iter().copied(),
        ));
        Ok(select.filter(met).into_tuple().all(tx.db()).await?)
    };
    let mut found: HashSet<RecordId> =
        ids(Condition::all().add(COLUMN.unsubscribed_at.is_not_null())).await?.into_iter().collect();
    for sweep in &open(tx, org_id).await? {
        found.extend(ids(condition(tx.dialect(), sweep)?).await?);
    }
    Ok(found)
}

/// Returns the normalised addresses that are opted out by sweeps which haven't reached their
/// records yet.
pub(crate) async fn pending_addresses(
    tx: &Tx,
    org_id: OrgId,
    channel: Channel,
    keys: &[String],
) -> Result<HashSet<String>> {
    let mut found = HashSet::new();
    for sweep in open(tx, org_id).await? {
        let column = super::address_column(channel);
        let met = Entity::find().filter(condition(tx.dialect(), &sweep)?).filter(any_of(
            tx.dialect(),
            Expr::expr(Func::lower(Expr::col((Entity, column)))),
            keys.iter().cloned(),
        ));
        let met: Vec<record::Model> = met.all(tx.db()).await?;
        found.extend(met.iter().filter_map(|record| super::address(record, channel)).map(|(_, key)| key));
    }
    Ok(found)
}

/// True if one of some records has opted out, or one of the normalised addresses, by a sweep that has not
/// reached its records yet.
pub(crate) async fn is_awaited(
    tx: &Tx,
    org_id: OrgId,
    records: &[RecordId],
    channel: Channel,
    keys: &[String],
) -> Result<bool> {
    Ok(!among(tx, org_id, records).await?.is_empty() || !pending_addresses(tx, org_id, channel, keys).await?.is_empty())
}

/// SQL condition: the org has such a sweep, which is rare.
pub(crate) fn is_open(org_id: OrgId) -> Expr {
    let mut open = Query::select();
    open.expr(Expr::val(1)).from(sweeps::Entity).and_where(of_org(org_id));
    Expr::exists(open)
}

/// SQL condition on the sweeps that opt out records of an org. A sweep over records is never held; the
/// literal passes over those of failed runs by an index.
fn of_org(org_id: OrgId) -> Expr {
    let theirs = sweeps::COLUMN.org_id.eq(org_id).and(sweeps::COLUMN.kind.eq(SweepKind::Unsubscribe));
    theirs.and(Expr::cust("NOT sweep.held"))
}

async fn open(tx: &Tx, org_id: OrgId) -> Result<Vec<sweeps::Model>> {
    Ok(sweeps::Entity::find().filter(of_org(org_id)).all(tx.db()).await?)
}

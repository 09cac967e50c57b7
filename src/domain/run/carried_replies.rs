//! Replies to carried-over messages. A run that repeats only failed work carries over messages of
//! earlier runs, so a reply to one of those must stop the follow-ups in the repeating run, too.

use entity::id::*;
use entity::{RunStatus, reply, run, run_record};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::unreached::Family;
use super::{early_events, interrupt, must_lock, snapshot};
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Event kind of a reply.
const REPLY_RECEIVED: &str = "reply.received";

/// Passes a reply of a record on to the runs that repeat the failed part of the run it answers. Those
/// that have ended apply it when they are retried.
pub(crate) async fn in_repeats(tx: &Tx, viewer: &Viewer, run: &run::Model, record: RecordId) -> Result<()> {
    let family = Family::of(tx.db(), viewer, run).await?;
    let mut repeats: Vec<RunId> = Vec::new();
    for other in family.others(run.id).filter(|other| other.status != RunStatus::Cancelled) {
        let snapshot = snapshot::of(tx.db(), other).await?;
        if snapshot.instructions.as_ref().is_some_and(|instructions| instructions.only_failed) {
            repeats.push(other.id);
        }
    }
    repeats.sort();
    for id in repeats {
        let other = must_lock(tx, viewer, id, None).await?;
        let recipients: Vec<RunRecordId> = run_record::Entity::find()
            .select_only()
            .column(run_record::Column::Id)
            .filter(run_record::COLUMN.run_id.eq(id))
            .filter(run_record::COLUMN.record_id.eq(record))
            .order_by_asc(run_record::COLUMN.id)
            .into_tuple()
            .all(tx.db())
            .await?;
        if recipients.is_empty() {
            continue;
        }
        interrupt::interrupt(tx, other, &recipients, REPLY_RECEIVED).await?;
    }
    Ok(())
}

/// Stores for a run the replies that its records gave to earlier runs, so that its steps are
/// created with knowledge of them.
pub(super) async fn before(tx: &Tx, run: &run::Model, family: &Family, records: &[RecordId]) -> Result<()> {
    if !early_events::affects_run(&*snapshot::of(tx.db(), run).await?, REPLY_RECEIVED) {
        return Ok(());
    }
    let found: Vec<Option<RecordId>> = reply::Entity::find()
        .select_only()
        .column(reply::Column::RecordId)
        .filter(any_of(tx.dialect(), reply::COLUMN.run_id, family.others(run.id).map(|other| other.id)))
        .filter(any_of(tx.dialect(), reply::Column::RecordId, records.iter().copied()))
        .distinct()
        .into_tuple()
        .all(tx.db())
        .await?;
    early_events::store(tx, run, found.into_iter().flatten(), REPLY_RECEIVED).await
}

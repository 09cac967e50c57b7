//! Changes of records that runs react to: updates, and the chunks of a bulk unsubscribe. Lock
//! order: runs come before records.

use entity::id::RecordId;
use entity::record::Model;
use entity::sweep;

use super::{interrupt, sweep_queue};
use crate::domain::audience::record::{self, Fields, unsubscribe};
use crate::kernel::db::WriteContext;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;
use crate::transact;

/// Updates the given fields. Errors: NOT_FOUND, CONFLICT, BAD_USER_INPUT.
pub async fn update(
    db: &WriteContext,
    viewer: &Viewer,
    id: RecordId,
    expected: Option<i32>,
    fields: &Fields,
) -> Result<Model> {
    let fields = fields.checked()?;
    transact!(db, |tx| {
        let engine = Viewer::engine(viewer.org_id);
        if fields.unsubscribed == Some(true) {
            let current = record::must_find(tx.db(), viewer, id).await?;
            if current.unsubscribed_at.is_none() {
                interrupt::opted_out(tx, &engine, &[current]).await?;
            }
        }
        // Steps that wait for this update then see it committed.
        interrupt::lock_runs_of(tx, viewer, &[id], None).await?;
        let before = record::must_lock(tx, viewer, id, expected).await?;
        let record = record::update_locked(tx, viewer, &before, &fields).await?;
        if record.revision != before.revision {
            let name = if before.stage == record.stage { "record.updated" } else { "record.stage_changed" };
            interrupt::interrupt_records(tx, &engine, &[id], name).await?;
        }
        Ok(record)
    })
}

/// Processes one chunk of the sweep of a bulk unsubscribe.
pub(super) async fn unsubscribe_chunk(db: &WriteContext, viewer: &Viewer, sweep: &sweep::Model) -> Result<()> {
    transact!(db, |tx| {
        let Some(current) = sweep_queue::lock_unmoved(tx, sweep).await? else { return Ok(()) };
        let records = unsubscribe::next_chunk(tx, sweep).await?;
        let ids: Vec<RecordId> = records.iter().map(|record| record.id).collect();
        interrupt::opted_out(tx, &Viewer::engine(sweep.org_id), &records).await?;
        unsubscribe::write_chunk(tx, viewer, sweep, &ids).await?;
        sweep_queue::save_position(tx, current, ids.last().map(|id| id.0)).await?;
        Ok(())
    })
}

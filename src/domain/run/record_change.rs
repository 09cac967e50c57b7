//! Changes of records that runs react to: every writer of records locks the runs here before it
//! writes, and announces its changes here afterwards. Lock order: runs come before records, both in
//! the order of their ids.
//!
//! A step's own change of a record neither wakes nor stops steps of its run: a step that waits for
//! `record.updated` and updates the record would otherwise be its own cause.

use std::collections::BTreeMap;

use entity::id::{RecordId, RunId};
use entity::record::Model;
use entity::sweep;
use serde_json::{Value, json};

use super::{interrupt, sweep_queue};
use crate::domain::audience::record::{self, Fields, kept, unsubscribe};
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;
use crate::transact;

const UPDATED: &str = "record.updated";
const STAGE_CHANGED: &str = "record.stage_changed";
const UNSUBSCRIBED: &str = "record.unsubscribed";

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
        let mut leaving = Vec::new();
        if fields.unsubscribed == Some(true) {
            let current = record::must_find(tx.db(), viewer, id).await?;
            leaving.extend(Some(current).filter(|current| current.unsubscribed_at.is_none()));
        }
        // Steps that wait for this update then see it committed.
        lock_runs(tx, viewer, &[id], &leaving, None).await?;
        interrupt::opted_out(tx, &Viewer::engine(viewer.org_id), &leaving).await?;
        let before = record::must_lock(tx, viewer, id, expected).await?;
        let record = record::update_locked(tx, viewer, &before, &fields).await?;
        if record.revision != before.revision {
            announce(tx, viewer, &[(&before, &record)], None).await?;
        }
        Ok(record)
    })
}

/// Locks the runs that react to changes or opt-outs of some records, and the run whose step changes
/// them, in the order of their ids. The records are locked after it.
pub(crate) async fn lock_runs(
    tx: &Tx,
    viewer: &Viewer,
    changing: &[RecordId],
    leaving: &[Model],
    own: Option<RunId>,
) -> Result<()> {
    let mut runs = interrupt::reacting(tx, viewer, changing, &[UPDATED, STAGE_CHANGED]).await?;
    runs.extend(interrupt::open_for_opt_out(tx, viewer, leaving).await?);
    runs.extend(own);
    interrupt::lock_in_order(tx, viewer, runs).await?;
    Ok(())
}

/// Appends the events of changed records, each as it was and as it is, and applies them to the runs
/// that are working on the records, except `own`, whose step changed them. The rows are written, and
/// opt-outs were applied before, by `interrupt::opted_out`.
pub(crate) async fn announce(tx: &Tx, viewer: &Viewer, changes: &[(&Model, &Model)], own: Option<RunId>) -> Result<()> {
    let mut by_name: BTreeMap<&str, Vec<RecordId>> = BTreeMap::new();
    for (before, after) in changes {
        for (name, payload) in events(before, after) {
            record::emit(tx, viewer, name, after, payload);
            by_name.entry(name).or_default().push(after.id);
        }
    }
    by_name.remove(UNSUBSCRIBED);
    for (name, records) in by_name {
        interrupt::interrupt_records(tx, &Viewer::engine(viewer.org_id), &records, name, own).await?;
    }
    Ok(())
}

/// The events of a changed record: one for each change that has its own kind, or else one
/// `record.updated`.
fn events(before: &Model, after: &Model) -> Vec<(&'static str, Value)> {
    let mut events = Vec::new();
    if before.stage != after.stage {
        events.push((STAGE_CHANGED, json!({ "from": before.stage, "to": after.stage })));
    }
    if before.unsubscribed_at.is_none() && after.unsubscribed_at.is_some() {
        events.push((UNSUBSCRIBED, json!({})));
    }
    if events.is_empty() {
        events.push((UPDATED, json!({})));
    }
    events
}

/// Processes one chunk of the sweep of a bulk unsubscribe.
pub(super) async fn unsubscribe_chunk(db: &WriteContext, viewer: &Viewer, sweep: &sweep::Model) -> Result<()> {
    transact!(db, |tx| {
        let Some(current) = sweep_queue::lock_unmoved(tx, sweep).await? else { return Ok(()) };
        let records = unsubscribe::next_chunk(tx, sweep).await?;
        let ids: Vec<RecordId> = records.iter().map(|record| record.id).collect();
        interrupt::opted_out(tx, &Viewer::engine(sweep.org_id), &records).await?;
        unsubscribe::write_chunk(tx, viewer, sweep, &ids).await?;
        if !sweep_queue::save_position(tx, current, ids.last().map(|id| id.0)).await? {
            kept::forget(tx, sweep.id.0).await?;
        }
        Ok(())
    })
}

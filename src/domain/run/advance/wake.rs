//! A task that waits for an event begins: steps are made of what came before.

use entity::id::*;
use entity::{run, run_record, task};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::domain::run::snapshot::RunSnapshot;
use crate::domain::run::{early_events, sweep};
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;

/// The event whose every occurrence is seen by somebody when it comes: without a step, it becomes a follow-up.
const SEEN: &str = "reply.received";

/// Makes the steps. Says whether there were any to make.
pub(super) async fn early(tx: &Tx, run: &run::Model, snapshot: &RunSnapshot, task: &task::Model) -> Result<bool> {
    let Some(declared) = snapshot.task(&task.key) else { return Ok(false) };
    let Some(name) = declared.steps.first().and_then(early_events::awaited).filter(|name| *name != SEEN) else {
        return Ok(false);
    };
    let records = early_events::records(tx, run, name).await?;
    if records.is_empty() {
        return Ok(false);
    }
    let places: Vec<(RunRecordId, Option<RecordId>)> = run_record::Entity::find()
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(any_of(tx.dialect(), run_record::COLUMN.record_id, records))
        .all(tx.db())
        .await?
        .into_iter()
        .map(|place| (place.id, place.record_id))
        .collect();
    let mut rest = places.as_slice();
    while !rest.is_empty() {
        let made = sweep::fan_out::make(tx, run, snapshot, task, declared, rest).await?;
        rest = &rest[made..];
    }
    Ok(!places.is_empty())
}

//! Steps that wait for an event that has come: those of a fan-out are made for each place that has none yet, single ones are
//! fired.

use std::collections::HashSet;

use entity::definition::Trigger;
use entity::id::*;
use entity::step::{self, StepStatus};
use entity::{run, run_record, task};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::domain::run::snapshot::RunSnapshot;
use crate::domain::run::{dependents, sweep};
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;

/// True if a task has begun, and steps of it wait for an event.
pub(super) fn listens(snapshot: &RunSnapshot, task: &task::Model, name: &str) -> bool {
    let trigger = Trigger::Event(name.to_owned());
    let declared = snapshot.task(&task.key);
    let waits = declared.is_some_and(|declared| declared.steps.iter().any(|step| step.trigger == trigger));
    task.fan_out_begun && task.left_out.is_none() && waits
}

/// Wakes the steps of tasks that listen.
pub(super) async fn wake(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    listening: &[task::Model],
    places: &[RunRecordId],
    made: &[step::Model],
    name: &str,
) -> Result<()> {
    let trigger = Trigger::Event(name.to_owned());
    let made: HashSet<(Option<RunRecordId>, TaskId)> =
        made.iter().map(|step| (step.run_record_id, step.task_id)).collect();
    for task in listening {
        let Some(declared) = snapshot.task(&task.key) else { continue };
        if declared.fan_out {
            let fresh = places.iter().copied().filter(|place| !made.contains(&(Some(*place), task.id)));
            let rows = run_record::Entity::find()
                .filter(any_of(tx.dialect(), run_record::COLUMN.id, fresh))
                .all(tx.db())
                .await?;
            let rows: Vec<_> = rows.into_iter().map(|row| (row.id, row.record_id)).collect();
            let mut rest = rows.as_slice();
            while !rest.is_empty() {
                let made = sweep::fan_out::make(tx, run, snapshot, task, declared, rest).await?;
                rest = &rest[made..];
            }
        } else {
            let waiting = step::Entity::find()
                .filter(step::COLUMN.task_id.eq(task.id))
                .filter(step::COLUMN.status.eq(StepStatus::Pending))
                .filter(step::COLUMN.trigger.eq(trigger.to_string()))
                .all(tx.db())
                .await?;
            dependents::enqueue(tx, run, snapshot, waiting, tx.now()).await?;
        }
    }
    Ok(())
}

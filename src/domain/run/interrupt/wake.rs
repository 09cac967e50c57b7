//! Wakes steps that wait for an event: creates fan-out steps for each recipient that has none yet,
//! and enqueues single steps.

use std::collections::{HashMap, HashSet};

use entity::definition::Trigger;
use entity::id::*;
use entity::step::{self, StepStatus};
use entity::{run, run_record, task};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::domain::run::dependents;
use crate::domain::run::snapshot::RunSnapshot;
use crate::domain::run::sweep::fan_out::{self, Arrival};
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;

/// True if a task has begun and has steps that wait for the event.
pub(super) fn listens(snapshot: &RunSnapshot, task: &task::Model, name: &str) -> bool {
    let trigger = Trigger::Event(name.to_owned());
    let declared = snapshot.task(&task.key);
    let waits = declared.is_some_and(|declared| declared.steps.iter().any(|step| step.trigger == trigger));
    task.fan_out_begun && task.left_out_reason.is_none() && waits
}

/// Wakes the waiting steps of these tasks.
pub(super) async fn wake(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    listening: &[task::Model],
    recipients: &[RunRecordId],
    existing: &[step::Model],
    name: &str,
) -> Result<()> {
    let trigger = Trigger::Event(name.to_owned());
    for task in listening {
        let Some(declared) = snapshot.task(&task.key) else { continue };
        if declared.fan_out {
            // Other events of the task create other steps of it.
            let keys: HashSet<&str> =
                declared.created_by(name).into_iter().map(|at| declared.steps[at].key.as_str()).collect();
            let mine = existing.iter().filter(|step| step.task_id == task.id && keys.contains(step.key.as_str()));
            let created: HashSet<RunRecordId> = mine.filter_map(|step| step.run_record_id).collect();
            let fresh = recipients.iter().copied().filter(|recipient| !created.contains(recipient));
            let rows = run_record::Entity::find()
                .filter(any_of(tx.dialect(), run_record::COLUMN.id, fresh))
                .all(tx.db())
                .await?;
            let rows: Vec<_> = rows.into_iter().map(|row| (row.id, row.record_id)).collect();
            let mut rest = rows.as_slice();
            while !rest.is_empty() {
                let event = Arrival { name, numbers: HashMap::new() };
                let created = fan_out::make(tx, run, snapshot, task, declared, rest, Some(&event)).await?;
                rest = &rest[created..];
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

//! Begins tasks that wait for an event: creates fan-out steps for events that arrived earlier, and
//! enqueues single steps.

use entity::definition::Trigger;
use entity::id::*;
use entity::step::{self, StepStatus};
use entity::{run, run_record, task};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::domain::run::snapshot::RunSnapshot;
use crate::domain::run::{dependents, early_events, sweep};
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;

/// Creates the fan-out steps for events that arrived earlier. Returns true if any were created.
pub(super) async fn early(tx: &Tx, run: &run::Model, snapshot: &RunSnapshot, task: &task::Model) -> Result<bool> {
    let Some(declared) = snapshot.task(&task.key) else { return Ok(false) };
    let Some(name) = declared.steps.first().and_then(early_events::awaited).filter(|name| *name != early_events::SEEN)
    else {
        return Ok(false);
    };
    let records = early_events::records(tx, run, name).await?;
    if records.is_empty() {
        return Ok(false);
    }
    let recipients: Vec<(RunRecordId, Option<RecordId>)> = run_record::Entity::find()
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(any_of(tx.dialect(), run_record::COLUMN.record_id, records))
        .all(tx.db())
        .await?
        .into_iter()
        .map(|recipient| (recipient.id, recipient.record_id))
        .collect();
    let mut rest = recipients.as_slice();
    while !rest.is_empty() {
        let created = sweep::fan_out::make(tx, run, snapshot, task, declared, rest).await?;
        rest = &rest[created..];
    }
    Ok(!recipients.is_empty())
}

/// Ids of waiting single steps whose task has not begun and whose event has already arrived: they
/// are not skipped.
pub(super) async fn arrived_early(
    tx: &Tx,
    run: &run::Model,
    waiting: &[step::Model],
    tasks: &[task::Model],
) -> Result<Vec<StepId>> {
    let unbegun = |step: &&step::Model| tasks.iter().any(|task| task.id == step.task_id && !task.fan_out_begun);
    let mut all = Vec::new();
    for step in waiting.iter().filter(unbegun) {
        if let Ok(Trigger::Event(name)) = step.trigger.parse()
            && name != early_events::SEEN
            && early_events::has_come(tx, run, &name).await?
        {
            all.push(step.id);
        }
    }
    Ok(all)
}

/// Enqueues the single steps of a starting task whose event has already arrived. Returns true if
/// there were any.
pub(super) async fn singles(tx: &Tx, run: &run::Model, snapshot: &RunSnapshot, task: &task::Model) -> Result<bool> {
    let awaits = |declared: &entity::definition::TaskDef| {
        declared.steps.iter().any(|step| early_events::awaited(step).is_some())
    };
    if task.left_out.is_some() || !snapshot.task(&task.key).is_some_and(awaits) {
        return Ok(false);
    }
    let mut waiting = step::Entity::find()
        .filter(step::COLUMN.task_id.eq(task.id))
        .filter(step::COLUMN.status.eq(StepStatus::Pending))
        .all(tx.db())
        .await?;
    let arrived = arrived_early(tx, run, &waiting, std::slice::from_ref(task)).await?;
    waiting.retain(|step| arrived.contains(&step.id));
    dependents::enqueue(tx, run, snapshot, waiting, tx.now()).await?;
    Ok(!arrived.is_empty())
}

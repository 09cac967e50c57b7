//! Begins tasks that wait for an event: creates fan-out steps for events that arrived earlier, and
//! enqueues single steps.

use std::collections::{BTreeMap, BTreeSet};

use entity::definition::Trigger;
use entity::id::*;
use entity::step::{self, StepStatus};
use entity::{run, run_record, task};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::domain::run::snapshot::RunSnapshot;
use crate::domain::run::sweep::fan_out::{self, Arrival};
use crate::domain::run::{dependents, early_events, skip};
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;

/// Creates the fan-out steps for events that arrived earlier. Returns true if any were created.
pub(super) async fn early(tx: &Tx, run: &run::Model, snapshot: &RunSnapshot, task: &task::Model) -> Result<bool> {
    let Some(declared) = snapshot.task(&task.key) else { return Ok(false) };
    let names: BTreeSet<&str> = declared
        .steps
        .iter()
        .filter_map(early_events::awaited)
        .filter(|name| *name != early_events::REPLY_RECEIVED)
        .collect();
    let mut any = false;
    for name in names {
        let event = Arrival { name, numbers: early_events::records(tx, run, name).await? };
        if event.numbers.is_empty() {
            continue;
        }
        let recipients: Vec<(RunRecordId, Option<RecordId>)> = run_record::Entity::find()
            .filter(run_record::COLUMN.run_id.eq(run.id))
            .filter(any_of(tx.dialect(), run_record::COLUMN.record_id, event.numbers.keys().copied()))
            .all(tx.db())
            .await?
            .into_iter()
            .map(|recipient| (recipient.id, recipient.record_id))
            .collect();
        let mut rest = recipients.as_slice();
        while !rest.is_empty() {
            let created = fan_out::make(tx, run, snapshot, task, declared, rest, Some(&event)).await?;
            rest = &rest[created..];
        }
        any |= !recipients.is_empty();
    }
    Ok(any)
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
            && name != early_events::REPLY_RECEIVED
            && early_events::has_come(tx, run, &name).await?
        {
            all.push(step.id);
        }
    }
    Ok(all)
}

/// Applies to the single steps of a starting task the events that came before: stops those about a
/// record that an event ruled out, and enqueues those whose event has already arrived. Returns true
/// if there were any.
pub(super) async fn singles(tx: &Tx, run: &run::Model, snapshot: &RunSnapshot, task: &task::Model) -> Result<bool> {
    let Some(declared) = snapshot.task(&task.key).filter(|_| task.left_out_reason.is_none()) else { return Ok(false) };
    let waiting = step::Entity::find()
        .filter(step::COLUMN.task_id.eq(task.id))
        .filter(step::COLUMN.status.eq(StepStatus::Pending))
        .all(tx.db())
        .await?;
    let records: Vec<RecordId> = waiting.iter().filter_map(|step| step.record_id).collect();
    let stops = early_events::stopping(tx, run, snapshot, declared, &records).await?;
    let (mut stopped, mut rest): (BTreeMap<&str, Vec<step::Model>>, Vec<step::Model>) = Default::default();
    for step in waiting {
        match stops.first(step.record_id, &step.key) {
            Some(name) => stopped.entry(name).or_default().push(step),
            None => rest.push(step),
        }
    }
    let any = !stopped.is_empty();
    for (name, steps) in stopped {
        skip::interrupted(tx, run, steps, name).await?;
    }
    if !declared.steps.iter().any(|step| early_events::awaited(step).is_some()) {
        return Ok(any);
    }
    let arrived = arrived_early(tx, run, &rest, std::slice::from_ref(task)).await?;
    rest.retain(|step| arrived.contains(&step.id));
    dependents::enqueue(tx, run, snapshot, rest, tx.now()).await?;
    Ok(any || !arrived.is_empty())
}

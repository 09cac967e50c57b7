//! Events about records that come before their run has made the steps that they stop or wake: while its audience is taken in
//! or a fan-out is under way, or before their phase has begun. They are kept, and asked for when those steps are made.

use std::collections::HashMap;

use entity::definition::{PhaseDef, StepDef, TaskDef, Trigger};
use entity::early_event::{ActiveModel, COLUMN, Column, Entity};
use entity::id::*;
use entity::step::StepReason;
use entity::{PhaseStatus, phase, run, task};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Set};

use super::snapshot::RunSnapshot;
use super::step::ReasonText;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::{any_of, insert_new};
use crate::kernel::error::Result;

/// The text before the event's name in the reason of steps that an event stops.
pub(super) const BY: &str = "interrupted by ";

/// The reason of steps that an event stops.
pub(super) fn why(name: &str) -> ReasonText {
    ReasonText::new(StepReason::Interrupted, format!("{BY}{name}"))
}

/// The event that a step waits for.
pub(super) fn awaited(step: &StepDef) -> Option<&str> {
    match &step.trigger {
        Trigger::Event(name) => Some(name),
        _ => None,
    }
}

fn hears(phase: &PhaseDef, name: &str) -> bool {
    let steps = phase.tasks.iter().flat_map(|task| &task.steps);
    phase.interrupt_events.iter().any(|event| event == name)
        || steps.into_iter().any(|step| awaited(step) == Some(name))
}

/// True if an event does anything in a run, in whichever phase.
pub(super) fn is_heard(snapshot: &RunSnapshot, name: &str) -> bool {
    snapshot.definition.phases.iter().any(|phase| hears(phase, name))
}

/// True if steps that hear an event are still to be made.
pub(super) fn is_early(snapshot: &RunSnapshot, phases: &[phase::Model], tasks: &[task::Model], name: &str) -> bool {
    let unmade = |task: &task::Model| {
        let declared = snapshot.task(&task.key);
        let waits = task.fan_out_begun && declared.is_some_and(TaskDef::on_event);
        task.fan_out && task.left_out.is_none() && !task.fan_out_done && !waits
    };
    snapshot.definition.phases.iter().filter(|declared| hears(declared, name)).any(|declared| {
        phases.iter().filter(|phase| phase.key == declared.key).any(|phase| match phase.status {
            PhaseStatus::Pending => true,
            PhaseStatus::Active => tasks.iter().any(|task| task.phase_id == phase.id && unmade(task)),
            PhaseStatus::Completed | PhaseStatus::Skipped | PhaseStatus::Failed => false,
        })
    })
}

/// Keeps an event about some records, once. The run is locked.
pub(super) async fn keep(
    tx: &Tx,
    run: &run::Model,
    records: impl IntoIterator<Item = RecordId>,
    name: &str,
) -> Result<()> {
    let rows = records.into_iter().map(|record| ActiveModel {
        run_id: Set(run.id),
        record_id: Set(record),
        name: Set(name.to_owned()),
        org_id: Set(run.org_id),
        at: Set(tx.now()),
    });
    let once = OnConflict::columns([Column::RunId, Column::RecordId, Column::Name]).do_nothing().to_owned();
    insert_new(tx, rows.collect::<Vec<_>>(), once).await
}

/// The events that stop a task's steps of some records before they are made, by the record: the first one of each. What the
/// task itself listens to is spared.
pub(super) async fn stopping(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    task: &TaskDef,
    records: &[RecordId],
) -> Result<HashMap<RecordId, String>> {
    let phase = snapshot.definition.phases.iter().find(|phase| phase.tasks.iter().any(|other| other.key == task.key));
    let spared = |name: &&String| task.steps.iter().any(|step| awaited(step) == Some(name.as_str()));
    let names = phase.into_iter().flat_map(|phase| &phase.interrupt_events).filter(|name| !spared(name));
    let names: Vec<String> = names.cloned().collect();
    if names.is_empty() || task.on_event() || records.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = Entity::find()
        .filter(COLUMN.run_id.eq(run.id))
        .filter(any_of(tx.dialect(), COLUMN.record_id, records.iter().copied()))
        .filter(any_of(tx.dialect(), Column::Name, names))
        .order_by_desc(COLUMN.at)
        .all(tx.db())
        .await?;
    Ok(rows.into_iter().map(|row| (row.record_id, row.name)).collect())
}

/// The records about which an event came early.
pub(super) async fn records(tx: &Tx, run: &run::Model, name: &str) -> Result<Vec<RecordId>> {
    Ok(Entity::find()
        .select_only()
        .column(Column::RecordId)
        .filter(COLUMN.run_id.eq(run.id))
        .filter(COLUMN.name.eq(name))
        .into_tuple()
        .all(tx.db())
        .await?)
}

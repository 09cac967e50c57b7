//! Steps before and after a step, as far as they decide about the actions on it.

use entity::definition::Trigger;
use entity::step::{COLUMN, Column, Entity, Model, StepStatus};
use entity::task;
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter};

use crate::domain::run::advance::plan::steps::end_of_fan_out;
use crate::domain::run::dependents::DependencyEnd;
use crate::domain::run::{snapshot::RunSnapshot, step_graph::StepGraph};
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;

/// True if a step that depends on this one has left PENDING. One whose delay is still running, or
/// has just passed, can wait again.
pub(super) async fn has_started_dependents(db: &impl ConnectionTrait, step: &Model, graph: &StepGraph) -> Result<bool> {
    let keys = graph.dependents_of(&step.key);
    if keys.is_empty() {
        return Ok(false);
    }
    let mut left_pending = Entity::find()
        .filter(COLUMN.run_id.eq(step.run_id))
        .filter(any_of(db.get_database_backend(), Column::Key, keys))
        .filter(COLUMN.status.ne(StepStatus::Pending))
        .filter(delayed().not());
    if let Some(recipient_id) = step.run_record_id.filter(|_| graph.fan_out_keys.contains(&step.key)) {
        left_pending = left_pending.filter(COLUMN.run_record_id.eq(recipient_id));
    }
    Ok(left_pending.count(db).await? > 0)
}

/// Key and outcome of the step that a step follows, if that did not complete.
pub(super) async fn ended_before(
    db: &impl ConnectionTrait,
    step: &Model,
    snapshot: &RunSnapshot,
    tasks: &[task::Model],
) -> Result<Option<(String, DependencyEnd)>> {
    let Ok(Trigger::After(key)) = step.trigger.parse() else { return Ok(None) };
    let Some((declared, _)) = snapshot.step(&key) else { return Ok(None) };
    let is_in_fan_out = |key: &str| snapshot.graph.fan_out_keys.contains(key);
    let end = if declared.fan_out && !is_in_fan_out(&step.key) {
        let task = tasks.iter().find(|task| task.key == declared.key);
        task.and_then(end_of_fan_out)
    } else {
        let mut before = Entity::find().filter(COLUMN.run_id.eq(step.run_id)).filter(COLUMN.key.eq(&key));
        if declared.fan_out {
            before = before.filter(COLUMN.run_record_id.eq(step.run_record_id));
        }
        before.one(db).await?.and_then(|before| DependencyEnd::of(before.status, before.result.is_some()))
    };
    Ok(end.filter(|end| *end != DependencyEnd::Completed).map(|end| (key, end)))
}

/// SQL condition: the step is queued after a delay, and was never claimed.
fn delayed() -> Condition {
    Condition::all()
        .add(COLUMN.status.eq(StepStatus::Queued))
        .add(COLUMN.attempt_count.eq(0))
        .add(Column::Trigger.starts_with("delay:"))
}

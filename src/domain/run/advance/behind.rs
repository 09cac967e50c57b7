//! Finds the steps that follow steps of other tasks of their phase, without their task depending on
//! those: they wait as long as the other tasks can't begin.

use std::collections::HashMap;

use entity::definition::{PhaseDef, TaskDef, Trigger};
use entity::id::TaskId;
use entity::step::{self, StepStatus};
use entity::task;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use super::plan::Behind;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;

/// Pending steps of a phase that follow steps of its other tasks, but for those that wait for an
/// event anyway.
pub(super) async fn find(
    tx: &Tx,
    declared: &PhaseDef,
    tasks: &[task::Model],
    waits: impl Fn(&str) -> bool,
) -> Result<Vec<Behind>> {
    let chains = chains(declared);
    let id_of = |key: &str| tasks.iter().find(|task| task.key == key).map(|task| task.id);
    if chains.is_empty() {
        return Ok(Vec::new());
    }
    let ids = declared.tasks.iter().filter_map(|task| id_of(&task.key));
    let pending: Vec<(TaskId, String, i64)> = step::Entity::find()
        .select_only()
        .column(step::Column::TaskId)
        .column(step::Column::Key)
        .column_as(step::Column::Id.count(), "count")
        .filter(any_of(tx.dialect(), step::COLUMN.task_id, ids))
        .filter(any_of(tx.dialect(), step::Column::Key, chains.keys().copied()))
        .filter(step::COLUMN.status.eq(StepStatus::Pending))
        .group_by(step::Column::TaskId)
        .group_by(step::Column::Key)
        .into_tuple()
        .all(tx.db())
        .await?;
    let each = pending.into_iter().filter(|(_, key, _)| !waits(key));
    let followed = |key: &str| chains.get(key).into_iter().flatten().filter_map(|task| id_of(task)).collect();
    Ok(each.map(|(task, key, steps)| Behind { task, followed: followed(&key), steps }).collect())
}

/// Keys of the other tasks that a step follows, directly or through other steps, by its key.
fn chains(phase: &PhaseDef) -> HashMap<&str, Vec<&str>> {
    let mut all: HashMap<&str, Vec<&str>> = HashMap::new();
    for task in &phase.tasks {
        for step in &task.steps {
            let mut followed = Vec::new();
            let mut seen = vec![step.key.as_str()];
            let mut at = Some(step.key.as_str());
            while let Some((of, key)) = at.and_then(|key| before(phase, key)) {
                // Steps of runs from before the rule may follow each other in a circle.
                if seen.contains(&key) {
                    break;
                }
                seen.push(key);
                if of.key != task.key {
                    followed.push(of.key.as_str());
                }
                at = Some(key);
            }
            if !followed.is_empty() {
                all.insert(&step.key, followed);
            }
        }
    }
    all
}

/// The step that a step of the phase follows, with its task; none if that belongs to another phase.
fn before<'a>(phase: &'a PhaseDef, key: &str) -> Option<(&'a TaskDef, &'a str)> {
    let find = |key: &str| {
        phase.tasks.iter().find_map(|task| Some((task, task.steps.iter().position(|step| step.key == key)?)))
    };
    let (task, i) = find(key)?;
    let (of, i) = match &task.steps[i].trigger {
        Trigger::After(key) => find(key)?,
        Trigger::Delay(_) if i > 0 => (task, i - 1),
        Trigger::Delay(_) | Trigger::Immediate | Trigger::Manual | Trigger::Event(_) => return None,
    };
    Some((of, &of.steps[i].key))
}

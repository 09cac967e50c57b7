//! Checks that the steps of guided work, which people add and reorder, are those of its structure, in
//! the same order.

use std::collections::HashMap;

use entity::id::*;
use entity::{RunType, run, run_snapshot, step, task};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{CheckedSnapshot, Violations};
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;

/// Number of runs that are read together: their structures are large.
const RUNS: u64 = 50;

pub(super) async fn check(snapshot: &CheckedSnapshot) -> Result<Violations> {
    let mut found = Violations::new("the steps of guided work are those of its structure, in the same order");
    let mut last: Option<RunId> = None;
    loop {
        let mut select = run::Entity::find().select_only().column(run::Column::Id);
        select = select.filter(run::COLUMN.run_type.eq(RunType::Guided)).order_by_asc(run::COLUMN.id).limit(RUNS);
        if let Some(last) = last {
            select = select.filter(run::COLUMN.id.gt(last));
        }
        let runs: Vec<RunId> = select.into_tuple().all(&snapshot.tx).await?;
        let Some(newest) = runs.last() else { return Ok(found) };
        last = Some(*newest);
        let runs: Vec<RunId> = runs.into_iter().filter(|id| !snapshot.seeded.contains(&id.0)).collect();
        check_runs(snapshot, &runs, &mut found).await?;
    }
}

async fn check_runs(snapshot: &CheckedSnapshot, runs: &[RunId], found: &mut Violations) -> Result<()> {
    let structures = run_snapshot::Entity::find()
        .filter(any_of(snapshot.dialect, run_snapshot::COLUMN.run_id, runs.iter().copied()))
        .all(&snapshot.tx)
        .await?;
    // A run that has not begun has no tasks.
    let tasks = task::Entity::find()
        .filter(any_of(snapshot.dialect, task::COLUMN.run_id, runs.iter().copied()))
        .all(&snapshot.tx)
        .await?;
    let steps: Vec<(TaskId, String, i32)> = step::Entity::find()
        .select_only()
        .columns([step::Column::TaskId, step::Column::Key, step::Column::Sequence])
        .filter(any_of(snapshot.dialect, step::COLUMN.run_id, runs.iter().copied()))
        .order_by_asc(step::COLUMN.sequence)
        .into_tuple()
        .all(&snapshot.tx)
        .await?;
    let mut steps_of: HashMap<TaskId, Vec<(i32, String)>> = HashMap::new();
    for (task, key, sequence) in steps {
        steps_of.entry(task).or_default().push((sequence, key));
    }
    for task in tasks {
        let structure = structures.iter().find(|structure| structure.run_id == task.run_id);
        let phases = structure.iter().flat_map(|structure| &structure.definition.phases);
        let declared = phases.flat_map(|phase| &phase.tasks).find(|declared| declared.key == task.key);
        let declared = declared.iter().flat_map(|declared| &declared.steps).map(|step| step.key.clone());
        let declared: Vec<(i32, String)> = (0..).zip(declared).collect();
        let mine = steps_of.remove(&task.id).unwrap_or_default();
        found.record(mine == declared, || {
            format!("task {} of run {} has the steps {mine:?}, declared {declared:?}", task.id, task.run_id)
        });
    }
    Ok(())
}

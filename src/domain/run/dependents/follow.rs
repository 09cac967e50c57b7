//! Enqueues a fan-out's steps that were skipped because a single step had not completed, once that
//! step is done again and completes.

use entity::id::*;
use entity::step::{self, StepStatus};
use entity::sweep::{Model, SweepKind};
use entity::{run, task};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::again::{WAITED, restore, return_to_pending};
use super::{advance, enqueue};
use crate::domain::run::snapshot::{self, RunSnapshot};
use crate::domain::run::step::Change;
use crate::domain::run::{recipients, sweep_queue};
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::{Error, Result};
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;

/// Begins the sweeps of all completed single steps, for a failed run that is retried. One that it had
/// when it failed continues behind its position, and leaves nothing to the new one.
pub(in crate::domain::run) async fn begin_all(tx: &Tx, run: &run::Model, snapshot: &RunSnapshot) -> Result<()> {
    for key in snapshot.graph.dependents.keys().filter(|key| !snapshot.graph.fan_out_keys.contains(*key)) {
        if single(tx, run, key).await?.is_some_and(|step| step.status == StepStatus::Completed) {
            begin(tx, run, snapshot, key).await?;
        }
    }
    Ok(())
}

/// Begins a sweep for each fan-out with steps that were skipped because this single step had not
/// completed, and keeps its task open.
pub(super) async fn begin(tx: &Tx, run: &run::Model, snapshot: &RunSnapshot, key: &str) -> Result<()> {
    if !snapshot.graph.dependents.contains_key(key) {
        return Ok(());
    }
    let engine = Viewer::engine(run.org_id);
    // The fan-out of a task that has not begun creates its steps, and judges them, later.
    let tasks = crate::domain::run::task::of_runs(tx.db(), &engine, &[run.id]).await?;
    for task in tasks.into_iter().filter(|task| task.fan_out_begun) {
        if followers(tx, snapshot, &task, key).limit(1).one(tx.db()).await?.is_some() {
            crate::domain::run::task::hold_open(tx, task.id).await?;
            sweep_queue::begin(tx, &engine, run, Some(task.id), SweepKind::Follow, Some(key.to_owned())).await?;
        }
    }
    Ok(())
}

/// Selects the task's steps that follow a single step and were skipped at its end.
fn followers(tx: &Tx, snapshot: &RunSnapshot, task: &task::Model, key: &str) -> sea_orm::Select<step::Entity> {
    let of_task = |key: &&str| snapshot.step(key).is_some_and(|(declared, _)| declared.key == task.key);
    let dependents = snapshot.graph.dependents.get(key).into_iter().flatten();
    let keys = dependents.map(|dependent| dependent.key.as_str()).filter(of_task);
    step::Entity::find()
        .filter(step::COLUMN.task_id.eq(task.id))
        .filter(any_of(tx.dialect(), step::Column::Key, keys))
        .filter(step::COLUMN.status.eq(StepStatus::Skipped))
        .filter(step::COLUMN.reason.is_in(WAITED))
}

/// The run's single step with a key.
async fn single(tx: &Tx, run: &run::Model, key: &str) -> Result<Option<step::Model>> {
    let of_key = step::Entity::find().filter(step::COLUMN.run_id.eq(run.id)).filter(step::COLUMN.key.eq(key));
    Ok(of_key.filter(step::COLUMN.run_record_id.is_null()).one(tx.db()).await?)
}

/// Enqueues a chunk of the steps; ends if the single step is done again meanwhile.
pub(in crate::domain::run) async fn chunk(tx: &Tx, run: &run::Model, sweep: &Model) -> Result<Option<uuid::Uuid>> {
    let (Some(task_id), Some(key)) = (sweep.task_id, sweep.reason.as_deref()) else {
        return Err(Error::internal("a sweep over followers without a task or a step"));
    };
    if single(tx, run, key).await?.is_none_or(|step| step.status != StepStatus::Completed) {
        return Ok(None);
    }
    let task = task::Entity::find_by_id(task_id).one(tx.db()).await?.ok_or_else(|| Error::internal("no task"))?;
    let snapshot = snapshot::of(tx.db(), run).await?;
    let declared = snapshot.task(&task.key).ok_or_else(|| Error::internal("a task that is not declared"))?;
    let mut found = followers(tx, &snapshot, &task, key);
    if let Some(last) = sweep.last_key {
        found = found.filter(step::COLUMN.id.gt(StepId(last)));
    }
    let found = found.order_by_asc(step::COLUMN.id).limit(limits::CHUNK).all(tx.db()).await?;
    let waiting = return_to_pending(tx, run, &snapshot, declared, &found).await?;
    recipients::clear_skipped(tx, waiting.iter().filter_map(|step| step.run_record_id)).await?;
    restore(tx, run, &snapshot, &waiting).await?;
    let skipped = enqueue(tx, run, &snapshot, waiting, tx.now()).await?;
    let change = |step| Change { step, from: None, kind: "", reason: None };
    advance(tx, run, &snapshot, &skipped.into_iter().map(change).collect::<Vec<_>>()).await?;
    Ok(found.last().map(|step| step.id.0))
}

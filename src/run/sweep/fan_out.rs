//! A task's steps are made: one for each place of the audience that is still open.

use entity::definition::Trigger;
use entity::id::*;
use entity::step::{self, StepStatus};
use entity::sweep::Model;
use entity::{run, run_record};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::db::Tx;
use crate::error::{Error, Result};
use crate::limits;
use crate::run::{begin, brief};

/// Makes a task's steps: one per place that is still open.
pub(super) async fn chunk(tx: &Tx, run: &run::Model, sweep: &Model) -> Result<Option<uuid::Uuid>> {
    let task_id = sweep.task_id.ok_or_else(|| Error::ours("a fan-out without a task"))?;
    let task = entity::task::Entity::find_by_id(task_id).one(tx.db()).await?.ok_or_else(|| Error::ours("no task"))?;
    let brief = brief::of(tx.db(), run).await?;
    let declared = brief.task(&task.key).ok_or_else(|| Error::ours("a task that is not declared"))?;
    let mut select = run_record::Entity::find()
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(run_record::COLUMN.outcome.is_null());
    if let Some(key) = sweep.last_key {
        select = select.filter(run_record::COLUMN.id.gt(RunRecordId(key)));
    }
    let places = select.order_by_asc(run_record::COLUMN.id).limit(limits::CHUNK).all(tx.db()).await?;
    let mut steps = Vec::new();
    for place in &places {
        for (i, declared) in declared.steps.iter().enumerate() {
            let mut step = begin::blank(tx, run, &task, declared, i, Some((place.id, place.record_id)));
            let taken = declared.assigned_to != step::Executor::Human && declared.trigger == Trigger::Immediate;
            if taken {
                step.status = StepStatus::Queued;
            }
            steps.push(step);
        }
    }
    let full = places.len() as u64 == limits::CHUNK;
    let last = places.last().filter(|_| full).map(|place| place.id.0);
    begin::insert(tx, run, &entity::Actor::engine(), steps).await?;
    Ok(last)
}

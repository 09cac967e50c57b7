//! Implements `reorderRunSteps`: a new order for the steps of a task of guided work that have not
//! begun. They share the places that they have; all other steps keep theirs.
//!
//! The order is of the run, which counts it as a change: the steps' own revisions stay, so a person who
//! is about to start one is not rejected.

use std::collections::{BTreeMap, HashMap};

use entity::definition::Definition;
use entity::id::*;
use entity::step::{self, StepStatus};
use entity::{run, task};
use sea_orm::{ConnectionTrait, Statement};
use serde_json::json;

use super::add_step::{check_mendable, mark_changed, of_task, task_of_run};
use crate::domain::run::advance::advance;
use crate::domain::run::must_lock;
use crate::domain::run::permissions::Action;
use crate::domain::run::snapshot;
use crate::kernel::db::dialect::Type;
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::viewer::Viewer;
use crate::kernel::{failpoint, limits, quote};
use crate::transact;

/// Puts the pending steps of a task in this order. Errors: NOT_FOUND; BAD_USER_INPUT for a step of
/// another task, or given twice; CONFLICT for a run that is not guided work in progress, and if the
/// steps are not exactly the pending ones, which it names.
pub async fn reorder(
    db: &WriteContext,
    viewer: &Viewer,
    run_id: RunId,
    expected: Option<i32>,
    task_id: TaskId,
    order: &[StepId],
) -> Result<run::Model> {
    transact!(db, |tx| {
        let run = must_lock(tx, viewer, run_id, expected).await?;
        check_mendable(tx, viewer, &run, Action::ReorderSteps).await?;
        let task = task_of_run(tx, viewer, &run, task_id).await?;
        let mut steps = of_task(tx, task.id).await?;
        let former: Vec<StepId> = pending(&steps).map(|step| step.id).collect();
        check_order(&steps, &former, order)?;
        tx.set_result(run.id);
        if former == order {
            return Ok(run);
        }
        let places = new_places(&steps, order);
        write(tx, &places).await?;
        failpoint::reach("steps_reordered");
        steps.sort_by_key(|step| places.get(&step.id).copied().unwrap_or(step.sequence));
        let found = snapshot::of(tx.db(), &run).await?;
        let definition = reordered(found.definition.clone(), &task, &steps)?;
        snapshot::mend(tx, &run, definition, found.executors.clone().unwrap_or_default()).await?;
        let run = mark_changed(tx, run).await?;
        let payload = json!({ "key": task.key, "name": task.name, "stepIds": order, "formerStepIds": former });
        let event = Event::new(run.org_id, "task.steps_reordered", &viewer.actor()).run(&run);
        event::append(tx, event.phase(task.phase_id).task(task.id).payload(payload));
        advance(tx, viewer, run).await
    })
}

/// The steps that have not begun, in order.
fn pending(steps: &[step::Model]) -> impl Iterator<Item = &step::Model> {
    steps.iter().filter(|step| step.status == StepStatus::Pending)
}

/// Checks that an order names each pending step of the task once, and no other.
fn check_order(steps: &[step::Model], pending: &[StepId], order: &[StepId]) -> Result<()> {
    let all: HashMap<StepId, &step::Model> = steps.iter().map(|step| (step.id, step)).collect();
    let mut given: HashMap<StepId, usize> = HashMap::new();
    let mut begun = Vec::new();
    for (i, id) in order.iter().enumerate() {
        let field = format!("stepIds[{i}]");
        let step = all.get(id).ok_or_else(|| Refusal::input(&field, format!("{id} is no step of the task")))?;
        if let Some(earlier) = given.insert(*id, i) {
            return Err(Refusal::input(&field, format!("{id} is given twice, also as stepIds[{earlier}]")).into());
        }
        if step.status != StepStatus::Pending {
            begun.push(format!("{} ({})", step.name, step.status));
        }
    }
    let missing = pending.iter().filter(|id| !given.contains_key(id)).filter_map(|id| all.get(id));
    let missing: Vec<String> = missing.map(|step| format!("{} ({})", step.name, step.id)).collect();
    let why = match (begun.is_empty(), missing.is_empty()) {
        (true, true) => return Ok(()),
        (false, _) => format!("only steps that have not begun can be reordered; begun: {}", listed(&begun)),
        (true, false) => format!("all steps that have not begun must be given; missing: {}", listed(&missing)),
    };
    Err(Refusal::conflict(why).with("field", json!("stepIds")).with("pendingStepIds", json!(pending)).into())
}

/// The first names of a list.
fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(limits::LISTED).map(|name| quote::printable(name)).collect();
    let more =
        if names.len() > shown.len() { format!(" and {} more", names.len() - shown.len()) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// The places of the pending steps in the new order.
fn new_places(steps: &[step::Model], order: &[StepId]) -> BTreeMap<StepId, i32> {
    order.iter().copied().zip(pending(steps).map(|step| step.sequence)).collect()
}

async fn write(tx: &Tx, places: &BTreeMap<StepId, i32>) -> Result<()> {
    let rows = tx.dialect().rows("$1", "v", &[("of_id", Type::Uuid), ("place", Type::Int)]);
    let sql = format!("UPDATE step SET sequence = v.place FROM {rows} WHERE step.id = v.of_id");
    let row = |(id, place): (&StepId, &i32)| json!({ "of_id": id.0.simple().to_string(), "place": place });
    let values: serde_json::Value = places.iter().map(row).collect();
    tx.db().execute_raw(Statement::from_sql_and_values(tx.db().get_database_backend(), sql, [values.into()])).await?;
    Ok(())
}

/// The structure, with the steps of the task in the order of its rows.
fn reordered(mut definition: Definition, task: &task::Model, rows: &[step::Model]) -> Result<Definition> {
    let of_task = definition.phases.iter_mut().flat_map(|phase| &mut phase.tasks).find(|of| of.key == task.key);
    let of_task = of_task.ok_or_else(|| Error::internal(format!("{} is not in its run's structure", task.id)))?;
    let places: HashMap<&str, usize> = rows.iter().enumerate().map(|(at, row)| (row.key.as_str(), at)).collect();
    of_task.steps.sort_by_key(|step| places.get(step.key.as_str()).copied());
    Ok(definition)
}

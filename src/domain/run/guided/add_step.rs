//! Implements `addRunStep`: adds a step to guided work in progress, in its rows and in its structure.
//!
//! A task whose steps have all ended is open again with the new step, as after `resetStep`: guided
//! work is over only when a person completes it.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use entity::definition::{Definition, StepDef};
use entity::id::*;
use entity::{Executor, TaskStatus, member, run, step, task};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Set};
use serde_json::json;

use super::structure::{GuidedStepDraft, PreparedStep, load_step};
use crate::domain::run::advance::advance;
use crate::domain::run::executor_ids::ExecutorIds;
use crate::domain::run::new_steps::{self, StepBatch};
use crate::domain::run::permissions::{Action, CampaignFacts, RunContext, check_allowed};
use crate::domain::run::snapshot::{self, RunSnapshot};
use crate::domain::run::{self as runs, step as steps, task as tasks};
use crate::kernel::db::{Db, Tx, WriteContext};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::viewer::Viewer;
use crate::kernel::{budget, failpoint, limits, storable};
use crate::transact;

/// Step to be added to guided work.
#[derive(Clone, Debug)]
pub struct NewStep {
    /// The step.
    pub draft: GuidedStepDraft,
    /// Task of the step; not required if `after` is given, or if the run has one task.
    pub task_id: Option<TaskId>,
    /// The step that it stands behind; at the end of its task if not given.
    pub after: Option<StepId>,
    /// Due time, instead of the period that the step declares.
    pub due_at: Option<DateTime<Utc>>,
}

/// Adds a step, which a person can start at once. Errors: NOT_FOUND; CONFLICT for a run that is not
/// guided work in progress, and for a failed task; BAD_USER_INPUT, naming the field, with all problems
/// of the step in `problems`; LIMIT_EXCEEDED.
pub async fn add(
    db: &WriteContext,
    viewer: &Viewer,
    run_id: RunId,
    expected: Option<i32>,
    new: &NewStep,
) -> Result<step::Model> {
    let due_at = new.due_at.map(|at| storable::time(at).map_err(|unfit| unfit.of("dueAt"))).transpose()?;
    check_step(db, viewer, &new.draft).await?;
    transact!(db, |tx| {
        let run = runs::must_lock(tx, viewer, run_id, expected).await?;
        check_mendable(tx, viewer, &run, Action::AddStep).await?;
        // Validated before the transaction; within it the results are cached.
        let structure = load_step(tx.db(), viewer, &new.draft).await?;
        let problems = structure.problems();
        let PreparedStep { mut declared, alone } = PreparedStep::of(structure, &problems)?;
        if due_at.is_some_and(|at| at <= tx.now()) {
            return Err(Refusal::input("dueAt", "the time lies in the past").into());
        }
        if due_at.is_some() && declared.assigned_to != Executor::Human {
            return Err(
                Refusal::input("dueAt", "only a person's step is due at a time: give `dueIn` of the step").into()
            );
        }
        if due_at.is_some() && declared.due_in.is_some() {
            return Err(Refusal::input("dueAt", "give either `dueAt` or `dueIn` of the step").into());
        }
        let (task, before) = place(tx, viewer, &run, new).await?;
        if task.status == TaskStatus::Failed {
            let message = format!("the task {} has failed: retry its failed step with retryStep first", task.name);
            return Err(Refusal::conflict(message).into());
        }
        let snapshot = snapshot::of(tx.db(), &run).await?;
        let named = ExecutorIds::of_structure(tx.db(), viewer, &alone).await?;
        let executors = ExecutorIds::of_run(tx, viewer, Some(&named), &alone).await?;
        let assignee = assignee(tx, viewer, &snapshot, &declared).await?;
        let definition = extended(&snapshot, &task, before.as_ref(), &mut declared)?;
        let sequence = make_room(tx, &task, before.as_ref()).await?;
        let batch = StepBatch { run: &run, executors, assignee };
        let mut added = batch.blank(tx, &task, &declared, sequence, None);
        let due_in = declared.due_in.map(|span| storable::after(tx.now(), span.chrono()));
        added.due_at = due_at.or(due_in);
        new_steps::insert(tx, &run, &viewer.actor(), vec![added.clone()]).await?;
        emit(tx, viewer, &run, &added, before.as_ref());
        failpoint::reach("step_added");
        let mut known = snapshot.executors.clone().unwrap_or_default();
        // Those that the run knows stay, also if a member has another address by now.
        for (name, id) in named.members {
            known.members.entry(name).or_insert(id);
        }
        for (name, id) in named.agents {
            known.agents.entry(name).or_insert(id);
        }
        snapshot::mend(tx, &run, definition, known).await?;
        let run = mark_changed(tx, run).await?;
        advance(tx, viewer, run).await?;
        tx.set_result(added.id);
        steps::must_find(tx.db(), viewer, added.id).await
    })
}

/// Validates the step before the transaction that adds it, and reports all problems.
async fn check_step(db: &Db, viewer: &Viewer, draft: &GuidedStepDraft) -> Result<()> {
    let structure = load_step(db.read(), viewer, draft).await?;
    let judged = structure.clone();
    let problems = budget::run_here(move |_| budget::judging(budget::JUDGING, || judged.problems())).await?;
    PreparedStep::of(structure, &problems)?;
    Ok(())
}

/// Checks that the run is guided work whose steps can be changed. Errors: CONFLICT.
pub(super) async fn check_mendable(tx: &Tx, viewer: &Viewer, run: &run::Model, action: Action) -> Result<()> {
    let campaign = runs::campaign_of(tx.db(), viewer, run).await?;
    let campaign = campaign.as_ref().map(CampaignFacts::of);
    check_allowed(run, &RunContext::read(tx.db(), viewer, run, campaign, action).await?, action)
}

/// The task that a step is added to, and the step that it will stand behind; none at the beginning
/// of an empty task. Errors: NOT_FOUND, BAD_USER_INPUT.
async fn place(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    new: &NewStep,
) -> Result<(task::Model, Option<step::Model>)> {
    let after = match new.after {
        Some(id) => Some(steps::must_find(tx.db(), viewer, id).await?),
        None => None,
    };
    if after.as_ref().is_some_and(|after| after.run_id != run.id) {
        return Err(Refusal::input("afterStepId", "the step belongs to another run").into());
    }
    let task = match (new.task_id, &after) {
        (Some(id), _) => task_of_run(tx, viewer, run, id).await?,
        (None, Some(after)) => tasks::must_find(tx.db(), viewer, after.task_id).await?,
        (None, None) => only_task(tx, viewer, run).await?,
    };
    if after.as_ref().is_some_and(|after| after.task_id != task.id) {
        return Err(Refusal::input("afterStepId", "the step belongs to another task than `taskId`").into());
    }
    let before = match after {
        Some(after) => Some(after),
        None => of_task(tx, task.id).await?.pop(),
    };
    Ok((task, before))
}

/// The task, which must be of the run. Errors: NOT_FOUND, BAD_USER_INPUT.
pub(super) async fn task_of_run(tx: &Tx, viewer: &Viewer, run: &run::Model, id: TaskId) -> Result<task::Model> {
    let task = tasks::must_find(tx.db(), viewer, id).await?;
    if task.run_id == run.id {
        return Ok(task);
    }
    Err(Refusal::input("taskId", "the task belongs to another run").into())
}

async fn only_task(tx: &Tx, viewer: &Viewer, run: &run::Model) -> Result<task::Model> {
    let mut all = tasks::of_runs(tx.db(), viewer, &[run.id]).await?;
    let names: Vec<String> =
        all.iter().take(limits::LISTED).map(|task| format!("{} ({})", task.name, task.id)).collect();
    match all.pop() {
        Some(task) if all.is_empty() => Ok(task),
        Some(_) => {
            let message = format!("is required, or `afterStepId`: the run has the tasks {}", names.join(", "));
            Err(Refusal::input("taskId", message).into())
        }
        None => Err(Error::internal(format!("{} has begun without a task", run.id))),
    }
}

/// The steps of a task, in order.
pub(super) async fn of_task(tx: &Tx, id: TaskId) -> Result<Vec<step::Model>> {
    let all = step::Entity::find().filter(step::COLUMN.task_id.eq(id));
    Ok(all.order_by_asc(step::COLUMN.sequence).order_by_asc(step::COLUMN.id).all(tx.db()).await?)
}

/// The member who does the run's steps that name nobody, unless deleted since; nobody for a step that
/// names its own. Locked, so that the member can't be deleted meanwhile.
async fn assignee(tx: &Tx, viewer: &Viewer, snapshot: &RunSnapshot, declared: &StepDef) -> Result<Option<MemberId>> {
    let of_run = snapshot.guided.as_ref().and_then(|guided| guided.assignee);
    let Some(id) = of_run.filter(|_| declared.assignee.is_none()) else { return Ok(None) };
    let found = member::Entity::find_by_id(id)
        .filter(member::COLUMN.org_id.eq(viewer.org_id))
        .lock_shared()
        .one(tx.db())
        .await?;
    Ok(found.map(|member| member.id))
}

/// The run's structure with the step in its place, which gets a key that no other step has. Errors:
/// LIMIT_EXCEEDED.
fn extended(
    snapshot: &RunSnapshot,
    task: &task::Model,
    before: Option<&step::Model>,
    declared: &mut StepDef,
) -> Result<Definition> {
    let mut definition = snapshot.definition.clone();
    let all = definition.phases.iter().flat_map(|phase| &phase.tasks).flat_map(|task| &task.steps);
    let keys: HashSet<&str> = all.map(|step| step.key.as_str()).collect();
    declared.key = free_key(&keys, &declared.key);
    let of_task = definition.phases.iter_mut().flat_map(|phase| &mut phase.tasks).find(|of| of.key == task.key);
    let of_task = of_task.ok_or_else(|| Error::internal(format!("{} is not in its run's structure", task.id)))?;
    let at = before.and_then(|before| of_task.steps.iter().position(|step| step.key == before.key));
    of_task.steps.insert(at.map_or(0, |at| at + 1), declared.clone());
    check_size(&definition)?;
    Ok(definition)
}

/// A key that is not taken: the given one, or the given one with a number.
fn free_key(taken: &HashSet<&str>, key: &str) -> String {
    let numbered = |number: usize| {
        let end = format!("_{number}");
        let base: String = key.chars().take(limits::KEY_CHARS - end.len()).collect();
        format!("{base}{end}")
    };
    let keys = std::iter::once(key.to_owned()).chain((2..).map(numbered));
    let mut free = keys.filter(|key| !taken.contains(key.as_str()));
    free.next().unwrap_or_default()
}

/// Checks the limits of structures. Errors: LIMIT_EXCEEDED.
fn check_size(definition: &Definition) -> Result<()> {
    let tasks = || definition.phases.iter().flat_map(|phase| &phase.tasks);
    let steps = || tasks().flat_map(|task| &task.steps);
    let parts = definition.phases.len() + tasks().count() + steps().count();
    let schemas = steps().filter(|step| step.result_schema.is_some()).count();
    let problem = if parts > limits::DEFINITION_PARTS {
        format!("a run has at most {} phases, tasks and steps", limits::DEFINITION_PARTS)
    } else if schemas > limits::DEFINITION_SCHEMAS {
        format!("at most {} steps of a run may have a `resultSchema`", limits::DEFINITION_SCHEMAS)
    } else if serde_json::to_string(definition)?.len() > limits::DEFINITION_BYTES {
        format!("the run's structure must be at most {} bytes", limits::DEFINITION_BYTES)
    } else {
        return Ok(());
    };
    Err(Refusal::limit_for_field("step", problem).into())
}

/// Moves the steps behind the place of a new one. Returns the new one's place.
async fn make_room(tx: &Tx, task: &task::Model, before: Option<&step::Model>) -> Result<usize> {
    let place = before.map_or(0, |before| before.sequence + 1);
    step::Entity::update_many()
        .col_expr(step::Column::Sequence, Expr::col(step::Column::Sequence).add(1))
        .filter(step::COLUMN.task_id.eq(task.id))
        .filter(step::COLUMN.sequence.gte(place))
        .exec(tx.db())
        .await?;
    usize::try_from(place).map_err(Error::internal)
}

/// Counts a change of the run's steps as one of the run.
pub(super) async fn mark_changed(tx: &Tx, run: run::Model) -> Result<run::Model> {
    let revision = run.revision;
    let mut row = run.into_active_model();
    row.updated_at = Set(tx.now());
    row.revision = Set(revision + 1);
    Ok(row.update(tx.db()).await?)
}

fn emit(tx: &Tx, viewer: &Viewer, run: &run::Model, added: &step::Model, before: Option<&step::Model>) {
    let payload = json!({
        "key": added.key, "name": added.name, "type": added.kind, "assignedTo": added.assigned_to, "sequence": added.sequence,
        "afterStepId": before.map(|before| before.id), "dueAt": added.due_at,
        "memberId": added.assignee_id.filter(|_| added.assigned_to == Executor::Human).map(MemberId),
        "agentId": added.assignee_id.filter(|_| added.assigned_to != Executor::Human).map(AgentId),
    });
    let event = Event::new(run.org_id, "step.added", &viewer.actor()).run(run).step(added);
    event::append(tx, event.payload(payload));
}

//! Advances a run: derives the status of its tasks, starts and closes phases, ends the run. Called
//! under the run's lock in every transaction that changed a step; costs a read of the run's few
//! phases and tasks, however many steps they have.

use entity::phase::{self, PhaseTransition};
use entity::run::{self, RunTransition};
use entity::step::{self, StepReason};
use entity::sweep::SweepKind;
use entity::task::{self, TaskFacts};
use entity::{Actor, PhaseStatus, RunStatus, RunType, TaskStatus};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, Set};
use serde_json::json;

mod cancelled;
mod single;
mod wake;

use super::snapshot::RunSnapshot;
use super::step::ReasonText;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::{Error, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, storable};

/// Advances a run as far as possible without outside input.
pub(crate) async fn advance(tx: &Tx, viewer: &Viewer, run: run::Model) -> Result<run::Model> {
    let phases = super::phase::of_runs(tx.db(), viewer, &[run.id]).await?;
    let tasks = super::task::of_runs(tx.db(), viewer, &[run.id]).await?;
    advance_from(tx, viewer, run, phases, tasks).await
}

/// Same, from phases and tasks that are already loaded.
pub(crate) async fn advance_from(
    tx: &Tx,
    viewer: &Viewer,
    run: run::Model,
    phases: Vec<phase::Model>,
    mut tasks: Vec<task::Model>,
) -> Result<run::Model> {
    if run.status == RunStatus::Cancelled {
        cancelled::close(tx, &Viewer::engine(run.org_id), &run, phases, tasks).await?;
        return Ok(run);
    }
    let snapshot = super::snapshot::of(tx.db(), &run).await?;
    let is_running = run.status == RunStatus::InProgress;
    let mut previous_done = true;
    for mut phase in phases {
        if phase.status == PhaseStatus::Pending && is_running && previous_done {
            phase = super::phase::apply_transition(tx, viewer, &run, phase, PhaseTransition::Start, None).await?;
            phase = set_open_until(tx, &snapshot, phase).await?;
        }
        if phase.status == PhaseStatus::Active {
            let mut skipped_waiting = derive(tx, &run, &snapshot, &phase, &mut tasks).await?;
            // A task that ends may let others begin at once.
            while is_running && (begin_tasks(tx, viewer, &run, &snapshot, &phase, &mut tasks).await? || skipped_waiting)
            {
                skipped_waiting = derive(tx, &run, &snapshot, &phase, &mut tasks).await?;
            }
            phase = close(tx, viewer, &run, phase, &tasks).await?;
        }
        if phase.status == PhaseStatus::Failed && is_running {
            let why = match failure_cause(tx, &phase, &tasks).await? {
                Some(cause) => format!("the phase {} failed: {cause}", phase.name),
                None => format!("the phase {} failed", phase.name),
            };
            return end(tx, viewer, run, RunTransition::Fail, Some(why)).await;
        }
        previous_done &= matches!(phase.status, PhaseStatus::Completed | PhaseStatus::Skipped);
    }
    if is_running && previous_done && run.audience_done {
        if super::sweep::close::is_any(tx, &run).await? {
            super::sweep_queue::begin_once(tx, viewer, &run, SweepKind::Close).await?;
            return Ok(run);
        }
        return end(tx, viewer, run, RunTransition::Complete, None).await;
    }
    Ok(run)
}

/// Name and error of the first failed step of a failed phase.
async fn failure_cause(tx: &Tx, phase: &phase::Model, tasks: &[task::Model]) -> Result<Option<String>> {
    let failed = tasks.iter().filter(|task| task.phase_id == phase.id && task.status == TaskStatus::Failed);
    let first = step::Entity::find()
        .filter(any_of(tx.dialect(), step::COLUMN.task_id, failed.map(|task| task.id)))
        .filter(step::COLUMN.status.eq(step::StepStatus::Failed))
        .order_by_asc(step::COLUMN.id)
        .one(tx.db())
        .await?;
    let cause = first.and_then(|step| Some(format!("{}: {}", step.name, step.error?)));
    Ok(cause.map(|cause| cause.chars().take(limits::TEXT_CHARS / 10).collect()))
}

/// Sets how long a started phase stays open for events.
async fn set_open_until(tx: &Tx, snapshot: &RunSnapshot, phase: phase::Model) -> Result<phase::Model> {
    let declared = snapshot.definition.phases.iter().find(|declared| declared.key == phase.key);
    let Some(span) = declared.and_then(|declared| declared.open_for) else { return Ok(phase) };
    let mut row = phase.into_active_model();
    row.open_until = Set(Some(storable::after(tx.now(), span.chrono())));
    Ok(row.update(tx.db()).await?)
}

/// Begins those tasks of an active phase that are ready. Returns true if there were any.
async fn begin_tasks(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    snapshot: &RunSnapshot,
    phase: &phase::Model,
    tasks: &mut [task::Model],
) -> Result<bool> {
    let mut changed = false;
    for i in 0..tasks.len() {
        let task = tasks[i].clone();
        let met = |key: &String| tasks.iter().any(|other| other.key == *key && other.status.meets_dependency());
        if task.phase_id != phase.id || !task.depends_on.0.iter().all(met) {
            continue;
        }
        if task.fan_out && !task.fan_out_begun {
            if task.left_out.is_some() {
                let mut row = mark_begun(tx, snapshot, task).await?.into_active_model();
                row.fan_out_done = Set(true);
                tasks[i] = row.update(tx.db()).await?;
                changed = true;
            } else if on_event(snapshot, &task) {
                // Events that arrive before the audience is complete are stored.
                if run.audience_done {
                    tasks[i] = mark_begun(tx, snapshot, task).await?;
                    changed |= wake::early(tx, run, snapshot, &tasks[i]).await?;
                    tasks[i] = reload(tx, &tasks[i]).await?;
                }
            } else if run.audience_done {
                super::sweep_queue::begin(tx, viewer, run, Some(task.id), SweepKind::FanOut, None).await?;
                tasks[i] = mark_begun(tx, snapshot, task).await?;
                changed = true;
            }
        } else if !task.fan_out && task.counts().pending + task.counts().queued > 0 {
            if !task.fan_out_begun {
                tasks[i] = mark_begun(tx, snapshot, task.clone()).await?;
                single::due(tx, snapshot, &task).await?;
                changed |= wake::singles(tx, run, snapshot, &task).await?;
            }
            changed |= single::advance(tx, viewer, run, snapshot, tasks, i).await?;
            tasks[i] = reload(tx, &task).await?;
        }
    }
    Ok(changed)
}

/// Reloads a task.
async fn reload(tx: &Tx, task: &task::Model) -> Result<task::Model> {
    let fresh = task::Entity::find_by_id(task.id).one(tx.db()).await?;
    fresh.ok_or_else(|| Error::internal("a task is missing"))
}

async fn mark_begun(tx: &Tx, snapshot: &RunSnapshot, task: task::Model) -> Result<task::Model> {
    let due_in = snapshot.task(&task.key).and_then(|declared| declared.due_in);
    let mut row = task.into_active_model();
    row.fan_out_begun = Set(true);
    row.due_at = Set(due_in.map(|span| storable::after(tx.now(), span.chrono())));
    Ok(row.update(tx.db()).await?)
}

fn on_event(snapshot: &RunSnapshot, task: &task::Model) -> bool {
    snapshot.task(&task.key).is_some_and(entity::definition::TaskDef::on_event)
}

/// Derives the status of an active phase's tasks. Returns true if steps waiting for an event were
/// skipped.
async fn derive(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    phase: &phase::Model,
    tasks: &mut [task::Model],
) -> Result<bool> {
    let indices: Vec<usize> = (0..tasks.len()).filter(|i| tasks[*i].phase_id == phase.id).collect();
    // Single steps that wait for an event keep no phase open.
    let mut waiting = single::waiting(tx, snapshot, &phase.key, tasks).await?;
    let arrived = wake::arrived_early(tx, run, &waiting, tasks).await?;
    waiting.retain(|step| !arrived.contains(&step.id));
    let waiting_in = |task: &task::Model| waiting.iter().filter(|step| step.task_id == task.id).count() as i64;
    // A task on an event creates steps as long as the phase has other work.
    let is_event_task = |task: &task::Model| task.fan_out && on_event(snapshot, task);
    let quiet = |task: &task::Model| task.fan_out_done && task.counts().open() == waiting_in(task);
    let has_waiting = tasks.iter().any(|task| task.phase_id == phase.id && is_event_task(task)) || !waiting.is_empty();
    let is_over = has_waiting
        && phase.open_until.is_none_or(|until| until <= tx.now())
        && indices.iter().all(|i| quiet(&tasks[*i]) || (is_event_task(&tasks[*i]) && tasks[*i].counts().open() == 0));
    let skipped_any = is_over && !waiting.is_empty();
    if skipped_any {
        let skipped = super::dependents::skip(tx, run, waiting, |step| {
            ReasonText::new(StepReason::EventDidNotCome, format!("{} did not arrive", step.trigger))
        })
        .await?;
        for i in indices.iter().copied() {
            if skipped.iter().any(|step| step.task_id == tasks[i].id) {
                let fresh = task::Entity::find_by_id(tasks[i].id).one(tx.db()).await?;
                tasks[i] = fresh.ok_or_else(|| Error::internal("a task is missing"))?;
            }
        }
    }
    for i in indices {
        if is_event_task(&tasks[i]) && is_over && !tasks[i].fan_out_done {
            super::task::fan_out_done(tx, tasks[i].id, true).await?;
            tasks[i].fan_out_done = true;
        }
        let task = tasks[i].clone();
        let met = |key: &String| tasks.iter().any(|other| other.key == *key && other.status.meets_dependency());
        let facts = TaskFacts {
            counts: task.counts(),
            fan_out_done: task.fan_out_done,
            fail_when: task.fail_when.0,
            depends_met: task.depends_on.0.iter().all(met),
            phase_active: true,
            retrying: task.retrying,
        };
        tasks[i] = set_status(tx, run, task, facts.status()).await?;
    }
    Ok(skipped_any)
}

/// Closes an active phase if its tasks have ended and any required person's action is recorded.
async fn close(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    phase: phase::Model,
    tasks: &[task::Model],
) -> Result<phase::Model> {
    let statuses: Vec<TaskStatus> =
        tasks.iter().filter(|task| task.phase_id == phase.id).map(|task| task.status).collect();
    // A person completes guided work.
    if run.run_type == RunType::Guided {
        return Ok(phase);
    }
    let act = if statuses.contains(&TaskStatus::Failed) {
        PhaseTransition::Fail
    } else if statuses.iter().all(|status| *status == TaskStatus::Skipped) {
        PhaseTransition::Skip
    } else if statuses.iter().all(|status| status.meets_dependency())
        && (phase.autonomous || phase.person_act.is_some())
    {
        PhaseTransition::Complete
    } else {
        return Ok(phase);
    };
    super::phase::apply_transition(tx, viewer, run, phase, act, None).await
}

async fn set_status(tx: &Tx, run: &run::Model, task: task::Model, to: TaskStatus) -> Result<task::Model> {
    let from = task.status;
    if from == to {
        return Ok(task);
    }
    let started = task.started_at;
    let mut row = task.into_active_model();
    row.status = Set(to);
    let kind = match to {
        TaskStatus::Pending => "task.reset",
        TaskStatus::InProgress => "task.started",
        TaskStatus::Blocked => "task.blocked",
        TaskStatus::Completed => "task.completed",
        TaskStatus::Skipped => "task.skipped",
        TaskStatus::Failed => "task.failed",
    };
    if started.is_none() && matches!(to, TaskStatus::InProgress | TaskStatus::Completed | TaskStatus::Failed) {
        row.started_at = Set(Some(tx.now()));
    }
    let closed = matches!(to, TaskStatus::Completed | TaskStatus::Skipped | TaskStatus::Failed);
    row.completed_at = Set(closed.then_some(tx.now()));
    let task = row.update(tx.db()).await?;
    let payload = json!({ "from": from, "to": to, "key": task.key, "name": task.name });
    let event = Event::new(run.org_id, kind, &Actor::engine()).run(run).phase(task.phase_id).task(task.id);
    event::append(tx, event.payload(payload));
    Ok(task)
}

async fn end(
    tx: &Tx,
    viewer: &Viewer,
    run: run::Model,
    transition: RunTransition,
    failure: Option<String>,
) -> Result<run::Model> {
    let engine = Viewer::engine(viewer.org_id);
    let at = tx.now();
    let why = failure.clone();
    let run = super::apply_transition(tx, &engine, run, transition, why.as_deref(), |row| {
        row.ended_at = Set(Some(at));
        if failure.is_some() {
            row.failure = Set(failure);
        }
    })
    .await?;
    let campaign_act = match transition {
        RunTransition::Fail => entity::campaign::CampaignTransition::Fail,
        _ => entity::campaign::CampaignTransition::Complete,
    };
    if let Some(id) = run.campaign_id.filter(|_| run.run_type != RunType::TestRun) {
        super::campaign_status::follow_run(tx, &engine, id, campaign_act).await?;
    }
    Ok(run)
}

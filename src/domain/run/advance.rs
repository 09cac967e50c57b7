//! What follows: derives tasks, closes and begins phases, ends the run. Called in every transaction that changed a step,
//! under the run's lock; its cost is that of the run's few phases and tasks, however many steps they have.

use entity::phase::{self, PhaseTransition};
use entity::run::{self, RunTransition};
use entity::step::{self, StepReason};
use entity::sweep::SweepKind;
use entity::task::{self, TaskFacts};
use entity::{Actor, PhaseStatus, RunStatus, RunType, StateMachine, TaskStatus};
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

/// Moves a run as far as it goes by itself.
pub(crate) async fn advance(tx: &Tx, viewer: &Viewer, run: run::Model) -> Result<run::Model> {
    let phases = super::phase::of_runs(tx.db(), viewer, &[run.id]).await?;
    let tasks = super::task::of_runs(tx.db(), viewer, &[run.id]).await?;
    advance_from(tx, viewer, run, phases, tasks).await
}

/// The same, from its phases and tasks as they are at this moment.
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
    let moving = run.status == RunStatus::InProgress;
    let mut through = true;
    for mut phase in phases {
        if phase.status == PhaseStatus::Pending && moving && through {
            phase = step_phase(tx, viewer, &run, phase, PhaseTransition::Start).await?;
            phase = opened(tx, &snapshot, phase).await?;
        }
        if phase.status == PhaseStatus::Active {
            let mut more = derive(tx, &run, &snapshot, &phase, &mut tasks).await?;
            // What one task's end lets begin, begins at once.
            while moving && (begin_tasks(tx, viewer, &run, &snapshot, &phase, &mut tasks).await? || more) {
                more = derive(tx, &run, &snapshot, &phase, &mut tasks).await?;
            }
            phase = close(tx, viewer, &run, phase, &tasks).await?;
        }
        if phase.status == PhaseStatus::Failed && moving {
            let why = match cause(tx, &phase, &tasks).await? {
                Some(cause) => format!("the phase {} failed: {cause}", phase.name),
                None => format!("the phase {} failed", phase.name),
            };
            return end(tx, viewer, run, RunTransition::Fail, Some(why)).await;
        }
        through &= matches!(phase.status, PhaseStatus::Completed | PhaseStatus::Skipped);
    }
    if moving && through && run.audience_done {
        if super::sweep::close::is_any(tx, &run).await? {
            super::sweep::begin_once(tx, viewer, &run, SweepKind::Close).await?;
            return Ok(run);
        }
        return end(tx, viewer, run, RunTransition::Complete, None).await;
    }
    Ok(run)
}

/// The first step whose failure failed a phase, with what it said.
async fn cause(tx: &Tx, phase: &phase::Model, tasks: &[task::Model]) -> Result<Option<String>> {
    let failed = tasks.iter().filter(|task| task.phase_id == phase.id && task.status == TaskStatus::Failed);
    let first = step::Entity::find()
        .filter(any_of(tx.dialect(), step::COLUMN.task_id, failed.map(|task| task.id)))
        .filter(step::COLUMN.status.eq(step::StepStatus::Failed))
        .order_by_asc(step::COLUMN.id)
        .one(tx.db())
        .await?;
    let told = first.and_then(|step| Some(format!("{}: {}", step.name, step.error?)));
    Ok(told.map(|told| told.chars().take(limits::TEXT_CHARS / 10).collect()))
}

/// A phase that has begun waits for events for as long as its structure says.
async fn opened(tx: &Tx, snapshot: &RunSnapshot, phase: phase::Model) -> Result<phase::Model> {
    let declared = snapshot.definition.phases.iter().find(|declared| declared.key == phase.key);
    let Some(span) = declared.and_then(|declared| declared.open_for) else { return Ok(phase) };
    let mut row = phase.into_active_model();
    row.open_until = Set(Some(storable::after(tx.now(), span.chrono())));
    Ok(row.update(tx.db()).await?)
}

/// Begins the tasks of an active phase whose turn has come. Says whether there were any.
async fn begin_tasks(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    snapshot: &RunSnapshot,
    phase: &phase::Model,
    tasks: &mut [task::Model],
) -> Result<bool> {
    let mut any = false;
    for i in 0..tasks.len() {
        let task = tasks[i].clone();
        let met = |key: &String| tasks.iter().any(|other| other.key == *key && other.status.is_met());
        if task.phase_id != phase.id || !task.depends_on.0.iter().all(met) {
            continue;
        }
        if task.fan_out && !task.fan_out_begun {
            if task.left_out.is_some() {
                let mut row = begun(tx, snapshot, task).await?.into_active_model();
                row.fan_out_done = Set(true);
                tasks[i] = row.update(tx.db()).await?;
                any = true;
            } else if on_event(snapshot, &task) {
                // Until the audience is taken in, what comes is kept.
                if run.audience_done {
                    tasks[i] = begun(tx, snapshot, task).await?;
                    any |= wake::early(tx, run, snapshot, &tasks[i]).await?;
                    tasks[i] = again(tx, &tasks[i]).await?;
                }
            } else if run.audience_done {
                super::sweep::begin(tx, viewer, run, Some(task.id), SweepKind::FanOut, None).await?;
                tasks[i] = begun(tx, snapshot, task).await?;
                any = true;
            }
        } else if !task.fan_out && task.counts().pending + task.counts().queued > 0 {
            if !task.fan_out_begun {
                tasks[i] = begun(tx, snapshot, task.clone()).await?;
                single::due(tx, snapshot, &task).await?;
                any |= wake::singles(tx, run, snapshot, &task).await?;
            }
            any |= single::advance(tx, viewer, run, snapshot, tasks, i).await?;
            tasks[i] = again(tx, &task).await?;
        }
    }
    Ok(any)
}

/// A task as it is now.
async fn again(tx: &Tx, task: &task::Model) -> Result<task::Model> {
    let fresh = task::Entity::find_by_id(task.id).one(tx.db()).await?;
    fresh.ok_or_else(|| Error::ours("a task went away"))
}

async fn begun(tx: &Tx, snapshot: &RunSnapshot, task: task::Model) -> Result<task::Model> {
    let due_in = snapshot.task(&task.key).and_then(|declared| declared.due_in);
    let mut row = task.into_active_model();
    row.fan_out_begun = Set(true);
    row.due_at = Set(due_in.map(|span| storable::after(tx.now(), span.chrono())));
    Ok(row.update(tx.db()).await?)
}

fn on_event(snapshot: &RunSnapshot, task: &task::Model) -> bool {
    snapshot.task(&task.key).is_some_and(entity::definition::TaskDef::on_event)
}

/// Derives the tasks of an active phase. Says whether steps that waited for an event were given up.
async fn derive(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    phase: &phase::Model,
    tasks: &mut [task::Model],
) -> Result<bool> {
    let mine: Vec<usize> = (0..tasks.len()).filter(|i| tasks[*i].phase_id == phase.id).collect();
    // Single steps that wait for an event keep nothing open.
    let mut waiting = single::waiting(tx, snapshot, &phase.key, tasks).await?;
    let come = wake::come(tx, run, &waiting, tasks).await?;
    waiting.retain(|step| !come.contains(&step.id));
    let count = |task: &task::Model| waiting.iter().filter(|step| step.task_id == task.id).count() as i64;
    // An event: task makes its steps for as long as there is other work in the phase.
    let waits = |task: &task::Model| task.fan_out && on_event(snapshot, task);
    let quiet = |task: &task::Model| task.fan_out_done && task.counts().open() == count(task);
    let asked = tasks.iter().any(|task| task.phase_id == phase.id && waits(task)) || !waiting.is_empty();
    let over = asked
        && phase.open_until.is_none_or(|until| until <= tx.now())
        && mine.iter().all(|i| quiet(&tasks[*i]) || (waits(&tasks[*i]) && tasks[*i].counts().open() == 0));
    let given_up = over && !waiting.is_empty();
    if given_up {
        let gone = super::dependents::skip(tx, run, waiting, |step| {
            ReasonText::new(StepReason::EventDidNotCome, format!("{} did not come", step.trigger))
        })
        .await?;
        for i in mine.iter().copied() {
            if gone.iter().any(|step| step.task_id == tasks[i].id) {
                let fresh = task::Entity::find_by_id(tasks[i].id).one(tx.db()).await?;
                tasks[i] = fresh.ok_or_else(|| Error::ours("a task went away"))?;
            }
        }
    }
    for i in mine {
        if waits(&tasks[i]) && over && !tasks[i].fan_out_done {
            super::task::fan_out_done(tx, tasks[i].id, true).await?;
            tasks[i].fan_out_done = true;
        }
        let task = tasks[i].clone();
        let met = |key: &String| tasks.iter().any(|other| other.key == *key && other.status.is_met());
        let situation = TaskFacts {
            counts: task.counts(),
            fan_out_done: task.fan_out_done,
            fail_when: task.fail_when.0,
            depends_met: task.depends_on.0.iter().all(met),
            phase_active: true,
            retrying: task.retrying,
        };
        tasks[i] = set_status(tx, run, task, situation.status()).await?;
    }
    Ok(given_up)
}

/// Closes an active phase where its tasks are through, and its gate is open.
async fn close(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    phase: phase::Model,
    tasks: &[task::Model],
) -> Result<phase::Model> {
    let statuses: Vec<TaskStatus> =
        tasks.iter().filter(|task| task.phase_id == phase.id).map(|task| task.status).collect();
    // Of guided work a person says when it is done.
    if run.run_type == RunType::Guided {
        return Ok(phase);
    }
    let act = if statuses.contains(&TaskStatus::Failed) {
        PhaseTransition::Fail
    } else if statuses.iter().all(|status| *status == TaskStatus::Skipped) {
        PhaseTransition::Skip
    } else if statuses.iter().all(|status| status.is_met()) && (phase.autonomous || phase.person_act.is_some()) {
        PhaseTransition::Complete
    } else {
        return Ok(phase);
    };
    step_phase(tx, viewer, run, phase, act).await
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
    let told = json!({ "from": from, "to": to, "key": task.key, "name": task.name });
    let event = Event::new(run.org_id, kind, &Actor::engine()).run(run).phase(task.phase_id).task(task.id);
    event::append(tx, event.payload(told));
    Ok(task)
}

/// Takes an edge of a phase's law, with its event.
pub(super) async fn step_phase(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    phase: phase::Model,
    act: PhaseTransition,
) -> Result<phase::Model> {
    change_phase(tx, viewer, run, phase, act, None).await
}

/// The same, with a reason for the log.
async fn change_phase(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    phase: phase::Model,
    act: PhaseTransition,
    reason: Option<&str>,
) -> Result<phase::Model> {
    let (from, revision) = (phase.status, phase.revision);
    let Some(to) = from.next(act) else {
        return Err(Error::ours(format!("the phase {} is {from} and can't {act:?}", phase.id)));
    };
    let mut row = phase.into_active_model();
    row.status = Set(to);
    row.revision = Set(revision + 1);
    let kind = match act {
        PhaseTransition::Start | PhaseTransition::Retry | PhaseTransition::Reset => {
            row.started_at = Set(Some(tx.now()));
            row.completed_at = Set(None);
            "phase.started"
        }
        PhaseTransition::Complete => "phase.completed",
        PhaseTransition::Skip | PhaseTransition::Cancel => "phase.skipped",
        PhaseTransition::Fail => "phase.failed",
        PhaseTransition::Reopen => {
            row.started_at = Set(None);
            row.completed_at = Set(None);
            "phase.reset"
        }
    };
    if to.is_over() {
        row.completed_at = Set(Some(tx.now()));
    }
    let phase = row.update(tx.db()).await?;
    let told = json!({ "from": from, "to": to, "key": phase.key, "name": phase.name, "reason": reason });
    event::append(tx, Event::new(run.org_id, kind, &viewer.actor()).run(run).phase(phase.id).payload(told));
    Ok(phase)
}

async fn end(
    tx: &Tx,
    viewer: &Viewer,
    run: run::Model,
    act: RunTransition,
    failure: Option<String>,
) -> Result<run::Model> {
    let engine = Viewer::engine(viewer.org_id);
    let at = tx.now();
    let why = failure.clone();
    let run = super::step_to(tx, &engine, run, act, why.as_deref(), |row| {
        row.ended_at = Set(Some(at));
        if failure.is_some() {
            row.failure = Set(failure);
        }
    })
    .await?;
    let campaign_act = match act {
        RunTransition::Fail => entity::campaign::CampaignTransition::Fail,
        _ => entity::campaign::CampaignTransition::Complete,
    };
    if let Some(id) = run.campaign_id.filter(|_| run.run_type != RunType::TestRun) {
        crate::domain::plan::campaign::transition::follow_run(tx, &engine, id, campaign_act).await?;
    }
    Ok(run)
}

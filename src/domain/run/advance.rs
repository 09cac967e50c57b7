//! Advances a run: derives the status of its tasks, starts and closes phases, ends the run. Called
//! under the run's lock in every transaction that changed a step; costs a read of the run's few
//! phases and tasks, however many steps they have.
//!
//! Decisions are made by `plan`, without the database; here they are carried out.

use std::collections::HashMap;

use entity::definition::TaskDef;
use entity::id::TaskId;
use entity::phase::{self, PhaseTransition};
use entity::run::{self, RunTransition};
use entity::step::{self, StepReason};
use entity::sweep::SweepKind;
use entity::task;
use entity::{Actor, RunStatus, RunType, TaskStatus};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, Set};
use serde_json::json;

mod behind;
mod cancelled;
pub mod plan;
mod single;
mod wake;

use self::plan::{Begin, Behind, Facts, Next, Plan};
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
    let (phases, tasks, _) = super::phase::with_tasks(tx.db(), viewer, &run).await?;
    advance_from(tx, viewer, run, phases, tasks).await
}

/// Same, from phases and tasks that are already loaded.
pub(crate) async fn advance_from(
    tx: &Tx,
    viewer: &Viewer,
    run: run::Model,
    phases: Vec<phase::Model>,
    tasks: Vec<task::Model>,
) -> Result<run::Model> {
    if run.status == RunStatus::Cancelled {
        cancelled::close(tx, &Viewer::engine(run.org_id), &run, phases, tasks).await?;
        return Ok(run);
    }
    let snapshot = super::snapshot::of(tx.db(), &run).await?;
    let is_on_event = |key: &str| snapshot.task(key).is_some_and(TaskDef::on_event);
    let event_tasks = tasks.iter().filter(|task| task.fan_out && is_on_event(&task.key)).map(|task| task.id).collect();
    let mut advancing = Advancing {
        tx,
        viewer,
        run: &run,
        snapshot: &snapshot,
        event_tasks,
        phases,
        tasks,
        waiting: Vec::new(),
        waiting_tasks: Vec::new(),
        awaited: HashMap::new(),
        behind: Vec::new(),
        has_open_recipients: None,
    };
    let mut plan = Plan::default();
    loop {
        match plan.next(&advancing.facts()) {
            Next::Wait => return Ok(run),
            Next::BeginClose => {
                super::sweep_queue::begin_once(tx, viewer, &run, SweepKind::Close).await?;
                return Ok(run);
            }
            Next::Complete => return end(tx, viewer, run, RunTransition::Complete, None).await,
            Next::Fail(phase) => {
                let why = advancing.why_failed(phase).await?;
                return end(tx, viewer, run, RunTransition::Fail, Some(why)).await;
            }
            next => {
                if advancing.apply(next).await? {
                    plan.steps_changed();
                }
            }
        }
    }
}

/// A run that is being advanced: its rows as they are now, and what was found out about them.
struct Advancing<'a> {
    tx: &'a Tx,
    viewer: &'a Viewer,
    run: &'a run::Model,
    snapshot: &'a RunSnapshot,
    phases: Vec<phase::Model>,
    tasks: Vec<task::Model>,
    event_tasks: Vec<TaskId>,
    waiting: Vec<step::Model>,
    waiting_tasks: Vec<TaskId>,
    /// Triggers of the events that the waiting steps wait for, by the steps' keys.
    awaited: HashMap<String, String>,
    behind: Vec<Behind>,
    has_open_recipients: Option<bool>,
}

impl Advancing<'_> {
    fn facts(&self) -> Facts<'_> {
        Facts {
            now: self.tx.now(),
            run: self.run,
            phases: &self.phases,
            tasks: &self.tasks,
            event_tasks: &self.event_tasks,
            waiting: &self.waiting_tasks,
            behind: &self.behind,
            has_open_recipients: self.has_open_recipients,
        }
    }

    /// Applies a decision that does not end the plan. Returns true if the planned phase has to be
    /// looked at again.
    async fn apply(&mut self, next: Next) -> Result<bool> {
        let (tx, viewer, run) = (self.tx, self.viewer, self.run);
        match next {
            Next::StartPhase(i) => {
                let phase = self.phases[i].clone();
                let phase =
                    super::phase::apply_transition(tx, viewer, run, phase, PhaseTransition::Start, None).await?;
                self.phases[i] = set_open_until(tx, self.snapshot, phase).await?;
            }
            Next::FindWaiting(i) => self.find_waiting(i).await?,
            Next::SkipWaiting(i) => self.skip_waiting(i).await?,
            Next::CloseFanOut(i) => {
                super::task::fan_out_done(tx, self.tasks[i].id, true).await?;
                self.tasks[i].fan_out_done = true;
            }
            Next::SetStatus(i, status) => {
                self.tasks[i] = set_status(tx, run, self.tasks[i].clone(), status).await?;
            }
            Next::Begin(i, begin) => return self.begin(i, begin).await,
            Next::ClosePhase(i, transition) => {
                let phase = self.phases[i].clone();
                self.phases[i] = super::phase::apply_transition(tx, viewer, run, phase, transition, None).await?;
            }
            Next::FindOpenRecipients => {
                self.has_open_recipients = Some(super::sweep::close::is_any(tx, run).await?);
            }
            Next::BeginClose | Next::Complete | Next::Fail(_) | Next::Wait => {}
        }
        Ok(false)
    }

    async fn find_waiting(&mut self, phase: usize) -> Result<()> {
        let key = &self.phases[phase].key;
        let mut pending = single::pending_beside_events(self.tx, self.snapshot, key, &self.tasks).await?;
        // Steps that follow one whose event has arrived do not wait for that event.
        let arrived = wake::arrived_early(self.tx, self.run, &pending, &self.tasks).await?;
        pending.retain(|step| !arrived.contains(&step.id));
        self.awaited = plan::steps::waiting_for_events(&pending);
        pending.retain(|step| self.awaited.contains_key(&step.key));
        self.waiting_tasks = pending.iter().map(|step| step.task_id).collect();
        self.waiting = pending;
        // Only tasks behind one that waits for an event can't begin. The steps behind them are counted
        // only when nothing else is left in the phase, for there may be many.
        let declared = self.snapshot.definition.phases.iter().find(|declared| declared.key == *key);
        let has_event_task = declared.is_some_and(|declared| declared.tasks.iter().any(TaskDef::on_event));
        let waits = has_event_task || !self.waiting.is_empty();
        self.behind = match declared.filter(|_| waits && plan::may_be_over(&self.facts(), &self.phases[phase])) {
            Some(declared) => {
                behind::find(self.tx, declared, &self.tasks, |key| self.awaited.contains_key(key)).await?
            }
            None => Vec::new(),
        };
        Ok(())
    }

    /// Skips the waiting steps of a task.
    async fn skip_waiting(&mut self, i: usize) -> Result<()> {
        let id = self.tasks[i].id;
        let (over, rest) = std::mem::take(&mut self.waiting).into_iter().partition(|step| step.task_id == id);
        self.waiting = rest;
        self.waiting_tasks.retain(|task_id| *task_id != id);
        super::dependents::skip(self.tx, self.run, over, |step| {
            let event = self.awaited.get(&step.key).unwrap_or(&step.trigger);
            ReasonText::new(StepReason::EventDidNotCome, format!("{event} did not arrive"))
        })
        .await?;
        self.tasks[i] = reload(self.tx, &self.tasks[i]).await?;
        Ok(())
    }

    /// Begins a task, or looks again at its steps. Returns true if steps changed.
    async fn begin(&mut self, i: usize, begin: Begin) -> Result<bool> {
        let (tx, run, snapshot) = (self.tx, self.run, self.snapshot);
        let task = self.tasks[i].clone();
        match begin {
            Begin::LeftOut => {
                let mut row = mark_begun(tx, snapshot, task).await?.into_active_model();
                row.fan_out_done = Set(true);
                self.tasks[i] = row.update(tx.db()).await?;
                Ok(true)
            }
            Begin::OnEvents => {
                let task = mark_begun(tx, snapshot, task).await?;
                let changed = wake::early(tx, run, snapshot, &task).await?;
                self.tasks[i] = reload(tx, &task).await?;
                Ok(changed)
            }
            Begin::FanOut => {
                super::sweep_queue::begin(tx, self.viewer, run, Some(task.id), SweepKind::FanOut, None).await?;
                self.tasks[i] = mark_begun(tx, snapshot, task).await?;
                Ok(true)
            }
            Begin::Steps { first } => {
                let mut changed = false;
                if first {
                    self.tasks[i] = mark_begun(tx, snapshot, task.clone()).await?;
                    single::due(tx, snapshot, &task).await?;
                    changed |= wake::singles(tx, run, snapshot, &task).await?;
                }
                changed |= single::advance(tx, self.viewer, run, snapshot, &self.tasks, i).await?;
                self.tasks[i] = reload(tx, &task).await?;
                Ok(changed)
            }
        }
    }

    /// The reason for the run's failure: the failed phase, with the name and the error of its first
    /// failed step.
    async fn why_failed(&self, phase: usize) -> Result<String> {
        let phase = &self.phases[phase];
        let failed = self.tasks.iter().filter(|task| task.phase_id == phase.id && task.status == TaskStatus::Failed);
        let first = step::Entity::find()
            .filter(any_of(self.tx.dialect(), step::COLUMN.task_id, failed.map(|task| task.id)))
            .filter(step::COLUMN.status.eq(step::StepStatus::Failed))
            .order_by_asc(step::COLUMN.id)
            .one(self.tx.db())
            .await?;
        let cause = first.and_then(|step| Some(format!("{}: {}", step.name, step.error?)));
        Ok(match cause {
            Some(cause) => {
                let cause: String = cause.chars().take(limits::TEXT_CHARS / 10).collect();
                format!("the phase {} failed: {cause}", phase.name)
            }
            None => format!("the phase {} failed", phase.name),
        })
    }
}

/// Sets how long a started phase stays open for events.
async fn set_open_until(tx: &Tx, snapshot: &RunSnapshot, phase: phase::Model) -> Result<phase::Model> {
    let declared = snapshot.definition.phases.iter().find(|declared| declared.key == phase.key);
    let Some(span) = declared.and_then(|declared| declared.open_for) else { return Ok(phase) };
    let mut row = phase.into_active_model();
    row.open_until = Set(Some(storable::after(tx.now(), span.chrono())));
    Ok(row.update(tx.db()).await?)
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
    if run.status == RunStatus::Failed {
        super::sweep_queue::set_held(tx, run.id, true).await?;
    }
    let campaign_act = match transition {
        RunTransition::Fail => entity::campaign::CampaignTransition::Fail,
        _ => entity::campaign::CampaignTransition::Complete,
    };
    if let Some(id) = run.campaign_id.filter(|_| run.run_type != RunType::TestRun) {
        super::campaign_status::follow_run(tx, &engine, id, campaign_act).await?;
    }
    Ok(run)
}

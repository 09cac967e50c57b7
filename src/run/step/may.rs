//! What can be done with a step now, judged on what surrounds it.

use async_graphql::Enum;
use entity::id::*;
use entity::step::{Executor, Model, StepAct, StepStatus};
use entity::{CommunicationStatus, Law, RunStatus, communication, phase, run, task};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter};

use crate::error::{Error, Refusal, Result};
use crate::run as runs;
use crate::run_template;
use crate::viewer::Viewer;

/// What can be done with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "StepAction")]
pub enum Action {
    /// Begin it.
    Start,
    /// Say that it is done.
    Complete,
    /// Say that it could not be done.
    Fail,
    /// Leave it out.
    Skip,
    /// Take it back.
    Reset,
    /// Take a skip back.
    Restart,
    /// Let it out.
    Approve,
    /// Send it back.
    Reject,
    /// Have it done again.
    Retry,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Start,
        Self::Complete,
        Self::Fail,
        Self::Skip,
        Self::Reset,
        Self::Restart,
        Self::Approve,
        Self::Reject,
        Self::Retry,
    ];
}

/// What surrounds a step, for judging what can be done with it.
#[derive(Clone, Debug)]
pub struct Surroundings {
    pub(super) run: run::Model,
    pub(super) phases: Vec<phase::Model>,
    pub(super) phase: phase::Model,
    pub(super) tasks: Vec<task::Model>,
    undecided: u64,
}

impl Surroundings {
    /// From what is at hand: a step's run with all its phases and tasks, and how many of its messages have no verdict yet
    /// where that matters.
    pub fn of(
        step: &Model,
        run: run::Model,
        phases: Vec<phase::Model>,
        tasks: Vec<task::Model>,
        undecided: u64,
    ) -> Result<Self> {
        let phase = phases.iter().find(|phase| phase.id == step.phase_id).cloned();
        let phase = phase.ok_or_else(|| Error::ours("a step without its phase"))?;
        Ok(Self { run, phases, phase, tasks, undecided })
    }

    /// Reads what is not at hand.
    pub(super) async fn read(
        db: &impl ConnectionTrait,
        viewer: &Viewer,
        step: &Model,
        run: run::Model,
    ) -> Result<Self> {
        let phases = runs::phase::of_runs(db, viewer, &[step.run_id]).await?;
        let tasks = runs::task::of_runs(db, viewer, &[step.run_id]).await?;
        let mut undecided = 0;
        if step.kind == run_template::REVIEW {
            let brief = runs::brief::of(db, &run).await?;
            let policy = brief.instructions.as_ref().and_then(|told| told.review_policy);
            if policy == Some(entity::reviewer::ReviewPolicy::All) {
                undecided = drafts(db, step.run_id).await?;
            }
        }
        Self::of(step, run, phases, tasks, undecided)
    }
}

async fn drafts(db: &impl ConnectionTrait, run_id: RunId) -> Result<u64> {
    Ok(communication::Entity::find()
        .filter(communication::COLUMN.run_id.eq(run_id))
        .filter(communication::COLUMN.status.eq(CommunicationStatus::Draft))
        .count(db)
        .await?)
}

/// Whether an action would be carried out now; the refusal tells why not. The verbs ask the same.
pub fn may(step: &Model, around: &Surroundings, action: Action) -> Result<()> {
    let act = act_of(step, action);
    if step.status.next(act).is_none() {
        return Err(Refusal::transition("step", step.status, act).into());
    }
    let conflict = |why: &str| Err(Refusal::conflict(why).into());
    if around.run.status == RunStatus::Failed && action == Action::Retry {
        return conflict("its run has failed: retry the run");
    }
    if around.run.status != RunStatus::InProgress {
        return conflict(&format!("steps move only in a run that is IN_PROGRESS; this one is {}", around.run.status));
    }
    let human = step.assigned_to == Executor::Human;
    let review = step.kind == run_template::REVIEW;
    match action {
        Action::Start | Action::Complete | Action::Fail if !human => {
            conflict("this step is done by a worker, not by a person")
        }
        Action::Start | Action::Complete | Action::Fail if review => {
            conflict("the engine starts a review; approve or reject it")
        }
        Action::Reset | Action::Restart if !human => conflict("only steps that people do can be taken back"),
        Action::Reset | Action::Restart if review => {
            conflict("a review is not taken back: what it let out may have gone")
        }
        Action::Skip if step.lease_owner.is_some() => conflict("a worker is at it; it settles within its lease"),
        Action::Approve if !review => conflict("whether this message went out is unknown: resolve the communication"),
        Action::Reject if !review => conflict("whether this message went out is unknown: resolve the communication"),
        Action::Skip if step.status == StepStatus::AwaitingApproval && !review => {
            conflict("whether this message went out is unknown: resolve the communication")
        }
        Action::Approve if around.undecided > 0 => {
            conflict(&format!("the reviewer's policy is ALL, and {} messages have no verdict yet", around.undecided))
        }
        _ if around.phase.status != entity::PhaseStatus::Active => {
            conflict(&format!("the step's phase is {}", around.phase.status))
        }
        Action::Start if !depends_met(step, around) => conflict("the tasks that this one depends on are not through"),
        Action::Reset | Action::Restart | Action::Retry if waited_for(step, around) => {
            conflict("a task that waited for this one has begun")
        }
        Action::Start
        | Action::Complete
        | Action::Fail
        | Action::Skip
        | Action::Reset
        | Action::Restart
        | Action::Approve
        | Action::Reject
        | Action::Retry => Ok(()),
    }
}

fn depends_met(step: &Model, around: &Surroundings) -> bool {
    let Some(task) = around.tasks.iter().find(|task| task.id == step.task_id) else { return false };
    let met = |key: &String| around.tasks.iter().any(|other| other.key == *key && other.status.is_met());
    task.depends_on.0.iter().all(met)
}

fn waited_for(step: &Model, around: &Surroundings) -> bool {
    let key = around.tasks.iter().find(|task| task.id == step.task_id).map(|task| task.key.clone()).unwrap_or_default();
    around.tasks.iter().any(|task| task.fan_out_begun && task.depends_on.0.contains(&key))
}

/// The edge of the law.
pub(super) fn act_of(step: &Model, action: Action) -> StepAct {
    match action {
        Action::Start => StepAct::Start,
        Action::Complete => StepAct::Complete,
        Action::Fail => StepAct::Fail { again: step.failure_count + 1 < step.max_attempts },
        Action::Skip => StepAct::Skip,
        Action::Reset => StepAct::Reset,
        Action::Restart => StepAct::Restart,
        Action::Retry => StepAct::Retry,
        Action::Approve => StepAct::Approve,
        Action::Reject => StepAct::Reject { again: step.failure_count + 1 < step.max_attempts },
    }
}

//! What people do with a step, and every edge of its law; each with its event, its counters and what follows.

use async_graphql::Enum;
use entity::id::*;
use entity::step::{ActiveModel, Executor, Model, StepAct, StepStatus};
use entity::sweep::SweepKind;
use entity::{CommunicationStatus, Law, RunStatus, communication, phase, run, run_record, task};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter, Set,
};
use serde_json::Value;

use super::{Change, must_find, note};
use crate::db::{Db, Tx};
use crate::error::{Refusal, Result};
use crate::run::{self as runs, advance, retry, sweep};
use crate::viewer::Viewer;
use crate::{input, instructions, run_template, transact};

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
    run: run::Model,
    phase: phase::Model,
    tasks: Vec<task::Model>,
    undecided: u64,
}

/// Reads what surrounds a step.
pub async fn surroundings(db: &impl ConnectionTrait, viewer: &Viewer, step: &Model) -> Result<Surroundings> {
    let run = runs::must_find(db, viewer, step.run_id).await?;
    let phase = runs::phase::must_find(db, viewer, step.phase_id).await?;
    let tasks = runs::task::of_runs(db, viewer, &[step.run_id]).await?;
    let all = runs::launch::instructions(&run).and_then(|told: instructions::Instructions| told.review_policy);
    let undecided = if step.kind == run_template::REVIEW && all == Some(entity::reviewer::ReviewPolicy::All) {
        drafts(db, step.run_id).await?
    } else {
        0
    };
    Ok(Surroundings { run, phase, tasks, undecided })
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

fn act_of(step: &Model, action: Action) -> StepAct {
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

/// What a person says with an action.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// What came of it.
    pub result: Option<Value>,
    /// Why.
    pub reason: Option<String>,
}

/// A person's act on a step. Errors: NOT_FOUND, CONFLICT, INVALID_TRANSITION, BAD_USER_INPUT.
pub async fn act(
    db: &Db,
    viewer: &Viewer,
    id: StepId,
    expected: Option<i32>,
    action: Action,
    said: &Said,
) -> Result<Model> {
    let reason = said.reason.as_deref().map(|reason| input::text("reason", reason)).transpose()?;
    if matches!(action, Action::Reject | Action::Fail)
        && reason.as_deref().is_none_or(|reason| reason.trim().is_empty())
    {
        return Err(Refusal::input("reason", "say why").into());
    }
    if let Some(result) = &said.result {
        crate::record::check_attributes("result", result)?;
    }
    let run_id = must_find(db.read(), viewer, id).await?.run_id;
    transact!(db, |tx| {
        let run = runs::must_lock(tx, viewer, run_id, None).await?;
        let step = must_find(tx.db(), viewer, id).await?;
        input::expect("step", step.revision, expected)?;
        let around = surroundings(tx.db(), viewer, &step).await?;
        may(&step, &around, action)?;
        if action == Action::Retry {
            retry::again(tx, viewer, &run, &[id]).await?;
        } else {
            let edge = act_of(&step, action);
            let step = take(tx, viewer, &run, step, edge, &Said { reason: reason.clone(), ..said.clone() }).await?;
            gate(tx, viewer, &around.phase, action).await?;
            consequences(tx, viewer, &run, &step, action, reason.as_deref()).await?;
        }
        advance::advance(tx, viewer, run).await?;
        tx.made(id);
        must_find(tx.db(), viewer, id).await
    })
}

/// Takes an edge of the law on a single step, with its event and counters.
pub(crate) async fn take(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    step: Model,
    act: StepAct,
    said: &Said,
) -> Result<Model> {
    let (from, revision) = (step.status, step.revision);
    let to = from.next(act).ok_or_else(|| Refusal::transition("step", from, act))?;
    let (attempts, failures) = (step.attempt_count, step.failure_count);
    let mut row: ActiveModel = step.into_active_model();
    row.status = Set(to);
    row.lease_owner = Set(None);
    row.lease_expires_at = Set(None);
    let mut close = || {
        row.completed_at = Set(Some(tx.now()));
        row.completed_by = Set(Some(viewer.actor()));
    };
    let kind = match act {
        StepAct::Start => {
            row.attempt_count = Set(attempts + 1);
            row.started_at = Set(Some(tx.now()));
            "step.started"
        }
        StepAct::Complete => {
            close();
            row.result = Set(said.result.clone());
            "step.completed"
        }
        StepAct::Approve => {
            close();
            "step.approved"
        }
        StepAct::Skip => {
            close();
            row.error = Set(said.reason.clone());
            "step.skipped"
        }
        StepAct::Fail { again } | StepAct::Reject { again } | StepAct::Lapse { again } => {
            row.failure_count = Set(failures + 1);
            row.error = Set(said.reason.clone());
            if !again {
                close();
            }
            match act {
                StepAct::Reject { .. } => "step.rejected",
                _ if again => "step.retried",
                _ => "step.failed",
            }
        }
        StepAct::Reset | StepAct::Restart => {
            row.completed_at = Set(None);
            row.completed_by = Set(None);
            row.error = Set(None);
            "step.reset"
        }
        StepAct::Submit => "step.awaiting_approval",
        StepAct::Fire => "step.queued",
        StepAct::Retry => "step.retried",
    };
    row.revision = Set(revision + 1);
    let step = row.update(tx.db()).await?;
    let change = Change { step: step.clone(), from: Some(from), kind, reason: said.reason.clone() };
    note(tx, run, &viewer.actor(), &[change]).await?;
    Ok(step)
}

/// A person's act in a phase that waits for one opens its gate; a skip is no such act.
async fn gate(tx: &Tx, viewer: &Viewer, phase: &phase::Model, action: Action) -> Result<()> {
    let acted = matches!(action, Action::Complete | Action::Approve) && viewer.actor().is_person();
    if acted && !phase.autonomous && phase.person_act.is_none() {
        let mut row = phase.clone().into_active_model();
        row.person_act = Set(Some(viewer.actor()));
        row.update(tx.db()).await?;
    }
    Ok(())
}

/// What follows from a person's act beyond the step itself.
async fn consequences(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    step: &Model,
    action: Action,
    reason: Option<&str>,
) -> Result<()> {
    match (step.kind.as_str(), action) {
        (run_template::REVIEW, Action::Approve) => {
            runs::task::hold_open(tx, step.task_id).await?;
            sweep::begin(tx, viewer, run, Some(step.task_id), SweepKind::Approve, None).await
        }
        (run_template::REVIEW, Action::Reject) => {
            let tasks = runs::task::of_runs(tx.db(), viewer, &[run.id]).await?;
            let definition = &run.definition;
            let drafting = definition
                .phases
                .iter()
                .flat_map(|phase| &phase.tasks)
                .find(|task| task.steps.iter().any(|step| step.kind == run_template::DRAFT));
            let task = drafting.and_then(|drafting| tasks.iter().find(|task| task.key == drafting.key));
            match task {
                Some(task) if step.status == StepStatus::Queued => {
                    runs::task::hold_open(tx, task.id).await?;
                    sweep::begin(tx, viewer, run, Some(task.id), SweepKind::Redraft, reason.map(str::to_owned)).await
                }
                _ => Ok(()),
            }
        }
        (run_template::CALL, Action::Complete) => place(tx, step, Some(run_record::Outcome::Sent), None).await,
        (run_template::CALL, Action::Fail) if step.status == StepStatus::Failed => {
            place(tx, step, Some(run_record::Outcome::Failed), reason).await
        }
        (run_template::CALL, Action::Reset | Action::Restart) => place(tx, step, None, None).await,
        (run_template::DRAFT | run_template::SEND | run_template::CALL, Action::Skip) => {
            crate::communication::drop_of_places(
                tx,
                viewer,
                run,
                &step.run_record_id.into_iter().collect::<Vec<_>>(),
                "its step was skipped",
            )
            .await?;
            place(tx, step, Some(run_record::Outcome::Skipped), Some(reason.unwrap_or("skipped by a person"))).await
        }
        _ => Ok(()),
    }
}

/// What came of the step's place in the audience.
async fn place(tx: &Tx, step: &Model, outcome: Option<run_record::Outcome>, reason: Option<&str>) -> Result<()> {
    if let Some(id) = step.run_record_id {
        let row = run_record::ActiveModel {
            id: Set(id),
            outcome: Set(outcome),
            reason: Set(reason.map(str::to_owned)),
            ..Default::default()
        };
        row.update(tx.db()).await?;
    }
    Ok(())
}

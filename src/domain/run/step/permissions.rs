//! Permissions: decides which actions are allowed on a step now, given its run, phase, task and
//! viewer.

use std::sync::Arc;

use async_graphql::Enum;
use chrono::{DateTime, Utc};
use entity::definition::{ApprovalDef, StepDef, Trigger};
use entity::id::*;
use entity::member::Role;
use entity::reviewer::ReviewPolicy;
use entity::step::{Executor, Model, StepReason, StepStatus, StepTransition};
use entity::{
    Actor, CampaignStatus, CommunicationStatus, RunStatus, RunType, StateMachine, communication, phase, queued_message,
    run, task,
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter};

use serde_json::json;

use super::neighbours;
use crate::domain::plan::run_template;
use crate::domain::run::dependents::DependencyEnd;
use crate::domain::run::{self as runs, snapshot::RunSnapshot};
use crate::kernel::error::{Code, Error, Refusal, Result};
use crate::kernel::viewer::Viewer;

/// Action on a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "StepAction")]
pub enum Action {
    /// Starts the step.
    Start,
    /// Completes the step.
    Complete,
    /// Completes the work and submits the step for approval.
    Submit,
    /// Reports that the step could not be done.
    Fail,
    /// Skips the step.
    Skip,
    /// Returns a step that is in progress or completed to PENDING.
    Reset,
    /// Returns a skipped step to PENDING.
    Restart,
    /// Approves the step.
    Approve,
    /// Rejects the step's result; it is done again while attempts remain.
    Reject,
    /// Retries a failed step.
    Retry,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 10] = [
        Self::Start,
        Self::Complete,
        Self::Submit,
        Self::Fail,
        Self::Skip,
        Self::Reset,
        Self::Restart,
        Self::Approve,
        Self::Reject,
        Self::Retry,
    ];
}

/// Everything besides the step itself that decides which actions are allowed.
#[derive(Clone, Debug)]
pub struct StepContext {
    pub(in crate::domain::run) run: run::Model,
    pub(super) phases: Vec<phase::Model>,
    pub(super) phase: phase::Model,
    pub(super) tasks: Vec<task::Model>,
    undecided: u64,
    /// Definition of the step in the run's structure.
    pub(in crate::domain::run) declared: Option<StepDef>,
    /// True if a dependent step has left PENDING.
    has_started_dependents: bool,
    /// Key and outcome of the step that a person's skipped step waits for, unless it is open or
    /// completed.
    ended_before: Option<(String, DependencyEnd)>,
    /// Number of messages in flight that people sent from within the step.
    messages_in_flight: u64,
    /// True if the campaign is paused.
    pub(in crate::domain::run) campaign_paused: bool,
    /// Current time.
    now: DateTime<Utc>,
}

/// Rows from which a step's context is built.
#[derive(Clone, Debug)]
pub struct StepRows {
    /// The step's run.
    pub run: run::Model,
    /// All phases of the run.
    pub phases: Vec<phase::Model>,
    /// All tasks of the run.
    pub tasks: Vec<task::Model>,
    /// Snapshot of the run.
    pub snapshot: Arc<RunSnapshot>,
    /// Status of the run's campaign; none for guided work.
    pub campaign: Option<CampaignStatus>,
}

impl StepContext {
    /// Builds the context from rows, and from further reads that only some steps need. `drafts`
    /// counts the run's messages without a verdict; it is awaited only where they matter.
    pub async fn of<E: From<Error>>(
        db: &impl ConnectionTrait,
        step: &Model,
        rows: StepRows,
        drafts: impl Future<Output = std::result::Result<u64, E>>,
        now: DateTime<Utc>,
    ) -> std::result::Result<Self, E> {
        let StepRows { run, phases, tasks, snapshot, campaign } = rows;
        let phase = phases.iter().find(|phase| phase.id == step.phase_id).cloned();
        let phase = phase.ok_or_else(|| Error::internal("a step without its phase"))?;
        let policy = snapshot.instructions.as_ref().and_then(|instructions| instructions.review_policy);
        let needs_verdicts = step.kind == run_template::REVIEW && policy == Some(ReviewPolicy::All);
        let undecided = if needs_verdicts { drafts.await? } else { 0 };
        let has_started_dependents = match step.status {
            StepStatus::Completed => neighbours::has_started_dependents(db, step, &snapshot.graph).await?,
            _ => false,
        };
        let ended_before = match step.status {
            StepStatus::Skipped if step.assigned_to == Executor::Human => {
                neighbours::ended_before(db, step, &snapshot, &tasks).await?
            }
            _ => None,
        };
        Ok(Self {
            messages_in_flight: Box::pin(in_flight(db, step, &run)).await?,
            declared: snapshot.step(&step.key).map(|(_, declared)| declared.clone()),
            campaign_paused: campaign == Some(CampaignStatus::Paused),
            run,
            phases,
            phase,
            tasks,
            undecided,
            has_started_dependents,
            ended_before,
            now,
        })
    }

    /// Loads the context from the database.
    pub(super) async fn read(
        db: &impl ConnectionTrait,
        viewer: &Viewer,
        step: &Model,
        run: run::Model,
        now: DateTime<Utc>,
    ) -> Result<Self> {
        let (phases, tasks, campaign) = runs::phase::with_tasks(db, viewer, &run).await?;
        let snapshot = runs::snapshot::of(db, &run).await?;
        let rows = StepRows { run, phases, tasks, snapshot, campaign };
        Self::of(db, step, rows, count_drafts(db, step.run_id), now).await
    }
}

/// Number of messages in flight that people sent from within a step. Queries only if the run has any.
async fn in_flight(db: &impl ConnectionTrait, step: &Model, run: &run::Model) -> Result<u64> {
    if run.in_flight == 0 {
        return Ok(0);
    }
    Ok(queued_message::Entity::find().filter(queued_message::COLUMN.step_id.eq(step.id)).count(db).await?)
}

/// Number of a run's messages without a verdict.
pub(crate) async fn count_drafts(db: &impl ConnectionTrait, run_id: RunId) -> Result<u64> {
    Ok(communication::Entity::find()
        .filter(communication::COLUMN.run_id.eq(run_id))
        .filter(communication::COLUMN.status.eq(CommunicationStatus::Draft))
        .count(db)
        .await?)
}

/// Checks that an action is allowed now; the error names the reason. The mutations call the same
/// check.
pub fn check_allowed(viewer: &Viewer, step: &Model, context: &StepContext, action: Action) -> Result<()> {
    check_not_taken(&context.run, step, action)?;
    let transition = transition_of(step, action);
    if step.status.next(transition).is_none() {
        return Err(Refusal::transition("step", step.status, transition).into());
    }
    let conflict = |why: &str| Err(Refusal::conflict(why).into());
    if context.run.status == RunStatus::Failed && action == Action::Retry {
        return conflict("its run has failed: retry the run");
    }
    // A person on the telephone reports the outcome: that settles work already begun.
    let settles_call = step.kind == run_template::CALL
        && step.status == StepStatus::InProgress
        && matches!(action, Action::Complete | Action::Fail);
    if context.campaign_paused && !settles_call && matches!(action, Action::Start | Action::Complete | Action::Submit) {
        return conflict("its campaign is paused: resume it to start or complete steps");
    }
    if context.run.status != RunStatus::InProgress && !(context.run.status == RunStatus::Paused && settles_call) {
        return conflict(&format!("steps move only in a run that is IN_PROGRESS; this one is {}", context.run.status));
    }
    let human = step.assigned_to == Executor::Human;
    let guided = context.run.run_type == RunType::Guided;
    let review = step.kind == run_template::REVIEW;
    let approval = context.declared.as_ref().and_then(run_template::approval_of);
    // A message of unknown outcome is resolved, not approved.
    let unresolved = !review && (approval.is_none() || step.reason == Some(StepReason::OutcomeUnknown));
    match action {
        Action::Start | Action::Complete | Action::Submit | Action::Fail if !human => {
            conflict("this step is done by a worker, not by a person")
        }
        Action::Start | Action::Complete | Action::Submit | Action::Fail if review => {
            conflict("the engine starts a review; approve or reject it")
        }
        Action::Fail if guided => conflict("a step of guided work is completed, skipped or reset"),
        Action::Reset if context.messages_in_flight > 0 => conflict(&format!(
            "{} of its messages are in flight: reset it when their outcome is known",
            context.messages_in_flight
        )),
        Action::Reset if !human => conflict("only steps done by people can be reset"),
        Action::Restart if !human => conflict("only steps done by people can be restarted"),
        Action::Reset if review => conflict("a review can't be reset: messages it approved may have been sent"),
        Action::Restart if review => conflict("a review can't be restarted: messages it approved may have been sent"),
        Action::Complete if approval.is_some() => conflict("the step needs approval: submit it"),
        Action::Submit if approval.is_none() => conflict("the step needs no approval: complete it"),
        Action::Skip if step.lease_owner.is_some() => conflict("a worker holds it until its lease expires"),
        Action::Approve | Action::Reject if unresolved => {
            conflict("the outcome of its message is unknown: resolve the communication")
        }
        Action::Skip if step.status == StepStatus::AwaitingApproval && unresolved => {
            conflict("the outcome of its message is unknown: resolve the communication")
        }
        Action::Approve if context.undecided > 0 => {
            conflict(&format!("the reviewer's policy is ALL, and {} messages have no verdict yet", context.undecided))
        }
        _ if context.phase.status != entity::PhaseStatus::Active => {
            conflict(&format!("the step's phase is {}", context.phase.status))
        }
        Action::Start if !depends_met(step, context) => conflict("the tasks that this one depends on are not finished"),
        Action::Start if waits_for_trigger(step, context) => {
            conflict(&format!("its trigger has not fired: {}", step.trigger))
        }
        Action::Start if step.available_at > context.now => {
            conflict(&format!("it can't be started before {}", step.available_at.to_rfc3339()))
        }
        Action::Reset | Action::Restart | Action::Retry if dependent_tasks_started(step, context) => {
            conflict("a task that waited for this one has begun")
        }
        Action::Restart if let Some((key, end)) = &context.ended_before => conflict(&match end {
            DependencyEnd::Failed => format!("it waits for {key}, which failed: retry that first"),
            DependencyEnd::Completed | DependencyEnd::Skipped => {
                format!("it waits for {key}, which was skipped: restart that first")
            }
        }),
        Action::Reset if dependent_steps_started(step, context) => {
            conflict("a step that waited for this one is no longer PENDING")
        }
        Action::Start
        | Action::Complete
        | Action::Submit
        | Action::Fail
        | Action::Skip
        | Action::Reset
        | Action::Restart
        | Action::Approve
        | Action::Reject
        | Action::Retry => check_person(viewer, step, approval, action),
    }
}

/// Rejects an action on guided work that another person has already taken, naming the person and the time.
pub(super) fn check_not_taken(run: &run::Model, step: &Model, action: Action) -> Result<()> {
    if run.run_type != RunType::Guided {
        return Ok(());
    }
    let (done, by, at) = match (action, step.status) {
        (Action::Start | Action::Complete | Action::Submit | Action::Skip, StepStatus::Completed) => {
            ("completed", &step.completed_by, step.completed_at)
        }
        (Action::Start | Action::Complete | Action::Submit | Action::Skip, StepStatus::Skipped) => {
            ("skipped", &step.completed_by, step.completed_at)
        }
        (Action::Start, StepStatus::InProgress) => ("started", &step.started_by, step.started_at),
        _ => return Ok(()),
    };
    let name = by.as_ref().map_or("somebody", |by| by.name.as_str());
    let when = at.map(|at| at.to_rfc3339()).unwrap_or_default();
    let who = by.as_ref().map(|by| json!({ "kind": by.kind, "memberId": by.member_id, "name": by.name }));
    let refusal = Refusal::conflict(format!("{name} {done} it at {when}"))
        .with("status", json!(step.status))
        .with("revision", json!(step.revision))
        .with(&format!("{done}By"), json!(who))
        .with(&format!("{done}At"), json!(at));
    Err(refusal.into())
}

/// Checks that this person may act within the step.
pub(in crate::domain::run) fn check_may_work(viewer: &Viewer, step: &Model) -> Result<()> {
    check_person(viewer, step, None, Action::Complete)
}

/// Checks the person: assignee, required role, and, where another person must approve, not the
/// submitter.
fn check_person(viewer: &Viewer, step: &Model, approval: Option<ApprovalDef>, action: Action) -> Result<()> {
    let (doing, approving) = (
        matches!(action, Action::Start | Action::Complete | Action::Submit | Action::Fail),
        matches!(action, Action::Approve | Action::Reject),
    );
    if let Some(role) = step.assignee_role.filter(|role| (doing || approving) && !viewer.role.covers(*role)) {
        let message = format!("this step requires the role {role}; your role is {}", viewer.role);
        return Err(Refusal::new(Code::Forbidden, message)
            .with("role", json!(viewer.role))
            .with("needed", json!(role))
            .into());
    }
    let viewer_id = viewer.member_id().map(|id| id.0);
    if doing && step.assignee_id.is_some_and(|id| Some(id) != viewer_id) && !viewer.role.covers(Role::Manager) {
        return Err(Refusal::conflict("it is assigned to somebody else").into());
    }
    let approvals = step.approval.clone().unwrap_or_default();
    let is_mine = |actor: &Actor| actor.member_id.is_some() && actor.member_id == viewer.member_id();
    if let (Action::Approve, Some(approval)) = (action, approval) {
        let is_submitter = approvals.submitted_by.as_ref().is_some_and(is_mine)
            || (approvals.member_id.is_some() && approvals.member_id == viewer.member_id());
        if !approval.self_approval && is_submitter {
            return Err(Refusal::conflict("the submitter may not approve it").into());
        }
        if approvals.approved_by.iter().any(is_mine) {
            return Err(Refusal::conflict("you have approved it already").into());
        }
    }
    Ok(())
}

/// True if the step is pending on its trigger. Fan-out steps on an event are created when the event
/// arrives.
fn waits_for_trigger(step: &Model, context: &StepContext) -> bool {
    let fan_out = context.tasks.iter().any(|task| task.id == step.task_id && task.fan_out);
    step.status == StepStatus::Pending
        && match step.trigger.parse() {
            Ok(Trigger::After(_) | Trigger::Delay(_)) => true,
            Ok(Trigger::Event(_)) => !fan_out,
            Ok(Trigger::Immediate | Trigger::Manual) | Err(_) => false,
        }
}

/// True if a dependent step has left PENDING: this step can't be reset any more.
fn dependent_steps_started(step: &Model, context: &StepContext) -> bool {
    step.status == StepStatus::Completed && context.has_started_dependents
}

fn depends_met(step: &Model, context: &StepContext) -> bool {
    let Some(task) = context.tasks.iter().find(|task| task.id == step.task_id) else { return false };
    let met = |key: &String| context.tasks.iter().any(|other| other.key == *key && other.status.meets_dependency());
    task.depends_on.0.iter().all(met)
}

fn dependent_tasks_started(step: &Model, context: &StepContext) -> bool {
    let key =
        context.tasks.iter().find(|task| task.id == step.task_id).map(|task| task.key.clone()).unwrap_or_default();
    context.tasks.iter().any(|task| task.fan_out_begun && task.depends_on.0.contains(&key))
}

/// Maps an action to the step's transition.
pub(super) fn transition_of(step: &Model, action: Action) -> StepTransition {
    match action {
        Action::Start => StepTransition::Start,
        Action::Complete => StepTransition::Complete,
        Action::Submit => StepTransition::Submit,
        Action::Fail => StepTransition::Fail { retry: step.failure_count + 1 < step.max_attempts },
        Action::Skip => StepTransition::Skip,
        Action::Reset => StepTransition::Reset,
        Action::Restart => StepTransition::Restart,
        Action::Retry => StepTransition::Retry,
        Action::Approve => StepTransition::Approve,
        Action::Reject => StepTransition::Reject { retry: step.failure_count + 1 < step.max_attempts },
    }
}

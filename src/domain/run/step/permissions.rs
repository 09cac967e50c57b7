//! What can be done with a step now, judged on what surrounds it.

use async_graphql::Enum;
use chrono::{DateTime, Utc};
use entity::definition::{ApprovalDef, StepDef, Trigger};
use entity::id::*;
use entity::member::Role;
use entity::step::{COLUMN, Column, Entity, Executor, Model, StepStatus, StepTransition};
use entity::{
    Actor, CampaignStatus, CommunicationStatus, RunStatus, RunType, StateMachine, campaign, communication, phase,
    queued_message, run, task,
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter};

use serde_json::json;

use crate::domain::plan::run_template;
use crate::domain::run::{self as runs, step_graph::StepGraph};
use crate::kernel::db::batch::any_of;
use crate::kernel::error::{Code, Error, Refusal, Result};
use crate::kernel::viewer::Viewer;

/// What can be done with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "StepAction")]
pub enum Action {
    /// Begin it.
    Start,
    /// Say that it is done.
    Complete,
    /// Say that it is done, and ask for it to be let out.
    Submit,
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

/// What surrounds a step, for judging what can be done with it.
#[derive(Clone, Debug)]
pub struct StepContext {
    pub(super) run: run::Model,
    pub(super) phases: Vec<phase::Model>,
    pub(super) phase: phase::Model,
    pub(super) tasks: Vec<task::Model>,
    undecided: u64,
    /// How it is declared.
    pub(super) declared: Option<StepDef>,
    /// Whether a step that waited for it has left pending.
    followed: bool,
    /// How many of its messages are on their way; of guided work.
    on_way: u64,
    /// Whether its campaign is paused.
    held: bool,
    /// The time.
    now: DateTime<Utc>,
}

impl StepContext {
    /// From what is at hand: a step's run with all its phases and tasks, and how many of its messages have no verdict yet
    /// where that matters.
    #[allow(clippy::too_many_arguments)]
    pub fn of(
        step: &Model,
        run: run::Model,
        phases: Vec<phase::Model>,
        tasks: Vec<task::Model>,
        undecided: u64,
        declared: Option<StepDef>,
        followed: bool,
        on_way: u64,
        now: DateTime<Utc>,
    ) -> Result<Self> {
        let phase = phases.iter().find(|phase| phase.id == step.phase_id).cloned();
        let phase = phase.ok_or_else(|| Error::ours("a step without its phase"))?;
        Ok(Self { run, phases, phase, tasks, undecided, declared, followed, on_way, held: false, now })
    }

    /// The same, with the status of the run's campaign.
    #[must_use]
    pub fn under(mut self, campaign: Option<CampaignStatus>) -> Self {
        self.held = campaign == Some(CampaignStatus::Paused);
        self
    }

    /// Reads what is not at hand.
    pub(super) async fn read(
        db: &impl ConnectionTrait,
        viewer: &Viewer,
        step: &Model,
        run: run::Model,
        now: DateTime<Utc>,
    ) -> Result<Self> {
        let phases = runs::phase::of_runs(db, viewer, &[step.run_id]).await?;
        let tasks = runs::task::of_runs(db, viewer, &[step.run_id]).await?;
        let mut undecided = 0;
        let snapshot = runs::snapshot::of(db, &run).await?;
        let declared = snapshot.step(&step.key).map(|(_, declared)| declared.clone());
        if step.kind == run_template::REVIEW {
            let policy = snapshot.instructions.as_ref().and_then(|told| told.review_policy);
            if policy == Some(entity::reviewer::ReviewPolicy::All) {
                undecided = drafts(db, step.run_id).await?;
            }
        }
        let followed = match step.status {
            StepStatus::Completed => followers(db, step, &snapshot.graph).await?,
            _ => false,
        };
        let on_way = Box::pin(in_flight(db, step, &run)).await?;
        let campaign = match run.campaign_id {
            Some(id) => campaign::Entity::find_by_id(id).one(db).await?.map(|campaign| campaign.status),
            None => None,
        };
        Ok(Self::of(step, run, phases, tasks, undecided, declared, followed, on_way, now)?.under(campaign))
    }
}

/// Whether a step that waited for this one has left pending.
pub(crate) async fn followers(db: &impl ConnectionTrait, step: &Model, graph: &StepGraph) -> Result<bool> {
    let keys = graph.behind(&step.key);
    if keys.is_empty() {
        return Ok(false);
    }
    let mut theirs = Entity::find()
        .filter(COLUMN.run_id.eq(step.run_id))
        .filter(any_of(db.get_database_backend(), Column::Key, keys))
        .filter(COLUMN.status.ne(StepStatus::Pending));
    if let Some(place) = step.run_record_id.filter(|_| graph.fans.contains(&step.key)) {
        theirs = theirs.filter(COLUMN.run_record_id.eq(place));
    }
    Ok(theirs.count(db).await? > 0)
}

/// How many messages of a step of guided work are on their way. Asks only where its run has any.
pub(crate) async fn in_flight(db: &impl ConnectionTrait, step: &Model, run: &run::Model) -> Result<u64> {
    if run.on_way == 0 {
        return Ok(0);
    }
    Ok(queued_message::Entity::find().filter(queued_message::COLUMN.step_id.eq(step.id)).count(db).await?)
}

async fn drafts(db: &impl ConnectionTrait, run_id: RunId) -> Result<u64> {
    Ok(communication::Entity::find()
        .filter(communication::COLUMN.run_id.eq(run_id))
        .filter(communication::COLUMN.status.eq(CommunicationStatus::Draft))
        .count(db)
        .await?)
}

/// Whether an action would be carried out now; the refusal tells why not. The verbs ask the same.
pub fn check_allowed(viewer: &Viewer, step: &Model, around: &StepContext, action: Action) -> Result<()> {
    let act = act_of(step, action);
    if step.status.next(act).is_none() {
        return Err(Refusal::transition("step", step.status, act).into());
    }
    let conflict = |why: &str| Err(Refusal::conflict(why).into());
    if around.run.status == RunStatus::Failed && action == Action::Retry {
        return conflict("its run has failed: retry the run");
    }
    // Who is on the telephone says how it went: that settles what has begun.
    let calling = step.kind == run_template::CALL
        && step.status == StepStatus::InProgress
        && matches!(action, Action::Complete | Action::Fail);
    if around.held && !calling && matches!(action, Action::Start | Action::Complete | Action::Submit) {
        return conflict("its campaign is paused: nothing of it begins or is done until it is resumed");
    }
    if around.run.status != RunStatus::InProgress && !(around.run.status == RunStatus::Paused && calling) {
        return conflict(&format!("steps move only in a run that is IN_PROGRESS; this one is {}", around.run.status));
    }
    let human = step.assigned_to == Executor::Human;
    let guided = around.run.run_type == RunType::Guided;
    let review = step.kind == run_template::REVIEW;
    let approval = around.declared.as_ref().and_then(|declared| declared.approval);
    match action {
        Action::Start | Action::Complete | Action::Submit | Action::Fail if !human => {
            conflict("this step is done by a worker, not by a person")
        }
        Action::Start | Action::Complete | Action::Submit | Action::Fail if review => {
            conflict("the engine starts a review; approve or reject it")
        }
        Action::Fail if guided => conflict("a step of guided work is completed, skipped or reset"),
        Action::Reset if around.on_way > 0 => {
            conflict(&format!("{} of its messages are on their way: reset it when their fate is known", around.on_way))
        }
        Action::Reset | Action::Restart if !human => conflict("only steps that people do can be taken back"),
        Action::Reset | Action::Restart if review => {
            conflict("a review is not taken back: what it let out may have gone")
        }
        Action::Complete if approval.is_some() => conflict("it has to be let out: submit it"),
        Action::Submit if approval.is_none() => conflict("nobody has to let it out: complete it"),
        Action::Skip if step.lease_owner.is_some() => conflict("a worker is at it; it settles within its lease"),
        Action::Approve | Action::Reject if !review && approval.is_none() => {
            conflict("whether this message went out is unknown: resolve the communication")
        }
        Action::Skip if step.status == StepStatus::AwaitingApproval && !review && approval.is_none() => {
            conflict("whether this message went out is unknown: resolve the communication")
        }
        Action::Approve if around.undecided > 0 => {
            conflict(&format!("the reviewer's policy is ALL, and {} messages have no verdict yet", around.undecided))
        }
        _ if around.phase.status != entity::PhaseStatus::Active => {
            conflict(&format!("the step's phase is {}", around.phase.status))
        }
        Action::Start if !depends_met(step, around) => conflict("the tasks that this one depends on are not through"),
        Action::Start if waits(step, around) => conflict(&format!("its trigger has not fired: {}", step.trigger)),
        Action::Start if step.available_at > around.now => {
            conflict(&format!("it can be begun from {} on", step.available_at.to_rfc3339()))
        }
        Action::Reset | Action::Restart | Action::Retry if waited_for(step, around) => {
            conflict("a task that waited for this one has begun")
        }
        Action::Reset if followed(step, around) => conflict("a step that waited for this one has left pending"),
        Action::Start
        | Action::Complete
        | Action::Submit
        | Action::Fail
        | Action::Skip
        | Action::Reset
        | Action::Restart
        | Action::Approve
        | Action::Reject
        | Action::Retry => who(viewer, step, approval, action),
    }
}

/// Whether this person may do something from within it.
pub(in crate::domain::run) fn doing(viewer: &Viewer, step: &Model) -> Result<()> {
    who(viewer, step, None, Action::Complete)
}

/// Whether this person may: the one that it is assigned to, of the role that it needs, and not who submitted it where
/// somebody else has to let it out.
fn who(viewer: &Viewer, step: &Model, approval: Option<ApprovalDef>, action: Action) -> Result<()> {
    let (doing, approving) = (
        matches!(action, Action::Start | Action::Complete | Action::Submit | Action::Fail),
        matches!(action, Action::Approve | Action::Reject),
    );
    if let Some(role) = step.assignee_role.filter(|role| (doing || approving) && !viewer.role.covers(*role)) {
        let told = format!("this step is for the role {role}; you have {}", viewer.role);
        return Err(Refusal::new(Code::Forbidden, told)
            .with("role", json!(viewer.role))
            .with("needed", json!(role))
            .into());
    }
    let mine = viewer.member_id().map(|id| id.0);
    if doing && step.assignee_id.is_some_and(|id| Some(id) != mine) && !viewer.role.covers(Role::Manager) {
        return Err(Refusal::conflict("it is assigned to somebody else").into());
    }
    let so_far = step.approval.clone().unwrap_or_default();
    let is_mine = |actor: &Actor| actor.member_id.is_some() && actor.member_id == viewer.member_id();
    if let (Action::Approve, Some(approval)) = (action, approval) {
        if !approval.self_approval && so_far.submitted_by.as_ref().is_some_and(is_mine) {
            return Err(Refusal::conflict("who submitted it may not approve it").into());
        }
        if so_far.approved_by.iter().any(is_mine) {
            return Err(Refusal::conflict("you have approved it already").into());
        }
    }
    Ok(())
}

/// Whether it stands and waits for its trigger. Of a fan-out, steps on an event are made when it has come.
fn waits(step: &Model, around: &StepContext) -> bool {
    let fan_out = around.tasks.iter().any(|task| task.id == step.task_id && task.fan_out);
    step.status == StepStatus::Pending
        && match step.trigger.parse() {
            Ok(Trigger::After(_) | Trigger::Delay(_)) => true,
            Ok(Trigger::Event(_)) => !fan_out,
            Ok(Trigger::Immediate | Trigger::Manual) | Err(_) => false,
        }
}

/// Whether a step that waited for this one has left pending: then this one is not taken back.
fn followed(step: &Model, around: &StepContext) -> bool {
    step.status == StepStatus::Completed && around.followed
}

fn depends_met(step: &Model, around: &StepContext) -> bool {
    let Some(task) = around.tasks.iter().find(|task| task.id == step.task_id) else { return false };
    let met = |key: &String| around.tasks.iter().any(|other| other.key == *key && other.status.is_met());
    task.depends_on.0.iter().all(met)
}

fn waited_for(step: &Model, around: &StepContext) -> bool {
    let key = around.tasks.iter().find(|task| task.id == step.task_id).map(|task| task.key.clone()).unwrap_or_default();
    around.tasks.iter().any(|task| task.fan_out_begun && task.depends_on.0.contains(&key))
}

/// The edge of the law.
pub(super) fn act_of(step: &Model, action: Action) -> StepTransition {
    match action {
        Action::Start => StepTransition::Start,
        Action::Complete => StepTransition::Complete,
        Action::Submit => StepTransition::Submit,
        Action::Fail => StepTransition::Fail { again: step.failure_count + 1 < step.max_attempts },
        Action::Skip => StepTransition::Skip,
        Action::Reset => StepTransition::Reset,
        Action::Restart => StepTransition::Restart,
        Action::Retry => StepTransition::Retry,
        Action::Approve => StepTransition::Approve,
        Action::Reject => StepTransition::Reject { again: step.failure_count + 1 < step.max_attempts },
    }
}

//! What people do with a step, and every edge of its law; each with its event, its counters and what follows.

use entity::definition::StepDef;
use entity::id::*;
use entity::step::{ActiveModel, Approval, Model, StepReason, StepStatus, StepTransition};
use entity::sweep::SweepKind;
use entity::{RunType, StateMachine, phase, run, run_record, task};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect, Set};
use serde_json::Value;

use super::permissions::{Action, StepContext, act_of, check_allowed};
use super::{Change, must_find, note};
use crate::domain::plan::run_template;
use crate::domain::run::{self as runs, advance, guided, retry, sweep};
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};
use crate::transact;

/// What a person says with an action.
#[derive(Clone, Debug, Default)]
pub struct ActionInput {
    /// What came of it.
    pub result: Option<Value>,
    /// Why.
    pub reason: Option<String>,
    /// The reason as a code, where the act alone does not tell it.
    pub code: Option<StepReason>,
}

/// A person's act on a step. Errors: NOT_FOUND, CONFLICT, INVALID_TRANSITION, BAD_USER_INPUT.
pub async fn act(
    db: &Db,
    viewer: &Viewer,
    id: StepId,
    expected: Option<i32>,
    action: Action,
    said: &ActionInput,
) -> Result<Model> {
    let reason = said.reason.as_deref().map(|reason| validate::text("reason", reason)).transpose()?;
    if matches!(action, Action::Reject | Action::Fail)
        && reason.as_deref().is_none_or(|reason| reason.trim().is_empty())
    {
        return Err(Refusal::input("reason", "say why").into());
    }
    transact!(db, |tx| {
        let run = lock_run(tx, viewer, id).await?;
        // Read only now: under the run's lock nobody else changes it.
        let step = must_find(tx.db(), viewer, id).await?;
        guided::taken(&run, &step, action)?;
        validate::expect("step", step.revision, expected)?;
        let around = StepContext::read(tx.db(), viewer, &step, run, tx.now()).await?;
        check_allowed(viewer, &step, &around, action)?;
        if action == Action::Start && step.kind == run_template::CALL {
            super::call::begin(tx, viewer, &around.run, &step).await?;
        }
        tx.set_result(id);
        if let Some(result) = said.result.as_ref().filter(|_| matches!(action, Action::Complete | Action::Submit)) {
            check_result(around.declared.as_ref(), None, result)?;
        } else if around.declared.as_ref().is_some_and(|declared| declared.result_schema.is_some())
            && matches!(action, Action::Complete | Action::Submit)
        {
            return Err(Refusal::input("result", "is required: the step says what its result must be").into());
        }
        let needed =
            around.declared.as_ref().and_then(|declared| declared.approval).map_or(1, |approval| approval.needed);
        if action == Action::Approve && !enough(&step, needed) {
            return approve_in_part(tx, viewer, &around.run, step, needed).await;
        }
        if action == Action::Retry {
            retry::again(tx, viewer, &around.run, &[id]).await?;
            advance::advance(tx, viewer, around.run).await?;
            return must_find(tx.db(), viewer, id).await;
        }
        let edge = act_of(&step, action);
        let said = ActionInput { reason: reason.clone(), ..said.clone() };
        let (before, (step, counted)) =
            (step.status, apply_transition(tx, viewer, &around.run, step, edge, &said).await?);
        let snapshot = runs::snapshot::of(tx.db(), &around.run).await?;
        let changed = Change { step: step.clone(), from: Some(before), kind: "", reason: None };
        runs::dependents::advance(tx, &around.run, &snapshot, &[changed]).await?;
        if matches!(action, Action::Restart | Action::Reset) {
            retry::wait_again(tx, &around.run, &snapshot, &step).await?;
        }
        let followed = !snapshot.graph.dependents.is_empty();
        guided::step_records::follows(tx, viewer, &around.run, &step, action).await?;
        let gate = gate(tx, viewer, &around.phase, action).await?;
        let more = consequences(tx, viewer, &around.run, &step, action, reason.as_deref()).await?;
        if more || followed {
            advance::advance(tx, viewer, around.run).await?;
        } else {
            let StepContext { run, mut phases, mut tasks, .. } = around;
            renew(&mut phases, gate, |phase| phase.id);
            counted.into_iter().for_each(|task| renew(&mut tasks, Some(task), |task| task.id));
            advance::advance_from(tx, viewer, run, phases, tasks).await?;
        }
        Ok(step)
    })
}

/// Refuses a result that does not meet the step's schema, or the agent's; without any, one that is no flat object.
pub(crate) fn check_result(declared: Option<&StepDef>, agents: Option<&Value>, result: &Value) -> Result<()> {
    if result.to_string().len() > limits::RESULT_BYTES {
        return Err(Refusal::input("result", format!("at most {} bytes", limits::RESULT_BYTES)).into());
    }
    let own = declared.and_then(|declared| declared.result_schema.as_ref()).map(|schema| &schema.0);
    let schemas: Vec<&Value> = own.into_iter().chain(agents).collect();
    if schemas.is_empty() {
        crate::domain::audience::record::check_attributes("result", result)?;
        return Ok(());
    }
    let problems: Vec<String> = schemas
        .into_iter()
        .flat_map(|schema| crate::domain::content::result_schema::problems(schema, result))
        .collect();
    if problems.is_empty() {
        return Ok(());
    }
    Err(Refusal::input("result", problems.join("; ")).with("problems", serde_json::json!(problems)).into())
}

/// Whether one more approval is enough.
fn enough(step: &Model, needed: i32) -> bool {
    let so_far = step.approval.as_ref().map_or(0, |approval| approval.approved_by.len());
    so_far as i64 + 1 >= i64::from(needed)
}

fn approved(so_far: &Option<Approval>, viewer: &Viewer) -> Option<Approval> {
    let mut approval = so_far.clone().unwrap_or_default();
    approval.approved_by.push(viewer.actor());
    Some(approval)
}

/// One of several approvals: the step stays where it is, and the log tells how far it has come.
async fn approve_in_part(tx: &Tx, viewer: &Viewer, run: &run::Model, step: Model, needed: i32) -> Result<Model> {
    let (revision, approval) = (step.revision, approved(&step.approval, viewer));
    let count = approval.as_ref().map_or(0, |approval| approval.approved_by.len());
    let mut row = step.into_active_model();
    row.approval = Set(approval);
    row.revision = Set(revision + 1);
    let step = row.update(tx.db()).await?;
    let told = serde_json::json!({ "key": step.key, "name": step.name, "approvals": count, "needed": needed });
    let event = Event::new(run.org_id, "step.approval_given", &viewer.actor()).run(run).step(&step);
    event::append(tx, event.payload(told));
    Ok(step)
}

/// The run of a step, locked.
pub(in crate::domain::run) async fn lock_run(tx: &Tx, viewer: &Viewer, id: StepId) -> Result<run::Model> {
    let mut of = sea_orm::sea_query::Query::select();
    of.column(entity::step::Column::RunId).from(entity::step::Entity).and_where(entity::step::COLUMN.id.eq(id));
    let run = run::Entity::find()
        .filter(run::COLUMN.org_id.eq(viewer.org_id))
        .filter(run::COLUMN.id.in_subquery(of))
        .lock_exclusive()
        .one(tx.db())
        .await?;
    run.ok_or_else(|| Refusal::not_found("step", id).into())
}

/// Puts a row as it is now in the place of what it was.
fn renew<M, I: PartialEq>(all: &mut [M], now: Option<M>, id: impl Fn(&M) -> I) {
    if let Some(now) = now
        && let Some(was) = all.iter_mut().find(|row| id(row) == id(&now))
    {
        *was = now;
    }
}

/// Takes an edge of the law on a single step, with its event and counters.
pub(crate) async fn take(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    step: Model,
    act: StepTransition,
    said: &ActionInput,
) -> Result<Model> {
    Ok(apply_transition(tx, viewer, run, step, act, said).await?.0)
}

/// The same; also the task that was counted.
async fn apply_transition(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    step: Model,
    act: StepTransition,
    said: &ActionInput,
) -> Result<(Model, Vec<task::Model>)> {
    let (from, revision) = (step.status, step.revision);
    let to = from.next(act).ok_or_else(|| Refusal::transition("step", from, act))?;
    let (attempts, failures) = (step.attempt_count, step.failure_count);
    let (approval, reason) = (step.approval.clone(), step.reason);
    let (former, guided) = (step.result.clone(), run.run_type == RunType::Guided);
    let mut row: ActiveModel = step.into_active_model();
    row.status = Set(to);
    row.lease_owner = Set(None);
    row.lease_token = Set(None);
    row.lease_expires_at = Set(None);
    let mut close = || {
        row.completed_at = Set(Some(tx.now()));
        row.completed_by = Set(Some(viewer.actor()));
    };
    let kind = match act {
        StepTransition::Start => {
            row.attempt_count = Set(attempts + 1);
            if reason != Some(StepReason::Rejected) {
                row.error = Set(None);
                row.reason = Set(None);
            }
            row.started_at = Set(Some(tx.now()));
            row.started_by = Set(viewer.actor().is_person().then(|| viewer.actor()));
            "step.started"
        }
        StepTransition::Complete => {
            close();
            row.error = Set(None);
            row.reason = Set(None);
            row.result = Set(together(former.clone().filter(|_| guided), said.result.clone()));
            "step.completed"
        }
        StepTransition::Approve => {
            close();
            row.error = Set(None);
            row.reason = Set(None);
            row.approval = Set(approved(&approval, viewer));
            "step.approved"
        }
        StepTransition::Skip => {
            close();
            row.error = Set(said.reason.clone());
            row.reason = Set(said.code.or(Some(StepReason::Person)));
            "step.skipped"
        }
        StepTransition::Fail { again } | StepTransition::Reject { again } | StepTransition::Lapse { again } => {
            // What a person says of a message is no failure of the work: it is not counted against its attempts.
            row.failure_count = Set(failures + i32::from(said.code != Some(StepReason::MessageResolved)));
            row.error = Set(said.reason.clone());
            let code = match act {
                StepTransition::Reject { .. } => StepReason::Rejected,
                StepTransition::Lapse { .. } => StepReason::LeaseLost,
                _ => StepReason::Person,
            };
            row.reason = Set(said.code.or(Some(code)));
            if matches!(act, StepTransition::Reject { .. }) {
                row.approval = Set(None);
            }
            if !again {
                close();
            }
            match act {
                StepTransition::Reject { .. } => "step.rejected",
                _ if again => "step.retried",
                _ => "step.failed",
            }
        }
        StepTransition::Reset | StepTransition::Restart => {
            row.completed_at = Set(None);
            row.completed_by = Set(None);
            row.error = Set(None);
            row.reason = Set(None);
            row.approval = Set(None);
            row.result = Set(None);
            "step.reset"
        }
        StepTransition::Submit => {
            if said.result.is_some() {
                row.result = Set(said.result.clone());
            }
            row.error = Set(None);
            row.reason = Set(None);
            let submitted = Approval { submitted_by: Some(viewer.actor()), approved_by: Vec::new() };
            row.approval = Set(viewer.actor().is_person().then_some(submitted));
            "step.awaiting_approval"
        }
        StepTransition::Fire => "step.queued",
        StepTransition::Retry => "step.retried",
    };
    row.revision = Set(revision + 1);
    let step = row.update(tx.db()).await?;
    // What it had brought stands in its history.
    let mut change = Change { step: step.clone(), from: Some(from), kind, reason: said.reason.clone() };
    if kind == "step.reset" {
        change.step.result = former;
    }
    let counted = Box::pin(note(tx, run, &viewer.actor(), &[change])).await?;
    Ok((step, counted))
}

/// What was counted while a step was at work, and what who completes it says; what was counted is not overwritten.
fn together(counted: Option<Value>, said: Option<Value>) -> Option<Value> {
    match (counted, said) {
        (Some(Value::Object(counted)), Some(Value::Object(mut said))) => {
            said.extend(counted);
            Some(Value::Object(said))
        }
        (counted, said) => said.or(counted),
    }
}

/// A person's act in a phase that waits for one opens its gate; a skip is no such act.
async fn gate(tx: &Tx, viewer: &Viewer, phase: &phase::Model, action: Action) -> Result<Option<phase::Model>> {
    let acted = matches!(action, Action::Complete | Action::Approve) && viewer.actor().is_person();
    if acted && !phase.autonomous && phase.person_act.is_none() {
        let mut row = phase.clone().into_active_model();
        row.person_act = Set(Some(viewer.actor()));
        return Ok(Some(row.update(tx.db()).await?));
    }
    Ok(None)
}

/// What follows from a person's act beyond the step itself. Says whether it may have touched the run's tasks.
async fn consequences(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    step: &Model,
    action: Action,
    reason: Option<&str>,
) -> Result<bool> {
    match (step.kind.as_str(), action) {
        (run_template::REVIEW, Action::Approve) => {
            runs::task::hold_open(tx, step.task_id).await?;
            sweep::begin(tx, viewer, run, Some(step.task_id), SweepKind::Approve, None).await?;
            Ok(true)
        }
        (run_template::REVIEW, Action::Reject) => {
            let tasks = runs::task::of_runs(tx.db(), viewer, &[run.id]).await?;
            let snapshot = runs::snapshot::of(tx.db(), run).await?;
            let drafting = snapshot
                .definition
                .phases
                .iter()
                .flat_map(|phase| &phase.tasks)
                .find(|task| task.steps.iter().any(|step| step.kind == run_template::DRAFT));
            let task = drafting.and_then(|drafting| tasks.iter().find(|task| task.key == drafting.key));
            match task {
                Some(task) if step.status == StepStatus::Queued => {
                    runs::task::hold_open(tx, task.id).await?;
                    sweep::begin(tx, viewer, run, Some(task.id), SweepKind::Redraft, reason.map(str::to_owned)).await?;
                    Ok(true)
                }
                _ => Ok(false),
            }
        }
        (run_template::CALL, Action::Complete | Action::Fail | Action::Reset | Action::Restart) => {
            super::call::follows(tx, viewer, run, step, action, reason).await?;
            Ok(false)
        }
        // What was called stays called.
        (run_template::CALL, Action::Skip) if super::call::is_made(tx, step).await? => {
            place(tx, step, Some(run_record::Outcome::Sent), None).await?;
            Ok(true)
        }
        (run_template::DRAFT | run_template::SEND | run_template::CALL, Action::Skip) => {
            crate::domain::message::communication::drop_of_places(
                tx,
                viewer,
                run,
                &step.run_record_id.into_iter().collect::<Vec<_>>(),
                "its step was skipped",
            )
            .await?;
            place(tx, step, Some(run_record::Outcome::Skipped), Some(&person(reason))).await?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// A person's reason on a place: what they say is no code.
pub(super) fn person(said: Option<&str>) -> String {
    run_record::RecipientReason::Person.with(said)
}

/// What came of the step's place in the audience.
pub(super) async fn place(
    tx: &Tx,
    step: &Model,
    outcome: Option<run_record::Outcome>,
    reason: Option<&str>,
) -> Result<()> {
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

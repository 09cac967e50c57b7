//! Applies people's actions to steps, with their effects on messages, phases and the run.

use entity::id::*;
use entity::step::{Model, StepStatus};
use entity::sweep::SweepKind;
use entity::{CommunicationStatus, phase, run, run_record};
use sea_orm::{ActiveModelTrait, IntoActiveModel, Set};

use super::judge;
use super::outcome::{person_reason, set_outcome};
use super::permissions::{Action, StepContext, check_allowed, check_not_taken, transition_of};
use super::transition::{ActionInput, apply_transition, lock_run, with_approval};
use super::{Change, must_find};
use crate::domain::audience::record::erasure::hold_off;
use crate::domain::plan::run_template;
use crate::domain::run::{self as runs, advance, guided, retry, step_messages, sweep_queue};
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
use crate::transact;

/// Applies a person's action. Errors: NOT_FOUND, CONFLICT, INVALID_TRANSITION, BAD_USER_INPUT.
pub async fn apply_action(
    db: &WriteContext,
    viewer: &Viewer,
    id: StepId,
    expected: Option<i32>,
    action: Action,
    input: &ActionInput,
) -> Result<Model> {
    let reason = input.reason.as_deref().map(|reason| validate::text("reason", reason)).transpose()?;
    if matches!(action, Action::Reject | Action::Fail) && reason.as_deref().is_none_or(validate::is_blank) {
        return Err(Refusal::input("reason", "is required: give the reason").into());
    }
    loop {
        let judged = judge::judge(db, viewer, id, action, input).await?;
        let with_reason = ActionInput { reason: reason.clone(), ..input.clone() };
        let done = apply_judged(db, viewer, id, expected, action, &with_reason, judged.as_ref()).await?;
        // Another schema applies by now: the result is judged by that one.
        if let Some(step) = done {
            return Ok(step);
        }
    }
}

/// Applies an action whose result was judged; returns `None` if it was judged by another schema
/// than the step's.
async fn apply_judged(
    db: &WriteContext,
    viewer: &Viewer,
    id: StepId,
    expected: Option<i32>,
    action: Action,
    input: &ActionInput,
    judged: Option<&judge::Judged>,
) -> Result<Option<Model>> {
    let reason = input.reason.as_deref();
    transact!(db, |tx| {
        let run = lock_run(tx, viewer, id).await?;
        // Read after the run was locked: nobody else can change the step now.
        let step = must_find(tx.db(), viewer, id).await?;
        // Of two people who act at once, the later one learns of the other, not of a newer revision.
        check_not_taken(&run, &step, action)?;
        if matches!(action, Action::Reset | Action::Restart | Action::Retry) {
            hold_off(tx, viewer, step.record_id).await?;
        }
        validate::expect("step", step.revision, expected)?;
        let context = StepContext::read(tx.db(), viewer, &step, run, tx.now()).await?;
        check_allowed(viewer, &step, &context, action)?;
        if action == Action::Start && step.kind == run_template::CALL {
            super::call::begin(tx, viewer, &context.run, &step).await?;
        }
        if let Some(judged) = judged {
            if !judged.is_by(context.declared.as_ref()) {
                tx.discard();
                return Ok(None);
            }
            judged.verdict.clone()?;
        } else if context.declared.as_ref().is_some_and(|declared| declared.result_schema.is_some())
            && matches!(action, Action::Complete | Action::Submit)
        {
            return Err(Refusal::input("result", "is required: the step declares a result schema").into());
        }
        tx.set_result(id);
        let needed =
            context.declared.as_ref().and_then(run_template::approval_of).map_or(1, |approval| approval.needed);
        if action == Action::Approve && !is_enough(&step, needed) {
            return approve_in_part(tx, viewer, &context.run, step, needed, reason).await.map(Some);
        }
        if action == Action::Retry {
            retry::requeue(tx, viewer, &context.run, &[id], reason).await?;
            runs::interrupt::stop_again(tx, &context.run, step.task_id, std::slice::from_ref(&step)).await?;
            advance::advance(tx, viewer, context.run).await?;
            return must_find(tx.db(), viewer, id).await.map(Some);
        }
        let transition = transition_of(&step, action);
        let (before, (step, counted)) =
            (step.status, apply_transition(tx, viewer, &context.run, step, transition, input).await?);
        let snapshot = runs::snapshot::of(tx.db(), &context.run).await?;
        let changed = Change { step: step.clone(), from: Some(before), kind: "", reason: None };
        runs::dependents::advance(tx, &context.run, &snapshot, &[changed]).await?;
        let mut moves_others = false;
        if matches!(action, Action::Restart | Action::Reset) {
            retry::wait_again(tx, &context.run, &snapshot, &step).await?;
            let queued = runs::dependents::trigger_again(tx, &context.run, &snapshot, &context.phase, &step).await?;
            moves_others = queued || snapshot.graph.followers(&step.key).next().is_some();
        }
        guided::step_records::follows(tx, viewer, &context.run, &step, action).await?;
        runs::unhandled_replies::follow_up(tx, viewer, &context.run, std::iter::once(&step)).await?;
        let updated_phase = record_act(tx, viewer, &context.phase, action).await?;
        let affects_tasks = apply_effects(tx, viewer, &context.run, &step, action, reason).await?;
        // The steps that follow it may have changed, and their tasks' counters with them.
        if affects_tasks || moves_others || !snapshot.graph.dependents.is_empty() {
            advance::advance(tx, viewer, context.run).await?;
        } else {
            let StepContext { run, mut phases, mut tasks, .. } = context;
            replace_loaded(&mut phases, updated_phase, |phase| phase.id);
            counted.into_iter().for_each(|task| replace_loaded(&mut tasks, Some(task), |task| task.id));
            advance::advance_from(tx, viewer, run, phases, tasks).await?;
        }
        // A restarted step may have been queued since.
        if matches!(action, Action::Restart | Action::Reset) {
            return must_find(tx.db(), viewer, id).await.map(Some);
        }
        Ok(Some(step))
    })
}

/// True if one more approval is enough.
fn is_enough(step: &Model, needed: i32) -> bool {
    let so_far = step.approval.as_ref().map_or(0, |approval| approval.approved_by.len());
    so_far as i64 + 1 >= i64::from(needed)
}

/// Records one of several approvals: the step keeps its status, and an event reports the progress.
async fn approve_in_part(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    step: Model,
    needed: i32,
    reason: Option<&str>,
) -> Result<Model> {
    let (revision, approval) = (step.revision, with_approval(&step.approval, viewer));
    let count = approval.as_ref().map_or(0, |approval| approval.approved_by.len());
    let mut row = step.into_active_model();
    row.approval = Set(approval);
    row.revision = Set(revision + 1);
    let step = row.update(tx.db()).await?;
    let payload = serde_json::json!({ "key": step.key, "name": step.name, "approvals": count, "needed": needed, "reason": reason });
    let event = Event::new(run.org_id, "step.approval_given", &viewer.actor()).run(run).step(&step);
    event::append(tx, event.payload(payload));
    Ok(step)
}

/// Replaces a loaded row with its current version.
fn replace_loaded<M, I: PartialEq>(all: &mut [M], now: Option<M>, id: impl Fn(&M) -> I) {
    if let Some(now) = now
        && let Some(was) = all.iter_mut().find(|row| id(row) == id(&now))
    {
        *was = now;
    }
}

/// Records a person's action in a phase that waits for one; a skip does not count.
async fn record_act(tx: &Tx, viewer: &Viewer, phase: &phase::Model, action: Action) -> Result<Option<phase::Model>> {
    let acted = matches!(action, Action::Complete | Action::Approve) && viewer.actor().is_person();
    if acted && !phase.autonomous && phase.advanced_by.is_none() {
        let mut row = phase.clone().into_active_model();
        row.advanced_by = Set(Some(viewer.actor()));
        return Ok(Some(row.update(tx.db()).await?));
    }
    Ok(None)
}

/// Applies an action's effects beyond the step. Returns true if they may affect the run's tasks.
async fn apply_effects(
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
            sweep_queue::begin(tx, viewer, run, Some(step.task_id), SweepKind::Approve, None).await?;
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
                    sweep_queue::begin(tx, viewer, run, Some(task.id), SweepKind::Redraft, reason.map(str::to_owned))
                        .await?;
                    Ok(true)
                }
                _ => Ok(false),
            }
        }
        (run_template::CALL, Action::Complete | Action::Fail | Action::Reset | Action::Restart) => {
            super::call::follows(tx, viewer, run, step, action, reason).await?;
            Ok(false)
        }
        // A call that was made stays recorded as made.
        (run_template::CALL, Action::Skip) if super::call::is_made(tx, step).await? => {
            set_outcome(tx, step, Some(run_record::Outcome::Sent), None).await?;
            Ok(true)
        }
        (run_template::DRAFT | run_template::SEND | run_template::CALL, Action::Skip) => {
            let (recipients, why) = (Vec::from_iter(step.run_record_id), person_reason(reason));
            let unsure = runs::skip::give_up_hand_overs(tx, viewer, run, std::slice::from_ref(step)).await?;
            crate::domain::message::communication::cancel_unsent(tx, viewer, run, &recipients, &why).await?;
            let outcome = if unsure.is_empty() { run_record::Outcome::Skipped } else { run_record::Outcome::Unknown };
            set_outcome(tx, step, Some(outcome), Some(&why)).await?;
            Ok(true)
        }
        // Its recipient may get other messages of the run.
        (run_template::EMAIL, Action::Skip) if step_messages::is_mail_of_engine(run, step) => {
            runs::skip::give_up_hand_overs(tx, viewer, run, std::slice::from_ref(step)).await?;
            let waiting = [CommunicationStatus::Approved];
            step_messages::cancel(tx, run, vec![step.clone()], &waiting).await?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

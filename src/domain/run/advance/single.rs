//! Single steps of a task that has begun: each is enqueued, skipped, or left waiting, as planned and
//! depending on its condition.

use entity::definition::Trigger;
use entity::id::TaskId;
use entity::step::{self, StepReason, StepStatus, StepTransition};
use entity::{CommunicationStatus, communication, run, task};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder};

use super::plan::steps::{self, Decision};
use crate::domain::plan::run_template;
use crate::domain::run::dependents::{self, DependencyEnd};
use crate::domain::run::snapshot::{self, RunSnapshot};
use crate::domain::run::step::{ActionInput, apply};
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::storable;
use crate::kernel::viewer::Viewer;

/// Advances the single steps of a task. Returns true if any changed.
pub(super) async fn advance(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    snapshot: &RunSnapshot,
    tasks: &[task::Model],
    i: usize,
) -> Result<bool> {
    let task = &tasks[i];
    let all = of_task(tx, task.id).await?;
    let mut any = false;
    for (index, step) in all.iter().enumerate() {
        let review = step.kind == run_template::REVIEW;
        if review && step.trigger == Trigger::Immediate.to_string() {
            if matches!(step.status, StepStatus::Pending | StepStatus::Queued) {
                self::review(tx, viewer, run, step.clone()).await?;
                any = true;
            }
            continue;
        }
        if step.status != StepStatus::Pending {
            continue;
        }
        let awaited = match steps::trigger_of(step) {
            Trigger::After(key) if task.left_out_reason.is_none() => {
                dependency_end(tx, snapshot, tasks, &all, &key).await?
            }
            _ => None,
        };
        let previous = index.checked_sub(1).map(|previous| &all[previous]);
        let decision = steps::decide(tx.now(), task, step, previous, awaited);
        let step = vec![step.clone()];
        let skipped = match decision {
            Decision::Waits => continue,
            Decision::Skip(why) => dependents::skip(tx, run, step, |_| why.clone()).await?,
            Decision::Fires(available) => {
                any = true;
                dependents::enqueue(tx, run, snapshot, step, available).await?
            }
            Decision::Offered => match dependents::evaluate_conditions(tx, run, snapshot, step).await?.pop() {
                Some((step, Some(why))) => dependents::skip(tx, run, vec![step], |_| why.clone()).await?,
                _ => continue,
            },
        };
        // Dependents of a step that has just been skipped are handled in the next pass.
        if !skipped.is_empty() {
            return Ok(true);
        }
    }
    Ok(any)
}

async fn of_task(tx: &Tx, id: TaskId) -> Result<Vec<step::Model>> {
    let all = step::Entity::find().filter(step::COLUMN.task_id.eq(id));
    Ok(all.order_by_asc(step::COLUMN.sequence).all(tx.db()).await?)
}

/// Outcome of a step, or of all steps of a fan-out; none while open.
async fn dependency_end(
    tx: &Tx,
    snapshot: &RunSnapshot,
    tasks: &[task::Model],
    own: &[step::Model],
    key: &str,
) -> Result<Option<DependencyEnd>> {
    if let Some(step) = own.iter().find(|step| step.key == key) {
        return Ok(steps::end_of(step));
    }
    let Some((declared, _)) = snapshot.step(key) else { return Ok(None) };
    let Some(task) = tasks.iter().find(|task| task.key == declared.key) else { return Ok(None) };
    if declared.fan_out {
        return Ok(steps::end_of_fan_out(task));
    }
    let step = of_task(tx, task.id).await?.into_iter().find(|step| step.key == key);
    Ok(step.as_ref().and_then(steps::end_of))
}

/// Sets the due time of the steps that people may start now.
pub(super) async fn due(tx: &Tx, snapshot: &RunSnapshot, task: &task::Model) -> Result<()> {
    let Some(declared) = snapshot.task(&task.key) else { return Ok(()) };
    for step in &declared.steps {
        let offered = matches!(step.trigger, Trigger::Immediate | Trigger::Manual);
        let Some(span) = step.due_in.filter(|_| offered) else { continue };
        step::Entity::update_many()
            .col_expr(step::Column::DueAt, Expr::value(storable::after(tx.now(), span.chrono())))
            .filter(step::COLUMN.task_id.eq(task.id))
            .filter(step::COLUMN.key.eq(&step.key))
            .filter(step::COLUMN.status.eq(StepStatus::Pending))
            .exec(tx.db())
            .await?;
    }
    Ok(())
}

/// Pending single steps of a phase; none if no single step of the phase waits for an event.
pub(super) async fn pending_beside_events(
    tx: &Tx,
    snapshot: &RunSnapshot,
    phase: &str,
    tasks: &[task::Model],
) -> Result<Vec<step::Model>> {
    let Some(declared) = snapshot.definition.phases.iter().find(|declared| declared.key == phase) else {
        return Ok(Vec::new());
    };
    let singles = || declared.tasks.iter().filter(|task| !task.fan_out);
    let on_event = |step: &&entity::definition::StepDef| matches!(step.trigger, Trigger::Event(_));
    if !singles().any(|task| task.steps.iter().any(|step| on_event(&step))) {
        return Ok(Vec::new());
    }
    let ids = tasks.iter().filter(|task| singles().any(|single| single.key == task.key)).map(|task| task.id);
    Ok(step::Entity::find()
        .filter(any_of(tx.dialect(), step::COLUMN.task_id, ids))
        .filter(step::COLUMN.status.eq(StepStatus::Pending))
        .order_by_asc(step::COLUMN.sequence)
        .all(tx.db())
        .await?)
}

/// Starts and submits a review once Draft is closed; skips it if there is nothing to review.
async fn review(tx: &Tx, viewer: &Viewer, run: &run::Model, step: step::Model) -> Result<()> {
    let engine = Viewer::engine(viewer.org_id);
    let snapshot = snapshot::of(tx.db(), run).await?;
    // Messages carried over from the repeated run were approved there.
    let repeats = snapshot.instructions.as_ref().is_some_and(|instructions| instructions.only_failed);
    let mut to_review = vec![CommunicationStatus::Draft];
    if !repeats {
        to_review.push(CommunicationStatus::Approved);
    }
    let drafts = communication::Entity::find()
        .filter(communication::COLUMN.run_id.eq(run.id))
        .filter(any_of(tx.dialect(), communication::COLUMN.status, to_review))
        .filter(communication::COLUMN.action_number.eq(0))
        .count(tx.db())
        .await?;
    let is_unrequested = snapshot.test.as_ref().is_some_and(|test| !test.review);
    let skip = if is_unrequested {
        Some((StepReason::ReviewNotAsked, "a test run skips the review unless it is asked for"))
    } else if drafts == 0 {
        Some((StepReason::NothingToReview, "there is nothing to review"))
    } else {
        None
    };
    if let Some((code, reason)) = skip {
        let input = ActionInput { reason: Some(reason.to_owned()), code: Some(code), result: None };
        apply(tx, &engine, run, step, StepTransition::Skip, &input).await?;
        return Ok(());
    }
    let step = apply(tx, &engine, run, step, StepTransition::Start, &ActionInput::default()).await?;
    apply(tx, &engine, run, step, StepTransition::Submit, &ActionInput::default()).await?;
    Ok(())
}

//! Single steps of a task whose turn has come: each is fired, left out, or waits, by its trigger and its condition.

use std::collections::HashSet;

use entity::definition::Trigger;
use entity::id::TaskId;
use entity::step::{self, Executor, StepReason, StepStatus, StepTransition};
use entity::{CommunicationStatus, communication, run, task};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder};

use crate::domain::plan::run_template;
use crate::domain::run::dependents::{self, DependencyEnd};
use crate::domain::run::snapshot::{self, RunSnapshot};
use crate::domain::run::step::{ActionInput, ReasonText, take};
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::storable;
use crate::kernel::viewer::Viewer;

/// What becomes of a step now.
enum Turn {
    /// It waits: for a person, an event, another step.
    Waits,
    /// It can be taken, not before a time.
    Fires(chrono::DateTime<chrono::Utc>),
    /// It stays for a person to start it, if its condition holds.
    Offered,
    /// It is left out.
    Skip(ReasonText),
}

/// Moves the single steps of a task as far as they go by themselves. Says whether any moved.
pub(super) async fn advance(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    snapshot: &RunSnapshot,
    tasks: &[task::Model],
    i: usize,
) -> Result<bool> {
    let task = &tasks[i];
    let steps = of_task(tx, task.id).await?;
    let mut any = false;
    for at in 0..steps.len() {
        let step = &steps[at];
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
        let turn = match &task.left_out {
            Some(why) => Turn::Skip(ReasonText::new(StepReason::LeftOutByDecision, why.clone())),
            None => turn(tx, snapshot, tasks, &steps, at).await?,
        };
        let step = vec![step.clone()];
        let left_out = match turn {
            Turn::Waits => continue,
            Turn::Skip(why) => dependents::skip(tx, run, step, |_| why.clone()).await?,
            Turn::Fires(available) => {
                any = true;
                dependents::enqueue(tx, run, snapshot, step, available).await?
            }
            Turn::Offered => match dependents::judged(tx, run, snapshot, step).await?.pop() {
                Some((step, Some(why))) => dependents::skip(tx, run, vec![step], |_| why.clone()).await?,
                _ => continue,
            },
        };
        // Whoever waits for a step that has just been left out sees it so the next time.
        if !left_out.is_empty() {
            return Ok(true);
        }
    }
    Ok(any)
}

async fn of_task(tx: &Tx, id: TaskId) -> Result<Vec<step::Model>> {
    let all = step::Entity::find().filter(step::COLUMN.task_id.eq(id));
    Ok(all.order_by_asc(step::COLUMN.sequence).all(tx.db()).await?)
}

async fn turn(
    tx: &Tx,
    snapshot: &RunSnapshot,
    tasks: &[task::Model],
    steps: &[step::Model],
    at: usize,
) -> Result<Turn> {
    let step = &steps[at];
    let trigger: Trigger = step.trigger.parse().unwrap_or(Trigger::Manual);
    Ok(match trigger {
        Trigger::Immediate if step.assigned_to != Executor::Human => Turn::Fires(tx.now()),
        Trigger::Immediate | Trigger::Manual => Turn::Offered,
        Trigger::Event(_) => Turn::Waits,
        Trigger::Delay(span) => match at.checked_sub(1).map(|before| &steps[before]) {
            None => Turn::Fires(storable::after(tx.now(), span.chrono())),
            Some(before) if DependencyEnd::of(before.status, before.result.is_some()).is_some() => {
                Turn::Fires(storable::after(before.completed_at.unwrap_or_else(|| tx.now()), span.chrono()))
            }
            Some(_) => Turn::Waits,
        },
        Trigger::After(key) => match end(tx, snapshot, tasks, steps, &key).await? {
            None => Turn::Waits,
            Some(DependencyEnd::Completed) => Turn::Fires(tx.now()),
            Some(end) => Turn::Skip(dependents::because(&key, end)),
        },
    })
}

/// How a step has ended, or all of a fan-out; none while it is open.
async fn end(
    tx: &Tx,
    snapshot: &RunSnapshot,
    tasks: &[task::Model],
    steps: &[step::Model],
    key: &str,
) -> Result<Option<DependencyEnd>> {
    if let Some(step) = steps.iter().find(|step| step.key == key) {
        return Ok(DependencyEnd::of(step.status, step.result.is_some()));
    }
    let Some((declared, _)) = snapshot.step(key) else { return Ok(None) };
    let Some(task) = tasks.iter().find(|task| task.key == declared.key) else { return Ok(None) };
    if declared.fan_out {
        let counts = task.counts();
        return Ok(match (task.fan_out_done && counts.open() == 0, counts.completed, counts.failed) {
            (false, _, _) => None,
            (true, 0, 0) => Some(DependencyEnd::Skipped),
            (true, 0, _) => Some(DependencyEnd::Failed),
            (true, _, _) => Some(DependencyEnd::Completed),
        });
    }
    let step = of_task(tx, task.id).await?.into_iter().find(|step| step.key == key);
    Ok(step.and_then(|step| DependencyEnd::of(step.status, step.result.is_some())))
}

/// By when the steps that people may begin now should be done.
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

/// The single steps of a phase that wait for an event, and those that wait for them.
pub(super) async fn waiting(
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
    let pending = step::Entity::find()
        .filter(any_of(tx.dialect(), step::COLUMN.task_id, ids))
        .filter(step::COLUMN.status.eq(StepStatus::Pending))
        .order_by_asc(step::COLUMN.sequence)
        .all(tx.db())
        .await?;
    let mut keys: HashSet<String> = HashSet::new();
    loop {
        let before = keys.len();
        for step in &pending {
            let waits = match step.trigger.parse() {
                Ok(Trigger::Event(_)) => true,
                Ok(Trigger::After(key)) => keys.contains(&key),
                _ => false,
            };
            if waits {
                keys.insert(step.key.clone());
            }
        }
        if keys.len() == before {
            break;
        }
    }
    Ok(pending.into_iter().filter(|step| keys.contains(&step.key)).collect())
}

/// The engine starts and submits a review once Draft is closed; where there is nothing to review, it is skipped.
async fn review(tx: &Tx, viewer: &Viewer, run: &run::Model, step: step::Model) -> Result<()> {
    let engine = Viewer::engine(viewer.org_id);
    let snapshot = snapshot::of(tx.db(), run).await?;
    // What a run takes over from the one that it repeats was let out there.
    let repeats = snapshot.instructions.as_ref().is_some_and(|told| told.only_failed);
    let mut to_see = vec![CommunicationStatus::Draft];
    if !repeats {
        to_see.push(CommunicationStatus::Approved);
    }
    let drafts = communication::Entity::find()
        .filter(communication::COLUMN.run_id.eq(run.id))
        .filter(any_of(tx.dialect(), communication::COLUMN.status, to_see))
        .count(tx.db())
        .await?;
    let unasked = snapshot.test.as_ref().is_some_and(|test| !test.review);
    let skip = if unasked {
        Some((StepReason::ReviewNotAsked, "a test run skips the review unless it is asked for"))
    } else if drafts == 0 {
        Some((StepReason::NothingToReview, "there is nothing to review"))
    } else {
        None
    };
    if let Some((code, reason)) = skip {
        let said = ActionInput { reason: Some(reason.to_owned()), code: Some(code), result: None };
        take(tx, &engine, run, step, StepTransition::Skip, &said).await?;
        return Ok(());
    }
    let step = take(tx, &engine, run, step, StepTransition::Start, &ActionInput::default()).await?;
    take(tx, &engine, run, step, StepTransition::Submit, &ActionInput::default()).await?;
    Ok(())
}

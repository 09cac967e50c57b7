//! Enqueues or skips fan-out steps whose dependency on another step of the same record has ended.
//!
//! Works in sets: the number of statements depends on the number of waiting step keys, not on how
//! many recipients a batch closes.

mod again;
pub(in crate::domain::run) mod follow;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use entity::definition::{StepDef, TaskDef, Trigger};
use entity::id::*;
use entity::step::{self, Executor, StepReason, StepStatus, StepTransition};
use entity::{Actor, run};
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveEnum, ColumnTrait, EntityTrait, QueryFilter};

pub(crate) use again::{WAITED, restore, trigger_again};

use super::snapshot::RunSnapshot;
use super::step::{Change, ReasonText, SetTransition};
use super::values::mentions::Mentions;
use super::values::{Reader, Values};
use crate::domain::content::cel::{self, Condition};
use crate::domain::plan::run_template;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::storable;
use crate::kernel::{budget, limits};

/// Outcome of the step that others waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DependencyEnd {
    /// Completed.
    Completed,
    /// Skipped.
    Skipped,
    /// Failed permanently.
    Failed,
}

impl DependencyEnd {
    /// Outcome of a step; none while it is open. A step whose result was carried over from the
    /// repeated run counts as completed.
    pub(crate) fn of(status: StepStatus, has_result: bool) -> Option<Self> {
        match status {
            StepStatus::Completed => Some(Self::Completed),
            StepStatus::Skipped if has_result => Some(Self::Completed),
            StepStatus::Skipped => Some(Self::Skipped),
            StepStatus::Failed => Some(Self::Failed),
            StepStatus::Pending | StepStatus::Queued | StepStatus::InProgress | StepStatus::AwaitingApproval => None,
        }
    }
}

/// Reason of a step that is skipped because the step it waited for did not complete.
pub(crate) fn dependency_reason(key: &str, end: DependencyEnd) -> ReasonText {
    let (code, outcome) = match end {
        DependencyEnd::Failed => (StepReason::WaitedForFailed, "failed"),
        DependencyEnd::Completed | DependencyEnd::Skipped => (StepReason::WaitedForSkipped, "was skipped"),
    };
    ReasonText::new(code, format!("it waited for {key}, which {outcome}"))
}

/// Enqueues or skips the dependents of these steps, and in turn the dependents of steps skipped
/// here.
pub(crate) async fn advance(tx: &Tx, run: &run::Model, snapshot: &RunSnapshot, changes: &[Change]) -> Result<()> {
    if snapshot.graph.dependents.is_empty() || run.status == entity::RunStatus::Cancelled {
        return Ok(());
    }
    let mut ended: Vec<step::Model> = changes.iter().map(|change| change.step.clone()).collect();
    for step in &ended {
        if step.run_record_id.is_none() && step.status == StepStatus::Completed {
            follow::begin(tx, run, snapshot, &step.key).await?;
        }
    }
    while !ended.is_empty() {
        let mut groups: HashMap<(String, DependencyEnd), Vec<RunRecordId>> = HashMap::new();
        for step in &ended {
            if let (Some(end), Some(recipient_id)) =
                (DependencyEnd::of(step.status, step.result.is_some()), step.run_record_id)
                && snapshot.graph.fan_out_keys.contains(&step.key)
                && snapshot.graph.dependents.contains_key(&step.key)
            {
                groups.entry((step.key.clone(), end)).or_default().push(recipient_id);
            }
        }
        let mut skipped = Vec::new();
        for ((key, end), recipients) in groups {
            for dependent in snapshot.graph.dependents.get(&key).into_iter().flatten() {
                let waiting = step::Entity::find()
                    .filter(any_of(tx.dialect(), step::COLUMN.run_record_id, recipients.iter().copied()))
                    .filter(step::COLUMN.run_id.eq(run.id))
                    .filter(step::COLUMN.key.eq(&dependent.key))
                    .filter(step::COLUMN.status.eq(StepStatus::Pending))
                    .all(tx.db())
                    .await?;
                let available = dependent.delay.map_or(tx.now(), |span| storable::after(tx.now(), span.chrono()));
                if dependent.delay.is_some() || end == DependencyEnd::Completed {
                    skipped.extend(enqueue(tx, run, snapshot, waiting, available).await?);
                } else {
                    skipped.extend(skip(tx, run, waiting, |_| dependency_reason(&key, end)).await?);
                }
            }
        }
        ended = skipped;
    }
    Ok(())
}

/// Enqueues pending steps whose condition holds. Skips the others and returns them.
pub(crate) async fn enqueue(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    steps: Vec<step::Model>,
    available: DateTime<Utc>,
) -> Result<Vec<step::Model>> {
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    let (runnable, unmet): (Vec<_>, Vec<_>) =
        evaluate_conditions(tx, run, snapshot, steps).await?.into_iter().partition(|(_, why)| why.is_none());
    let reasons: HashMap<StepId, ReasonText> =
        unmet.iter().filter_map(|(step, why)| Some((step.id, why.clone()?))).collect();
    let unmet = unmet.into_iter().map(|(step, _)| step).collect();
    let fallback = || ReasonText::new(StepReason::ConditionFalse, "its condition does not hold");
    let skipped = skip(tx, run, unmet, |step| reasons.get(&step.id).cloned().unwrap_or_else(fallback)).await?;
    let mut by_times: HashMap<Times, Vec<StepId>> = HashMap::new();
    for (step, _) in runnable {
        let (_, declared) = snapshot
            .step(&step.key)
            .ok_or_else(|| crate::kernel::error::Error::internal("a step that is not declared"))?;
        let times = times(declared, available);
        by_times.entry(times).or_default().push(step.id);
    }
    for ((available_at, due), ids) in by_times {
        let fires = SetTransition::new(StepStatus::Pending, &[StepTransition::Fire]);
        let fired = fires
            .update()?
            .col_expr(step::Column::AvailableAt, Expr::value(available_at))
            .col_expr(step::Column::DueAt, Expr::value(due))
            .filter(any_of(tx.dialect(), step::COLUMN.id, ids))
            .exec_with_returning(tx.db())
            .await?;
        let changes = fires.changes(fired, |_| None)?;
        super::step::record_changes(tx, run, &Actor::engine(), &changes).await?;
    }
    Ok(skipped)
}

/// Availability time and due time of a step.
pub(crate) type Times = (DateTime<Utc>, Option<DateTime<Utc>>);

/// Computes when an enqueued step becomes available, and when it is due. Steps of kind `wait` wait
/// in the queue.
pub(crate) fn times(declared: &StepDef, available: DateTime<Utc>) -> Times {
    let is_wait = declared.kind == run_template::kind::WAIT && declared.assigned_to == Executor::Workflow;
    let span = declared.settings()["duration"].as_str().filter(|_| is_wait).and_then(|text| text.parse().ok());
    let at = span.map_or(available, |span: entity::rule::Span| storable::after(available, span.chrono()));
    (at, declared.due_in.map(|span| storable::after(at, span.chrono())))
}

/// Evaluates the conditions of each step and its task. Returns each step with its skip reason; none
/// if it is to be done. All conditions of a transaction share a time limit: [`budget::Conditions`].
pub(crate) async fn evaluate_conditions(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    steps: Vec<step::Model>,
) -> Result<Vec<(step::Model, Option<ReasonText>)>> {
    evaluate_conditions_within(tx, run, snapshot, steps, None).await
}

/// Same, in chunks of so many steps if given: stops after a whole chunk when [`budget::BATCH_TIME`]
/// is used up; at least one chunk is evaluated.
pub(crate) async fn evaluate_conditions_within(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    steps: Vec<step::Model>,
    chunk: Option<usize>,
) -> Result<Vec<(step::Model, Option<ReasonText>)>> {
    let conditional =
        |key: &str| snapshot.step(key).is_some_and(|(task, step)| task.when.is_some() || step.when.is_some());
    if !snapshot.graph.conditions || !steps.iter().any(|step| conditional(&step.key)) {
        return Ok(steps.into_iter().map(|step| (step, None)).collect());
    }
    let readers: Vec<Reader> = steps.iter().map(|step| Reader::of(step, mentions(snapshot, &step.key))).collect();
    let (mut values, mut covered) = (Values::default(), 0);
    let mut parsed: HashMap<String, std::result::Result<Arc<Condition>, String>> = HashMap::new();
    // Each condition has its own budget of operations, whatever the others used; the time limit of
    // a transaction's conditions bounds how long it is held up.
    let started = Instant::now();
    let mut all = Vec::with_capacity(steps.len());
    for (i, step) in steps.into_iter().enumerate() {
        if chunk.is_some_and(|chunk| i > 0 && i % chunk == 0) && started.elapsed() > budget::BATCH_TIME {
            break;
        }
        let sources = sources(snapshot, &step.key);
        if sources.is_empty() {
            all.push((step, None));
            continue;
        }
        if i >= covered {
            // The results of many steps are read in several turns, so that they fit in memory.
            drop(std::mem::take(&mut values));
            values = Values::read(tx.db(), run, snapshot, &readers[i..], limits::RESULTS_READ_BYTES).await?;
            covered = i + values.covered();
        }
        // The preparation of the values is part of the conditions' time.
        let reason = tx.conditions.judge(|steps| {
            let unreadable = |why: String| {
                let message = format!("its condition can't be evaluated: {}: {why}", sources[0]);
                Some(ReasonText::new(StepReason::ConditionUnreadable, message))
            };
            if steps.are_spent() {
                return unreadable(cel::SPENT.into());
            }
            let own = match values.of(&readers[i]) {
                Ok(own) => own,
                Err(why) => return unreadable(why),
            };
            sources
                .iter()
                .filter_map(|source| {
                    let condition = parsed.entry((*source).clone()).or_insert_with(|| Condition::parse(source));
                    let condition = condition.as_ref().map_err(Clone::clone);
                    match condition.and_then(|condition| condition.holds_within(&own, steps)) {
                        Ok(true) => None,
                        Ok(false) => {
                            let message = format!("its condition does not hold: {source}");
                            Some(ReasonText::new(StepReason::ConditionFalse, message))
                        }
                        Err(reason) => {
                            let message = format!("its condition can't be evaluated: {source}: {reason}");
                            Some(ReasonText::new(StepReason::ConditionUnreadable, message))
                        }
                    }
                })
                .next()
        });
        all.push((step, reason));
    }
    Ok(all)
}

/// The conditions of a step and of its task.
fn sources<'a>(snapshot: &'a RunSnapshot, key: &str) -> Vec<&'a String> {
    snapshot.step(key).map_or_else(Vec::new, |(task, declared)| task.when.iter().chain(&declared.when).collect())
}

/// The results that the conditions of a step refer to.
fn mentions(snapshot: &RunSnapshot, key: &str) -> Mentions {
    let mut all = Mentions::default();
    sources(snapshot, key).into_iter().for_each(|source| all.add_text(source));
    all
}

/// Skips pending steps and returns them.
pub(crate) async fn skip(
    tx: &Tx,
    run: &run::Model,
    steps: Vec<step::Model>,
    why: impl Fn(&step::Model) -> ReasonText,
) -> Result<Vec<step::Model>> {
    let mut by_reason: HashMap<ReasonText, Vec<StepId>> = HashMap::new();
    for step in &steps {
        by_reason.entry(why(step)).or_default().push(step.id);
    }
    let mut all = Vec::new();
    for (reason, ids) in by_reason {
        let skips = SetTransition::new(StepStatus::Pending, &[StepTransition::Skip]);
        let skipped = skips
            .update()?
            .col_expr(step::Column::Error, Expr::value(reason.text.clone()))
            .col_expr(step::Column::Reason, Expr::value(reason.code.to_value()))
            .col_expr(step::Column::CompletedAt, Expr::value(tx.now()))
            .col_expr(step::Column::CompletedBy, Expr::value(serde_json::to_value(Actor::engine())?))
            .filter(any_of(tx.dialect(), step::COLUMN.id, ids))
            .exec_with_returning(tx.db())
            .await?;
        let changes = skips.changes(skipped.clone(), |_| Some(reason.text.clone()))?;
        super::step::record_changes(tx, run, &Actor::engine(), &changes).await?;
        all.extend(skipped);
    }
    if all.iter().any(|step| run_template::MESSAGES.contains(&step.kind.as_str())) {
        let snapshot = super::snapshot::of(tx.db(), run).await?;
        super::step_messages::cancel_skipped(tx, run, &snapshot, &all).await?;
    }
    Ok(all)
}

/// True if a step created with its task has nothing to wait for and is enqueued at once.
pub(crate) fn starts_at_once(task: &TaskDef, sequence: usize, declared: &StepDef) -> bool {
    match &declared.trigger {
        Trigger::Immediate => declared.assigned_to != Executor::Human,
        Trigger::Delay(_) => sequence == 0 || !task.fan_out,
        Trigger::Manual | Trigger::Event(_) | Trigger::After(_) => false,
    }
}

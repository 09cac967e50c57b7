//! Steps that are done again: what follows them waits again, and a trigger that has fired already
//! fires at once.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use entity::definition::{TaskDef, Trigger};
use entity::id::*;
use entity::step::{self, StepReason, StepStatus, StepTransition};
use entity::{Actor, phase, run, task};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::{DependencyEnd, advance, enqueue};
use crate::domain::run::snapshot::RunSnapshot;
use crate::domain::run::step::{Change, SetTransition, record_changes};
use crate::domain::run::{early_events, executor_ids, step_messages};
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::storable;
use crate::kernel::viewer::Viewer;

/// Skip reasons of steps whose dependency did not complete.
pub(crate) const WAITED: [StepReason; 2] = [StepReason::WaitedForSkipped, StepReason::WaitedForFailed];

/// Skip reasons that the end of the step before gave: they are judged again at its next end.
const JUDGED: [StepReason; 4] = [
    StepReason::WaitedForSkipped,
    StepReason::WaitedForFailed,
    StepReason::ConditionFalse,
    StepReason::ConditionUnreadable,
];

/// Returns the steps that follow these to PENDING, now that these are done again: those that were
/// skipped at their end, and those that are queued and not begun, as after a delay. In turn also
/// the steps that follow those.
pub(crate) async fn restore(tx: &Tx, run: &run::Model, snapshot: &RunSnapshot, again: &[step::Model]) -> Result<()> {
    let mut open: Vec<step::Model> = again.to_vec();
    let mut tasks = None;
    while !open.is_empty() {
        let mut followers: BTreeMap<&str, HashSet<RunRecordId>> = BTreeMap::new();
        for step in &open {
            for key in snapshot.graph.followers(&step.key) {
                followers.entry(key).or_default().extend(step.run_record_id);
            }
        }
        let mut waiting = Vec::new();
        for (key, recipients) in followers {
            if tasks.is_none() {
                tasks = Some(crate::domain::run::task::of_runs(tx.db(), &Viewer::engine(run.org_id), &[run.id]).await?);
            }
            let tasks = tasks.as_deref().unwrap_or_default();
            waiting.extend(wait_again(tx, run, snapshot, tasks, key, recipients).await?);
        }
        open = waiting;
    }
    Ok(())
}

/// Returns the steps with a key to PENDING: those of these recipients, or the single one.
async fn wait_again(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    tasks: &[task::Model],
    key: &str,
    recipients: HashSet<RunRecordId>,
) -> Result<Vec<step::Model>> {
    let Some((declared, _)) = snapshot.step(key) else { return Ok(Vec::new()) };
    let affected = if declared.fan_out {
        any_of(tx.dialect(), step::COLUMN.run_record_id, recipients)
    } else {
        let of = tasks.iter().filter(|task| task.key == declared.key).map(|task| task.id);
        any_of(tx.dialect(), step::COLUMN.task_id, of)
    };
    let judged = step::COLUMN.status.eq(StepStatus::Skipped).and(step::COLUMN.reason.is_in(JUDGED));
    let queued = step::COLUMN.status.eq(StepStatus::Queued).and(step::COLUMN.lease_owner.is_null());
    let found = step::Entity::find()
        .filter(affected)
        .filter(step::COLUMN.run_id.eq(run.id))
        .filter(step::COLUMN.key.eq(key))
        .filter(judged.or(queued))
        .all(tx.db())
        .await?;
    return_to_pending(tx, run, snapshot, declared, &found).await
}

/// Returns skipped and queued steps of a task to PENDING, but for those that an event has stopped
/// since. Returns those that changed.
pub(super) async fn return_to_pending(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    declared: &TaskDef,
    found: &[step::Model],
) -> Result<Vec<step::Model>> {
    // An event that interrupts the phase stops these steps, too, though they were skipped when
    // it arrived.
    let records: Vec<RecordId> = found.iter().filter_map(|step| step.record_id).collect();
    let events = early_events::stopping(tx, run, snapshot, declared, &records).await?;
    let is_stopped = |step: &step::Model| events.since(step.record_id, &step.key, step.completed_at).is_some();
    let mut all = Vec::new();
    for (from, transition) in
        [(StepStatus::Skipped, StepTransition::Restart), (StepStatus::Queued, StepTransition::WaitAgain)]
    {
        let ids: Vec<StepId> = found
            .iter()
            .filter(|step| step.status == from && (from == StepStatus::Queued || !is_stopped(step)))
            .map(|step| step.id)
            .collect();
        if ids.is_empty() {
            continue;
        }
        let transitions = [transition];
        let returns = SetTransition::new(from, &transitions);
        let waiting = returns
            .update()?
            .col_expr(step::Column::Error, Expr::value(Option::<String>::None))
            .col_expr(step::Column::Reason, Expr::value(Option::<String>::None))
            .col_expr(step::Column::CompletedAt, Expr::value(Option::<DateTime<Utc>>::None))
            .col_expr(step::Column::CompletedBy, Expr::value(Option::<serde_json::Value>::None))
            // Both count from the next end of the step before.
            .col_expr(step::Column::AvailableAt, Expr::value(tx.now()))
            .col_expr(step::Column::DueAt, Expr::value(Option::<DateTime<Utc>>::None))
            .col_expr(step::Column::OverdueAt, Expr::value(Option::<DateTime<Utc>>::None))
            .filter(any_of(tx.dialect(), step::COLUMN.id, ids))
            .exec_with_returning(tx.db())
            .await?;
        executor_ids::release_deleted(tx, &waiting).await?;
        if from == StepStatus::Skipped {
            step_messages::reapprove_waiting(tx, run, &waiting).await?;
        }
        record_changes(tx, run, &Actor::engine(), &returns.changes(waiting.clone(), |_| None)?).await?;
        all.extend(waiting);
    }
    Ok(all)
}

/// Enqueues a step that is done again and whose trigger has fired already: its event has come, or
/// the step that it depends on has ended, and nothing else would enqueue it.
pub(crate) async fn trigger_again(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    phase: &phase::Model,
    step: &step::Model,
) -> Result<bool> {
    if step.status != StepStatus::Pending {
        return Ok(false);
    }
    // Fan-out steps on an event exist only if it has come.
    let is_single = snapshot.step(&step.key).is_some_and(|(task, _)| !task.fan_out);
    if let Ok(Trigger::Event(name)) = step.trigger.parse()
        && is_single
    {
        // An earlier reply has become a follow-up.
        let since = phase.started_at.filter(|_| name == early_events::REPLY_RECEIVED).unwrap_or(storable::FIRST);
        let has_come = early_events::has_come_since(tx, run, &name, since).await?;
        if has_come {
            enqueue(tx, run, snapshot, vec![step.clone()], tx.now()).await?;
        }
        return Ok(has_come);
    }
    let Some(recipient_id) = step.run_record_id.filter(|_| !is_single) else { return Ok(false) };
    let change = |step| Change { step, from: None, kind: "", reason: None };
    // A delay without a step before it counts from the step's creation.
    if let Ok(Trigger::Delay(span)) = step.trigger.parse()
        && step.sequence == 0
    {
        let available = Ord::max(storable::after(step.created_at, span.chrono()), tx.now());
        let skipped = enqueue(tx, run, snapshot, vec![step.clone()], available).await?;
        advance(tx, run, snapshot, &skipped.into_iter().map(change).collect::<Vec<_>>()).await?;
        return Ok(true);
    }
    for (key, dependents) in &snapshot.graph.dependents {
        let Some(dependent) = dependents.iter().find(|dependent| dependent.key == step.key) else { continue };
        let mut before = step::Entity::find().filter(step::COLUMN.run_id.eq(run.id)).filter(step::COLUMN.key.eq(key));
        // A single step exists once, in a run about one record with its recipient.
        if snapshot.graph.fan_out_keys.contains(key) {
            before = before.filter(step::COLUMN.run_record_id.eq(recipient_id));
        }
        let before = before.one(tx.db()).await?;
        let Some(before) = before else { continue };
        let end = DependencyEnd::of(before.status, before.result.is_some());
        let available = match (dependent.delay, end) {
            (Some(span), Some(_)) => {
                let due = storable::after(before.completed_at.unwrap_or_else(|| tx.now()), span.chrono());
                if due > tx.now() { due } else { tx.now() }
            }
            (None, Some(DependencyEnd::Completed)) => tx.now(),
            // `permissions` allows no restart of a step that can only be skipped again.
            (None, Some(DependencyEnd::Skipped | DependencyEnd::Failed)) | (_, None) => continue,
        };
        let skipped = enqueue(tx, run, snapshot, vec![step.clone()], available).await?;
        advance(tx, run, snapshot, &skipped.into_iter().map(change).collect::<Vec<_>>()).await?;
        return Ok(true);
    }
    Ok(false)
}

//! Creates the steps of a fan-out task: one set for each open recipient.

use std::collections::{BTreeMap, HashMap};

use entity::Actor;
use entity::definition::{TaskDef, Trigger};
use entity::id::*;
use entity::run_record::{Outcome, RecipientReason};
use entity::step::{self, Executor, StepReason, StepStatus};
use entity::sweep::Model;
use entity::{Channel, run, run_record};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ActiveEnum, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;

use crate::domain::plan::run_template::kind;
use crate::domain::run::dependents::{self, DependencyEnd};
use crate::domain::run::early_events;
use crate::domain::run::executor_ids::ExecutorIds;
use crate::domain::run::new_steps::{self, StepBatch};
use crate::domain::run::snapshot::{self, RunSnapshot};
use crate::domain::run::step::ReasonText;
use crate::domain::run::sweep::{audience, close};
use crate::domain::run::{repeat, step_messages};
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::{Error, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, storable};

/// Creates a chunk of a task's steps: one set per open recipient.
pub(super) async fn chunk(tx: &Tx, run: &run::Model, sweep: &Model) -> Result<Option<uuid::Uuid>> {
    let task_id = sweep.task_id.ok_or_else(|| Error::internal("a fan-out without a task"))?;
    let task =
        entity::task::Entity::find_by_id(task_id).one(tx.db()).await?.ok_or_else(|| Error::internal("no task"))?;
    let snapshot = snapshot::of(tx.db(), run).await?;
    let declared = snapshot.task(&task.key).ok_or_else(|| Error::internal("a task that is not declared"))?;
    let mut select = run_record::Entity::find()
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(run_record::COLUMN.outcome.is_null())
        .filter(Expr::exists(existing_step(task_id)).not())
        .filter(Expr::exists(erased()).not());
    if let Some(key) = sweep.last_key {
        select = select.filter(run_record::COLUMN.id.gt(RunRecordId(key)));
    }
    // The chunk size counts steps, not recipients.
    let limit = Ord::max(limits::CHUNK / Ord::max(declared.steps.len() as u64, 1), 1);
    let recipients = select.order_by_asc(run_record::COLUMN.id).limit(limit).all(tx.db()).await?;
    let last = recipients.last().filter(|_| recipients.len() as u64 == limit).map(|recipient| recipient.id.0);
    let recipients: Vec<(RunRecordId, Option<RecordId>)> =
        recipients.into_iter().map(|recipient| (recipient.id, recipient.record_id)).collect();
    let recipients = without_finished(tx, run, &snapshot, recipients).await?;
    let created = make(tx, run, &snapshot, &task, declared, &recipients, None).await?;
    if created < recipients.len() {
        return Ok(recipients[..created].last().map(|recipient| recipient.0.0));
    }
    Ok(last)
}

/// Skips the recipients that another run of the family has finished with since this one failed, and
/// returns the others. Those with a message get their outcome from it when the run ends.
async fn without_finished(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    recipients: Vec<(RunRecordId, Option<RecordId>)>,
) -> Result<Vec<(RunRecordId, Option<RecordId>)>> {
    let family = audience::repeated_family(tx, &Viewer::engine(run.org_id), run, snapshot).await?;
    let Some(family) = family else { return Ok(recipients) };
    let finished = family.closed_among(tx.db(), recipients.iter().filter_map(|recipient| recipient.1)).await?;
    let (finished, left): (Vec<_>, Vec<_>) =
        recipients.into_iter().partition(|recipient| recipient.1.is_some_and(|id| finished.contains(&id)));
    if !finished.is_empty() {
        let reason = RecipientReason::Other.with(Some("another run of the same audience has finished with it"));
        run_record::Entity::update_many()
            .col_expr(run_record::Column::Outcome, Expr::value(Outcome::Skipped.to_value()))
            .col_expr(run_record::Column::Reason, Expr::value(reason))
            .filter(any_of(tx.dialect(), run_record::COLUMN.id, finished.iter().map(|recipient| recipient.0)))
            .filter(run_record::COLUMN.outcome.is_null())
            .filter(close::nothing_sent())
            .exec(tx.db())
            .await?;
    }
    Ok(left)
}

/// Subquery: the recipient's record was erased.
fn erased() -> sea_orm::sea_query::SelectStatement {
    let mut erased = Query::select();
    let of_recipient = Expr::col((run_record::Entity, run_record::Column::RecordId));
    erased
        .expr(Expr::val(1))
        .from(entity::record::Entity)
        .and_where(Expr::col((entity::record::Entity, entity::record::Column::Id)).eq(of_recipient))
        .and_where(entity::record::COLUMN.erased_at.is_not_null());
    erased
}

/// Subquery: a step of the task exists for the recipient, as in a run whose recipients are retried.
fn existing_step(task: TaskId) -> sea_orm::sea_query::SelectStatement {
    let mut made = Query::select();
    made.expr(Expr::val(1))
        .from(step::Entity)
        .and_where(
            Expr::col((step::Entity, step::Column::RunRecordId)).equals((run_record::Entity, run_record::Column::Id)),
        )
        .and_where(step::COLUMN.task_id.eq(task));
    made
}

/// An event that has arrived about some records.
#[derive(Debug)]
pub(in crate::domain::run) struct Arrival<'a> {
    /// The event's name.
    pub(in crate::domain::run) name: &'a str,
    /// Number of its first occurrence, by record; none for an event that arrives now.
    pub(in crate::domain::run) numbers: HashMap<RecordId, i64>,
}

/// Creates a task's steps for some recipients, or of a task that waits for events those that one
/// event creates, and enqueues or skips them as far as possible.
/// Returns the number of recipients handled, from the front: those whose conditions could be
/// evaluated in time.
pub(in crate::domain::run) async fn make(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    task: &entity::task::Model,
    declared: &TaskDef,
    recipients: &[(RunRecordId, Option<RecordId>)],
    event: Option<&Arrival<'_>>,
) -> Result<usize> {
    let engine = Viewer::engine(run.org_id);
    let executors = ExecutorIds::of_run(tx, &engine, snapshot.executors.as_ref(), &snapshot.definition).await?;
    let batch = StepBatch { run, executors, assignee: None };
    let created: Vec<usize> =
        event.map_or_else(|| (0..declared.steps.len()).collect(), |event| declared.created_by(event.name));
    let steps = recipients.iter().flat_map(|recipient| {
        let each = created.iter().map(|i| (*i, &declared.steps[*i]));
        each.map(|(i, step)| batch.blank(tx, task, step, i, Some(*recipient))).collect::<Vec<_>>()
    });
    let decided = skipped_by_decision(tx, snapshot, declared, recipients).await?;
    let ends = dependency_ends(tx, run, snapshot, declared, recipients).await?;
    let keys: Vec<&str> = declared.steps.iter().map(|step| step.key.as_str()).collect();
    let records: Vec<RecordId> = recipients.iter().filter_map(|recipient| recipient.1).collect();
    let stops = early_events::stopping(tx, run, snapshot, declared, &records).await?;
    let interrupted = |record: Option<RecordId>, key: &str| match event {
        None => stops.first(record, key),
        Some(event) => stops.after(record, key, *record.and_then(|id| event.numbers.get(&id))?),
    };
    // Steps that use the recipient's address of the run's channel.
    let is_message = |kind: &str| match kind {
        kind::DRAFT | kind::SEND => true,
        kind::EMAIL => run.channel == Channel::Email,
        kind::CALL => run.channel == Channel::Phone,
        _ => false,
    };
    let unreachable = match event {
        // An event may arrive long after the audience was stored.
        Some(_) if created.iter().any(|at| is_message(&declared.steps[*at].kind)) => {
            let ids: Vec<RunRecordId> = recipients.iter().map(|recipient| recipient.0).collect();
            audience::judge_again(tx, run, snapshot, &ids).await?
        }
        _ => HashMap::new(),
    };
    let ancestors = repeat::ancestors(tx, run, snapshot).await?;
    let earlier = repeat::done_before(tx, &ancestors, &keys, &records).await?;
    let drafting = earlier.values().filter(|step| step.kind == kind::DRAFT).map(|step| step.id);
    let drafts = repeat::drafts_before(tx, &drafting.collect::<Vec<_>>()).await?;
    let (mut made, mut carried_over) = (Vec::new(), Vec::new());
    let each = created.len();
    let judged = dependents::evaluate_conditions_within(tx, run, snapshot, steps.collect(), Some(each)).await?;
    let count = judged.len().checked_div(each).unwrap_or(recipients.len());
    for (mut step, why) in judged {
        let sequence = usize::try_from(step.sequence).unwrap_or_default();
        let of = &declared.steps[sequence];
        let done = step.record_id.and_then(|id| earlier.get(&(id, step.key.clone())));
        let done = done.filter(|done| done.kind != kind::DRAFT || drafts.contains_key(&done.id));
        if let Some(done) = done.filter(|_| !matches!(of.trigger, Trigger::Event(_))) {
            step.status = StepStatus::Skipped;
            step.result = Some(done.result.clone().unwrap_or_else(|| json!({})));
            step.error = Some(format!("done in {}", done.run_id));
            step.reason = Some(StepReason::CarriedOver);
            step.completed_at = Some(tx.now());
            step.completed_by = Some(Actor::engine());
            if done.kind == kind::DRAFT {
                carried_over.push((step.clone(), done.clone()));
            }
            made.push(step);
            continue;
        }
        let end = match (&of.trigger, step.run_record_id) {
            (Trigger::After(key), Some(recipient)) => ends.get(&(key.clone(), recipient)).map(|end| (key, *end)),
            _ => None,
        };
        // A step that waits for another is evaluated when that one has ended.
        let follows =
            matches!(of.trigger, Trigger::After(_)) || (matches!(of.trigger, Trigger::Delay(_)) && sequence > 0);
        let waits = follows && end.is_none();
        // Steps on an event are created when it has arrived.
        let is_event = matches!(of.trigger, Trigger::Event(_));
        let by = step.run_record_id.and_then(|recipient| decided.get(&recipient));
        let skip_reason = by.map(|by| ReasonText::new(StepReason::LeftOutByDecision, format!("left out by {by}")));
        let skip_reason =
            skip_reason.or_else(|| interrupted(step.record_id, &step.key).map(early_events::interrupted_by));
        let skip_reason = skip_reason.or(why.filter(|_| !waits)).or_else(|| match end {
            Some((key, end)) if end != DependencyEnd::Completed => Some(dependents::dependency_reason(key, end)),
            _ => None,
        });
        let skip_reason = skip_reason.or_else(|| {
            let recipient = step.run_record_id.filter(|_| is_message(&of.kind))?;
            unreachable.get(&recipient).cloned()
        });
        if let Some(why) = skip_reason {
            step.status = StepStatus::Skipped;
            step.error = Some(why.text);
            step.reason = Some(why.code);
            step.completed_at = Some(tx.now());
            step.completed_by = Some(Actor::engine());
        } else if end.is_some()
            || (is_event && of.assigned_to != Executor::Human)
            || dependents::starts_at_once(declared, sequence, of)
        {
            let wait = match &of.trigger {
                Trigger::Delay(span) => span.chrono(),
                _ => chrono::Duration::zero(),
            };
            step.status = StepStatus::Queued;
            (step.available_at, step.due_at) = dependents::times(of, storable::after(tx.now(), wait));
        } else if is_event || matches!(of.trigger, Trigger::Immediate | Trigger::Manual) {
            (_, step.due_at) = dependents::times(of, tx.now());
        }
        made.push(step);
    }
    let changes = new_steps::insert(tx, run, &Actor::engine(), made).await?;
    let waiting = changes.iter().filter(|change| change.step.status == StepStatus::Pending).count();
    if waiting > 0 {
        // Steps that are created PENDING have no event of their own; without one, a live list would not
        // show them.
        let payload = json!({ "key": task.key, "name": task.name, "steps": waiting });
        let created = Event::new(run.org_id, "task.steps_created", &Actor::engine()).run(run);
        event::append(tx, created.phase(task.phase_id).task(task.id).payload(payload));
    }
    let mut by_event: BTreeMap<&str, Vec<RunRecordId>> = BTreeMap::new();
    for (recipient, record) in &recipients[..count] {
        if let Some(name) = created.iter().find_map(|at| interrupted(*record, &declared.steps[*at].key)) {
            by_event.entry(name).or_default().push(*recipient);
        }
    }
    for (name, recipients) in by_event {
        close::interrupted(tx, &recipients, name).await?;
    }
    let skipped: Vec<_> = changes.into_iter().filter(|change| change.step.status == StepStatus::Skipped).collect();
    let steps: Vec<step::Model> = skipped.iter().map(|change| change.step.clone()).collect();
    step_messages::cancel_skipped(tx, run, snapshot, &steps).await?;
    repeat::carry_over_drafts(tx, run, snapshot, &ancestors, &drafts, &carried_over).await?;
    dependents::advance(tx, run, snapshot, &skipped).await?;
    Ok(count)
}

/// Recipients for which a decision skips this task, with the decision's key.
async fn skipped_by_decision(
    tx: &Tx,
    snapshot: &RunSnapshot,
    task: &TaskDef,
    recipients: &[(RunRecordId, Option<RecordId>)],
) -> Result<HashMap<RunRecordId, String>> {
    if snapshot.graph.decisions.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = step::Entity::find()
        .filter(any_of(tx.dialect(), step::COLUMN.run_record_id, recipients.iter().map(|recipient| recipient.0)))
        .filter(step::Column::Kind.eq(kind::DECISION))
        .filter(step::COLUMN.status.eq(StepStatus::Completed))
        .all(tx.db())
        .await?;
    let skips_task = |result: &serde_json::Value| kind::names(&result["skip"]).contains(&task.key);
    let each = rows.into_iter().filter(|row| row.result.as_ref().is_some_and(skips_task));
    Ok(each.filter_map(|row| Some((row.run_record_id?, row.key))).collect())
}

/// Outcomes of the steps, of the same record or of the run, that this task's steps wait for.
async fn dependency_ends(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    task: &TaskDef,
    recipients: &[(RunRecordId, Option<RecordId>)],
) -> Result<HashMap<(String, RunRecordId), DependencyEnd>> {
    let is_own = |key: &str| task.steps.iter().any(|step| step.key == key);
    let keys: Vec<&String> = task
        .steps
        .iter()
        .filter_map(|step| match &step.trigger {
            Trigger::After(key) if !is_own(key) => Some(key),
            _ => None,
        })
        .collect();
    let mut ends = HashMap::new();
    if keys.is_empty() {
        return Ok(ends);
    }
    let rows = step::Entity::find()
        .filter(any_of(tx.dialect(), step::COLUMN.run_record_id, recipients.iter().map(|recipient| recipient.0)))
        .filter(any_of(tx.dialect(), step::Column::Key, keys.iter().map(|key| key.as_str())))
        .all(tx.db())
        .await?;
    for row in rows {
        if let (Some(recipient), Some(end)) = (row.run_record_id, DependencyEnd::of(row.status, row.result.is_some())) {
            ends.insert((row.key, recipient), end);
        }
    }
    // A single step of an earlier phase or task has ended when this task begins.
    for key in keys.into_iter().filter(|key| !snapshot.graph.fan_out_keys.contains(*key)) {
        if let Some(end) = single_step_end(tx, run, snapshot, key).await? {
            ends.extend(recipients.iter().map(|recipient| ((key.clone(), recipient.0), end)));
        }
    }
    Ok(ends)
}

/// Outcome of a single step.
async fn single_step_end(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    key: &str,
) -> Result<Option<DependencyEnd>> {
    let Some((task, _)) = snapshot.step(key) else { return Ok(None) };
    let tasks = crate::domain::run::task::of_runs(tx.db(), &Viewer::engine(run.org_id), &[run.id]).await?;
    let of = tasks.into_iter().find(|row| row.key == task.key);
    let row = step::Entity::find()
        .filter(step::COLUMN.task_id.eq(of.map(|task| task.id)))
        .filter(step::COLUMN.key.eq(key))
        .one(tx.db())
        .await?;
    Ok(row.and_then(|row| DependencyEnd::of(row.status, row.result.is_some())))
}

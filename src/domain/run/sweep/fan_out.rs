//! A task's steps are made: one set for each place of the audience that is still open.

use std::collections::{BTreeMap, HashMap};

use entity::Actor;
use entity::definition::{TaskDef, Trigger};
use entity::id::*;
use entity::step::{self, Executor, StepReason, StepStatus};
use entity::sweep::Model;
use entity::{run, run_record};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::domain::plan::run_template::{Executors, kind};
use crate::domain::run::begin::{self, StepBatch};
use crate::domain::run::dependents::{self, DependencyEnd};
use crate::domain::run::early_events;
use crate::domain::run::repeat;
use crate::domain::run::snapshot::{self, RunSnapshot};
use crate::domain::run::step::ReasonText;
use crate::domain::run::sweep::close;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::{Error, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, storable};

/// Makes a task's steps: one set per place that is still open.
pub(super) async fn chunk(tx: &Tx, run: &run::Model, sweep: &Model) -> Result<Option<uuid::Uuid>> {
    let task_id = sweep.task_id.ok_or_else(|| Error::ours("a fan-out without a task"))?;
    let task = entity::task::Entity::find_by_id(task_id).one(tx.db()).await?.ok_or_else(|| Error::ours("no task"))?;
    let snapshot = snapshot::of(tx.db(), run).await?;
    let declared = snapshot.task(&task.key).ok_or_else(|| Error::ours("a task that is not declared"))?;
    let mut select = run_record::Entity::find()
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(run_record::COLUMN.outcome.is_null())
        .filter(Expr::exists(made_for(task_id)).not());
    if let Some(key) = sweep.last_key {
        select = select.filter(run_record::COLUMN.id.gt(RunRecordId(key)));
    }
    // A chunk is of so many steps, not places.
    let most = Ord::max(limits::CHUNK / Ord::max(declared.steps.len() as u64, 1), 1);
    let places = select.order_by_asc(run_record::COLUMN.id).limit(most).all(tx.db()).await?;
    let places: Vec<(RunRecordId, Option<RecordId>)> =
        places.into_iter().map(|place| (place.id, place.record_id)).collect();
    let made = make(tx, run, &snapshot, &task, declared, &places).await?;
    let full = places.len() as u64 == most || made < places.len();
    Ok(places[..made].last().filter(|_| full).map(|place| place.0.0))
}

/// A step of the task that is there for a place: of a run whose recipients are tried again.
fn made_for(task: TaskId) -> sea_orm::sea_query::SelectStatement {
    let mut made = Query::select();
    made.expr(Expr::val(1))
        .from(step::Entity)
        .and_where(
            Expr::col((step::Entity, step::Column::RunRecordId)).equals((run_record::Entity, run_record::Column::Id)),
        )
        .and_where(step::COLUMN.task_id.eq(task));
    made
}

/// Makes the steps of a task for some places, each as far as it goes by itself. Returns for how many of them, the first ones:
/// those whose conditions could be judged in time.
pub(in crate::domain::run) async fn make(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    task: &entity::task::Model,
    declared: &TaskDef,
    places: &[(RunRecordId, Option<RecordId>)],
) -> Result<usize> {
    let engine = Viewer::engine(run.org_id);
    let executors = Executors::of(tx.db(), &engine, &snapshot.definition).await?;
    let making = StepBatch { run, executors, assignee: None };
    let steps = places.iter().flat_map(|place| {
        let each = declared.steps.iter().enumerate();
        each.map(|(i, step)| making.blank(tx, task, step, i, Some(*place))).collect::<Vec<_>>()
    });
    let decided = decided(tx, snapshot, declared, places).await?;
    let ends = ends(tx, run, snapshot, declared, places).await?;
    let keys: Vec<&str> = declared.steps.iter().map(|step| step.key.as_str()).collect();
    let records: Vec<RecordId> = places.iter().filter_map(|place| place.1).collect();
    let stopped = early_events::stopping(tx, run, snapshot, declared, &records).await?;
    let ancestors = repeat::ancestors(tx, run, snapshot).await?;
    let before = repeat::done_before(tx, &ancestors, &keys, &records).await?;
    let drafting = before.values().filter(|step| step.kind == kind::DRAFT).map(|step| step.id);
    let drafts = repeat::drafts_before(tx, &drafting.collect::<Vec<_>>()).await?;
    let (mut made, mut taken_over) = (Vec::new(), Vec::new());
    let each = declared.steps.len();
    let judged = dependents::judged_within(tx, run, snapshot, steps.collect(), Some(each)).await?;
    let count = judged.len().checked_div(each).unwrap_or(places.len());
    for (mut step, why) in judged {
        let sequence = usize::try_from(step.sequence).unwrap_or_default();
        let of = &declared.steps[sequence];
        let done = step.record_id.and_then(|id| before.get(&(id, step.key.clone())));
        let done = done.filter(|done| done.kind != kind::DRAFT || drafts.contains_key(&done.id));
        if let Some(done) = done.filter(|_| !matches!(of.trigger, Trigger::Event(_))) {
            step.status = StepStatus::Skipped;
            step.result = Some(done.result.clone().unwrap_or_else(|| serde_json::json!({})));
            step.error = Some(format!("done in {}", done.run_id));
            step.reason = Some(StepReason::CarriedOver);
            step.completed_at = Some(tx.now());
            step.completed_by = Some(Actor::engine());
            if done.kind == kind::DRAFT {
                taken_over.push((step.clone(), done.clone()));
            }
            made.push(step);
            continue;
        }
        let end = match (&of.trigger, step.run_record_id) {
            (Trigger::After(key), Some(place)) => ends.get(&(key.clone(), place)).map(|end| (key, *end)),
            _ => None,
        };
        // What waits for another step is judged when that has ended.
        let waits = matches!(of.trigger, Trigger::After(_)) && end.is_none();
        // Steps that wait for an event are made when it has come.
        let come = matches!(of.trigger, Trigger::Event(_));
        let by = step.run_record_id.and_then(|place| decided.get(&place));
        let left_out = by.map(|by| ReasonText::new(StepReason::LeftOutByDecision, format!("left out by {by}")));
        let by = step.record_id.and_then(|id| stopped.get(&id));
        let left_out = left_out.or_else(|| by.map(|(name, _)| early_events::why(name)));
        let left_out = left_out.or(why.filter(|_| !waits)).or_else(|| match end {
            Some((key, end)) if end != DependencyEnd::Completed => Some(dependents::because(key, end)),
            _ => None,
        });
        if let Some(why) = left_out {
            step.status = StepStatus::Skipped;
            step.error = Some(why.text);
            step.reason = Some(why.code);
            step.completed_at = Some(tx.now());
            step.completed_by = Some(Actor::engine());
        } else if end.is_some()
            || (come && of.assigned_to != Executor::Human)
            || dependents::starts_at_once(declared, sequence, of)
        {
            let wait = match &of.trigger {
                Trigger::Delay(span) => span.chrono(),
                _ => chrono::Duration::zero(),
            };
            step.status = StepStatus::Queued;
            (step.available_at, step.due_at) = dependents::times(of, storable::after(tx.now(), wait));
        } else if come || matches!(of.trigger, Trigger::Immediate | Trigger::Manual) {
            (_, step.due_at) = dependents::times(of, tx.now());
        }
        made.push(step);
    }
    let changes = begin::insert(tx, run, &Actor::engine(), made).await?;
    let mut by_event: BTreeMap<&str, Vec<RunRecordId>> = BTreeMap::new();
    for (place, record) in &places[..count] {
        if let Some((name, _)) = record.and_then(|id| stopped.get(&id)) {
            by_event.entry(name).or_default().push(*place);
        }
    }
    for (name, places) in by_event {
        close::interrupted(tx, &places, name).await?;
    }
    repeat::take_over(tx, run, snapshot, &ancestors, &drafts, &taken_over).await?;
    let skipped: Vec<_> = changes.into_iter().filter(|change| change.step.status == StepStatus::Skipped).collect();
    dependents::advance(tx, run, snapshot, &skipped).await?;
    Ok(count)
}

/// Places for which a decision leaves this task out, with the decision's key.
async fn decided(
    tx: &Tx,
    snapshot: &RunSnapshot,
    task: &TaskDef,
    places: &[(RunRecordId, Option<RecordId>)],
) -> Result<HashMap<RunRecordId, String>> {
    if snapshot.graph.decisions.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = step::Entity::find()
        .filter(any_of(tx.dialect(), step::COLUMN.run_record_id, places.iter().map(|place| place.0)))
        .filter(step::Column::Kind.eq(kind::DECISION))
        .filter(step::COLUMN.status.eq(StepStatus::Completed))
        .all(tx.db())
        .await?;
    let leaves_out = |result: &serde_json::Value| kind::names(&result["skip"]).contains(&task.key);
    let each = rows.into_iter().filter(|row| row.result.as_ref().is_some_and(leaves_out));
    Ok(each.filter_map(|row| Some((row.run_record_id?, row.key))).collect())
}

/// How the steps that these wait for have ended, where they have: of the same record, or of the run.
async fn ends(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    task: &TaskDef,
    places: &[(RunRecordId, Option<RecordId>)],
) -> Result<HashMap<(String, RunRecordId), DependencyEnd>> {
    let own = |key: &str| task.steps.iter().any(|step| step.key == key);
    let keys: Vec<&String> = task
        .steps
        .iter()
        .filter_map(|step| match &step.trigger {
            Trigger::After(key) if !own(key) => Some(key),
            _ => None,
        })
        .collect();
    let mut ends = HashMap::new();
    if keys.is_empty() {
        return Ok(ends);
    }
    let rows = step::Entity::find()
        .filter(any_of(tx.dialect(), step::COLUMN.run_record_id, places.iter().map(|place| place.0)))
        .filter(any_of(tx.dialect(), step::Column::Key, keys.iter().map(|key| key.as_str())))
        .all(tx.db())
        .await?;
    for row in rows {
        if let (Some(place), Some(end)) = (row.run_record_id, DependencyEnd::of(row.status, row.result.is_some())) {
            ends.insert((row.key, place), end);
        }
    }
    // A single step of a phase or a task before: it has ended when this one begins.
    for key in keys.into_iter().filter(|key| !snapshot.graph.fans.contains(*key)) {
        if let Some(end) = single(tx, run, snapshot, key).await? {
            ends.extend(places.iter().map(|place| ((key.clone(), place.0), end)));
        }
    }
    Ok(ends)
}

/// How a single step has ended.
async fn single(tx: &Tx, run: &run::Model, snapshot: &RunSnapshot, key: &str) -> Result<Option<DependencyEnd>> {
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

//! Early events: events are stored from a run's start on for steps that are created, begin or are
//! retried after them, while its audience is added or a fan-out is in progress, before their phase
//! has begun, or while the run has failed.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use entity::definition::{PhaseDef, StepDef, TaskDef, Trigger};
use entity::early_event::{ActiveModel, COLUMN, Column, Entity};
use entity::id::*;
use entity::step::StepReason;
use entity::{early_run_event as of_run, run, run_record};
use sea_orm::sea_query::{OnConflict, Query};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Set};

use super::snapshot::RunSnapshot;
use super::step::ReasonText;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::{any_of, insert_new};
use crate::kernel::error::Result;

/// Event that a person always sees when it arrives: without a step, it becomes a follow-up. Steps
/// created later do not wait for an earlier one.
pub(super) const SEEN: &str = "reply.received";

/// Prefix of the event's name in the reason of interrupted steps.
pub(super) const BY: &str = "interrupted by ";

/// Reason of interrupted steps.
pub(super) fn why(name: &str) -> ReasonText {
    ReasonText::new(StepReason::Interrupted, format!("{BY}{name}"))
}

/// Event that a step waits for.
pub(super) fn awaited(step: &StepDef) -> Option<&str> {
    match &step.trigger {
        Trigger::Event(name) => Some(name),
        _ => None,
    }
}

fn is_heard_in(phase: &PhaseDef, name: &str) -> bool {
    let steps = phase.tasks.iter().flat_map(|task| &task.steps);
    phase.interrupt_events.iter().any(|event| event == name)
        || steps.into_iter().any(|step| awaited(step) == Some(name))
}

/// True if an event has an effect in some phase of the run.
pub(super) fn is_heard(snapshot: &RunSnapshot, name: &str) -> bool {
    snapshot.definition.phases.iter().any(|phase| is_heard_in(phase, name))
}

/// Stores an event about some records, with the time of the last one. Requires the run's lock.
pub(super) async fn keep(
    tx: &Tx,
    run: &run::Model,
    records: impl IntoIterator<Item = RecordId>,
    name: &str,
) -> Result<()> {
    let records: HashSet<RecordId> = records.into_iter().collect();
    let rows = records.into_iter().map(|record| ActiveModel {
        run_id: Set(run.id),
        record_id: Set(record),
        name: Set(name.to_owned()),
        org_id: Set(run.org_id),
        at: Set(tx.now()),
    });
    let key = [Column::RunId, Column::RecordId, Column::Name];
    insert_new(tx, rows.collect::<Vec<_>>(), OnConflict::columns(key).update_column(Column::At).to_owned()).await
}

/// Stores an event about the run as a whole. Requires the run's lock.
pub(super) async fn keep_of_run(tx: &Tx, run: &run::Model, name: &str) -> Result<()> {
    let row = of_run::ActiveModel {
        run_id: Set(run.id),
        name: Set(name.to_owned()),
        org_id: Set(run.org_id),
        at: Set(tx.now()),
    };
    let key = [of_run::Column::RunId, of_run::Column::Name];
    insert_new(tx, [row], OnConflict::columns(key).update_column(of_run::Column::At).to_owned()).await
}

/// Events that interrupt a task's steps for some records before they are created or retried, by
/// record: the last one, with its time. Ignores events that the task itself waits for.
pub(super) async fn stopping(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    task: &TaskDef,
    records: &[RecordId],
) -> Result<HashMap<RecordId, (String, DateTime<Utc>)>> {
    let phase = snapshot.definition.phases.iter().find(|phase| phase.tasks.iter().any(|other| other.key == task.key));
    let is_awaited = |name: &&String| task.steps.iter().any(|step| awaited(step) == Some(name.as_str()));
    let names = phase.into_iter().flat_map(|phase| &phase.interrupt_events).filter(|name| !is_awaited(name));
    let names: Vec<String> = names.cloned().collect();
    if names.is_empty() || task.on_event() || records.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = Entity::find()
        .filter(COLUMN.run_id.eq(run.id))
        .filter(any_of(tx.dialect(), COLUMN.record_id, records.iter().copied()))
        .filter(any_of(tx.dialect(), Column::Name, names))
        .order_by_asc(COLUMN.at)
        .all(tx.db())
        .await?;
    Ok(rows.into_iter().map(|row| (row.record_id, (row.name, row.at))).collect())
}

/// Events since a time, by name, with the records they were about; an empty list means the run as a
/// whole.
pub(super) async fn since(tx: &Tx, run: &run::Model, at: DateTime<Utc>) -> Result<BTreeMap<String, Vec<RecordId>>> {
    let mut all: BTreeMap<String, Vec<RecordId>> = BTreeMap::new();
    let of_run = of_run::Entity::find().filter(of_run::COLUMN.run_id.eq(run.id)).filter(of_run::COLUMN.at.gte(at));
    for row in of_run.all(tx.db()).await? {
        all.entry(row.name).or_default();
    }
    for row in Entity::find().filter(COLUMN.run_id.eq(run.id)).filter(COLUMN.at.gte(at)).all(tx.db()).await? {
        all.entry(row.name).or_default().push(row.record_id);
    }
    Ok(all)
}

/// True if an event arrived about the run as a whole, or about one of its recipients.
pub(super) async fn has_come(tx: &Tx, run: &run::Model, name: &str) -> Result<bool> {
    let of_run = of_run::Entity::find_by_id((run.id, name.to_owned())).one(tx.db()).await?;
    if of_run.is_some() {
        return Ok(true);
    }
    let mut recipients = Query::select();
    recipients
        .column(run_record::Column::RecordId)
        .from(run_record::Entity)
        .and_where(run_record::COLUMN.run_id.eq(run.id))
        .and_where(run_record::COLUMN.record_id.is_not_null());
    let of_record = Entity::find()
        .filter(COLUMN.run_id.eq(run.id))
        .filter(COLUMN.name.eq(name))
        .filter(COLUMN.record_id.in_subquery(recipients));
    Ok(of_record.one(tx.db()).await?.is_some())
}

/// Records about which an event arrived early.
pub(super) async fn records(tx: &Tx, run: &run::Model, name: &str) -> Result<Vec<RecordId>> {
    Ok(Entity::find()
        .select_only()
        .column(Column::RecordId)
        .filter(COLUMN.run_id.eq(run.id))
        .filter(COLUMN.name.eq(name))
        .into_tuple()
        .all(tx.db())
        .await?)
}

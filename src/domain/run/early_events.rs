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
use crate::kernel::storable;

/// Event that a person always sees when it arrives: without a step, it becomes a follow-up. Steps
/// created later do not wait for an earlier one.
pub(super) const REPLY_RECEIVED: &str = "reply.received";

/// Prefix of the event's name in the reason of interrupted steps.
pub(super) const INTERRUPTED_BY: &str = "interrupted by ";

/// Reason of interrupted steps.
pub(super) fn interrupted_by(name: &str) -> ReasonText {
    ReasonText::new(StepReason::Interrupted, format!("{INTERRUPTED_BY}{name}"))
}

/// Event that a step waits for.
pub(super) fn awaited(step: &StepDef) -> Option<&str> {
    match &step.trigger {
        Trigger::Event(name) => Some(name),
        _ => None,
    }
}

fn affects_phase(phase: &PhaseDef, name: &str) -> bool {
    let steps = phase.tasks.iter().flat_map(|task| &task.steps);
    phase.interrupt_events.iter().any(|event| event == name)
        || steps.into_iter().any(|step| awaited(step) == Some(name))
}

/// True if an event has an effect in some phase of the run.
pub(super) fn affects_run(snapshot: &RunSnapshot, name: &str) -> bool {
    snapshot.definition.phases.iter().any(|phase| affects_phase(phase, name))
}

/// Stores an event about some records, with the time and number of its first and its latest
/// occurrence. Requires the run's lock.
pub(super) async fn store(
    tx: &Tx,
    run: &run::Model,
    records: impl IntoIterator<Item = RecordId>,
    name: &str,
) -> Result<()> {
    let records: HashSet<RecordId> = records.into_iter().collect();
    if records.is_empty() {
        return Ok(());
    }
    let number = next_number(tx, run).await?;
    let rows = records.into_iter().map(|record| ActiveModel {
        run_id: Set(run.id),
        record_id: Set(record),
        name: Set(name.to_owned()),
        org_id: Set(run.org_id),
        at: Set(tx.now()),
        number: Set(number),
        first_number: Set(number),
        first_at: Set(Some(tx.now())),
    });
    let key = [Column::RunId, Column::RecordId, Column::Name];
    let again = OnConflict::columns(key).update_columns([Column::At, Column::Number]).to_owned();
    insert_new(tx, rows.collect::<Vec<_>>(), again).await
}

/// Stores an event about the run as a whole. Requires the run's lock.
pub(super) async fn store_for_run(tx: &Tx, run: &run::Model, name: &str) -> Result<()> {
    let number = next_number(tx, run).await?;
    let row = of_run::ActiveModel {
        run_id: Set(run.id),
        name: Set(name.to_owned()),
        org_id: Set(run.org_id),
        at: Set(tx.now()),
        number: Set(number),
        first_number: Set(number),
        first_at: Set(Some(tx.now())),
    };
    let key = [of_run::Column::RunId, of_run::Column::Name];
    let again = OnConflict::columns(key).update_columns([of_run::Column::At, of_run::Column::Number]).to_owned();
    insert_new(tx, [row], again).await
}

/// Number of the run's next event. Several events may come at the same time.
async fn next_number(tx: &Tx, run: &run::Model) -> Result<i64> {
    let of_records: Option<i64> = Entity::find()
        .select_only()
        .column(Column::Number)
        .filter(COLUMN.run_id.eq(run.id))
        .order_by_desc(Column::Number)
        .limit(1)
        .into_tuple()
        .one(tx.db())
        .await?;
    let of_run: Vec<i64> = of_run::Entity::find()
        .select_only()
        .column(of_run::Column::Number)
        .filter(of_run::COLUMN.run_id.eq(run.id))
        .into_tuple()
        .all(tx.db())
        .await?;
    Ok(of_records.into_iter().chain(of_run).max().unwrap_or_default() + 1)
}

/// One occurrence of an event that interrupts.
#[derive(Clone, Debug)]
struct Stop {
    name: String,
    number: i64,
    at: DateTime<Utc>,
}

/// Events that interrupt a task's steps, by record, each in the order in which they occurred. A step
/// is spared by the event that it waits for, and by the one that a step before it waits for.
#[derive(Debug, Default)]
pub(super) struct Stops<'a> {
    by_record: HashMap<RecordId, Vec<Stop>>,
    /// Keys of the steps that an event spares.
    spared: HashMap<String, HashSet<&'a str>>,
}

impl Stops<'_> {
    /// Name of the first event about a record that stops a step.
    pub(super) fn first(&self, record: Option<RecordId>, key: &str) -> Option<&str> {
        self.find(record, key, |_| true)
    }

    /// Same, after a numbered event.
    pub(super) fn after(&self, record: Option<RecordId>, key: &str, number: i64) -> Option<&str> {
        self.find(record, key, |stop| stop.number > number)
    }

    /// Same, since a time; without a time, the first one.
    pub(super) fn since(&self, record: Option<RecordId>, key: &str, at: Option<DateTime<Utc>>) -> Option<&str> {
        self.find(record, key, |stop| at.is_none_or(|at| at <= stop.at))
    }

    fn find(&self, record: Option<RecordId>, key: &str, which: impl Fn(&Stop) -> bool) -> Option<&str> {
        let stops = record.and_then(|record| self.by_record.get(&record))?;
        let is_spared = |stop: &Stop| self.spared.get(&stop.name).is_some_and(|keys| keys.contains(key));
        stops.iter().find(|stop| which(stop) && !is_spared(stop)).map(|stop| stop.name.as_str())
    }
}

/// Keys of a task's steps that an event spares: those that it wakes, and those that follow them.
pub(super) fn spared<'a>(task: &'a TaskDef, event: &str) -> impl Iterator<Item = &'a str> {
    task.created_by(event).into_iter().map(|at| task.steps[at].key.as_str())
}

/// Events that interrupt a task's steps for some records, before they are created or done again.
pub(super) async fn stopping<'a>(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    task: &'a TaskDef,
    records: &[RecordId],
) -> Result<Stops<'a>> {
    let phase = snapshot.definition.phases.iter().find(|phase| phase.tasks.iter().any(|other| other.key == task.key));
    let names: Vec<String> = phase.into_iter().flat_map(|phase| &phase.interrupt_events).cloned().collect();
    let spared = names.iter().map(|name| (name.clone(), spared(task, name).collect())).collect();
    let mut stops = Stops { spared, ..Stops::default() };
    if names.is_empty() || records.is_empty() {
        return Ok(stops);
    }
    let rows = Entity::find()
        .filter(COLUMN.run_id.eq(run.id))
        .filter(any_of(tx.dialect(), COLUMN.record_id, records.iter().copied()))
        .filter(any_of(tx.dialect(), Column::Name, names))
        .order_by_asc(COLUMN.at)
        .all(tx.db())
        .await?;
    for row in rows {
        let all = stops.by_record.entry(row.record_id).or_default();
        let first = row.first_at.filter(|_| row.first_number < row.number);
        all.extend(first.map(|at| Stop { name: row.name.clone(), number: row.first_number, at }));
        all.push(Stop { name: row.name, number: row.number, at: row.at });
    }
    for all in stops.by_record.values_mut() {
        all.sort_by_key(|stop| (stop.number, stop.at));
    }
    Ok(stops)
}

/// Events since a time, in the order in which they occurred, each with the records that it was
/// about; none means the run as a whole. Of events that occurred several times, the first and the
/// latest one: what lies between changes nothing.
pub(super) async fn since(tx: &Tx, run: &run::Model, at: DateTime<Utc>) -> Result<Vec<(String, Vec<RecordId>)>> {
    let mut all: BTreeMap<(i64, DateTime<Utc>, String), Vec<RecordId>> = BTreeMap::new();
    let of_run = of_run::Entity::find().filter(of_run::COLUMN.run_id.eq(run.id)).filter(of_run::COLUMN.at.gte(at));
    for row in of_run.all(tx.db()).await? {
        if let Some(first) = row.first_at.filter(|first| *first >= at) {
            all.entry((row.first_number, first, row.name.clone())).or_default();
        }
        all.entry((row.number, row.at, row.name)).or_default();
    }
    for row in Entity::find().filter(COLUMN.run_id.eq(run.id)).filter(COLUMN.at.gte(at)).all(tx.db()).await? {
        if let Some(first) = row.first_at.filter(|first| *first >= at && row.first_number < row.number) {
            all.entry((row.first_number, first, row.name.clone())).or_default().push(row.record_id);
        }
        all.entry((row.number, row.at, row.name)).or_default().push(row.record_id);
    }
    Ok(merged(all.into_iter().map(|((.., name), records)| (name, records))))
}

/// Merges events of one name about different records, which are independent of each other. Events
/// about one record keep their order, as do those about the run as a whole.
fn merged(events: impl Iterator<Item = (String, Vec<RecordId>)>) -> Vec<(String, Vec<RecordId>)> {
    let mut all = Vec::new();
    let mut by_turn: BTreeMap<(usize, String), Vec<RecordId>> = BTreeMap::new();
    let mut turns: HashMap<RecordId, usize> = HashMap::new();
    let flush = |by_turn: BTreeMap<(usize, String), Vec<RecordId>>| {
        by_turn.into_iter().map(|((_, name), records)| (name, records))
    };
    for (name, records) in events {
        if records.is_empty() {
            turns.clear();
            all.extend(flush(std::mem::take(&mut by_turn)));
            all.push((name, records));
            continue;
        }
        for record in records {
            let turn = turns.entry(record).or_default();
            by_turn.entry((*turn, name.clone())).or_default().push(record);
            *turn += 1;
        }
    }
    all.extend(flush(by_turn));
    all
}

/// True if the event of a single step came since a time: about the run, or about one of its recipients.
pub(super) async fn has_come_since(tx: &Tx, run: &run::Model, name: &str, at: DateTime<Utc>) -> Result<bool> {
    let of_run = of_run::Entity::find_by_id((run.id, name.to_owned())).filter(of_run::COLUMN.at.gte(at));
    if of_run.one(tx.db()).await?.is_some() {
        return Ok(true);
    }
    Ok(of_recipients(run, name).filter(COLUMN.at.gte(at)).one(tx.db()).await?.is_some())
}

/// The stored events with a name about the run's recipients.
fn of_recipients(run: &run::Model, name: &str) -> sea_orm::Select<Entity> {
    let mut recipients = Query::select();
    recipients
        .column(run_record::Column::RecordId)
        .from(run_record::Entity)
        .and_where(run_record::COLUMN.run_id.eq(run.id))
        .and_where(run_record::COLUMN.record_id.is_not_null());
    Entity::find()
        .filter(COLUMN.run_id.eq(run.id))
        .filter(COLUMN.name.eq(name))
        .filter(COLUMN.record_id.in_subquery(recipients))
}

/// True if an event arrived about the run as a whole, or about one of its recipients.
pub(super) async fn has_come(tx: &Tx, run: &run::Model, name: &str) -> Result<bool> {
    has_come_since(tx, run, name, storable::FIRST).await
}

/// Records about which an event arrived early, each with the number of its first occurrence.
pub(super) async fn records(tx: &Tx, run: &run::Model, name: &str) -> Result<HashMap<RecordId, i64>> {
    let found: Vec<(RecordId, i64)> = Entity::find()
        .select_only()
        .columns([Column::RecordId, Column::FirstNumber])
        .filter(COLUMN.run_id.eq(run.id))
        .filter(COLUMN.name.eq(name))
        .into_tuple()
        .all(tx.db())
        .await?;
    Ok(found.into_iter().collect())
}

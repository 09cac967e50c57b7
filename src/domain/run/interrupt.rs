//! An event about records stops what is open for them in an interruptible phase, and wakes the steps that wait for it.

use std::collections::{BTreeMap, HashSet};

use entity::definition::Trigger;
use entity::id::*;
use entity::run_record::{self, Outcome};
use entity::step::{self, StepReason, StepStatus};
use entity::{PhaseStatus, RunStatus, RunType, record, run, task};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ActiveEnum, ColumnTrait, Condition, EntityTrait, QueryFilter, QuerySelect};

use serde_json::Value;

use super::snapshot::RunSnapshot;
use super::step::ReasonText;
use super::sweep::close;
use super::{advance, early_events, sweep};
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::event::{self, Event, kinds};
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;
use crate::transact;

/// The statuses of runs that hear events.
const AT_WORK: [RunStatus; 2] = [RunStatus::InProgress, RunStatus::Paused];

/// An event about some places of a run's audience: first wakes the steps that wait for it, then stops what is open for
/// the places in the phase at work, where the event interrupts it, sparing those. The run is locked.
pub(crate) async fn interrupt(tx: &Tx, run: run::Model, places: &[RunRecordId], name: &str) -> Result<()> {
    let engine = Viewer::engine(run.org_id);
    // In one that is held, it stops and wakes at once, too; what is woken begins when the run goes on.
    if !AT_WORK.contains(&run.status) {
        return Ok(());
    }
    let snapshot = super::snapshot::of(tx.db(), &run).await?;
    if !early_events::is_heard(&snapshot, name) {
        return Ok(());
    }
    let phases = super::phase::of_runs(tx.db(), &engine, &[run.id]).await?;
    let tasks = super::task::of_runs(tx.db(), &engine, &[run.id]).await?;
    if early_events::is_early(&snapshot, &phases, &tasks, name) {
        early_events::keep(tx, &run, records_of(tx, places).await?, name).await?;
    }
    let Some(phase) = phases.into_iter().find(|phase| phase.status == PhaseStatus::Active) else { return Ok(()) };
    let interrupts = phase.interrupt_events.0.iter().any(|event| event == name);
    if !interrupts && !snapshot.graph.events.contains(name) {
        return Ok(());
    }
    let mine = step::Entity::find()
        .filter(any_of(tx.dialect(), step::COLUMN.run_record_id, places.iter().copied()))
        .filter(step::COLUMN.phase_id.eq(phase.id))
        .all(tx.db())
        .await?;
    let tasks: Vec<task::Model> = tasks.into_iter().filter(|task| task.phase_id == phase.id).collect();
    let listening = wake(tx, &run, &snapshot, &tasks, places, &mine, name).await?;
    let waiting = Trigger::Event(name.to_owned()).to_string();
    let (held, open): (Vec<step::Model>, Vec<step::Model>) = mine
        .into_iter()
        .filter(|step| StepStatus::OPEN.contains(&step.status) && step.trigger != waiting)
        .filter(|step| interrupts && !listening.contains(&step.task_id))
        // Whether that message went out is for a person to say.
        .filter(|step| step.status != StepStatus::AwaitingApproval)
        .partition(|step| step.lease_owner.is_some());
    let places = |steps: &[step::Model]| steps.iter().filter_map(|step| step.run_record_id).collect::<Vec<_>>();
    let (stopped, in_hand) = (places(&open), places(&held));
    let why = early_events::why(name);
    if !held.is_empty() {
        mark(tx, &held, &why).await?;
        crate::domain::message::communication::drop_of_places(tx, &engine, &run, &in_hand, name).await?;
    }
    if !open.is_empty() {
        crate::domain::message::communication::drop_of_places(tx, &engine, &run, &stopped, name).await?;
        close::interrupted(tx, &stopped, name).await?;
        sweep::skip(tx, &engine, &run, open, &why).await?;
    }
    advance::advance(tx, &engine, run).await?;
    Ok(())
}

/// The records of some places.
async fn records_of(tx: &Tx, places: &[RunRecordId]) -> Result<Vec<RecordId>> {
    let found: Vec<Option<RecordId>> = run_record::Entity::find()
        .select_only()
        .column(run_record::Column::RecordId)
        .filter(any_of(tx.dialect(), run_record::COLUMN.id, places.iter().copied()))
        .into_tuple()
        .all(tx.db())
        .await?;
    Ok(found.into_iter().flatten().collect())
}

/// Keeps an event about records whose places in a run may not be made yet.
async fn before_places(tx: &Tx, run: &run::Model, records: &[RecordId], name: &str) -> Result<()> {
    if run.audience_done || !AT_WORK.contains(&run.status) {
        return Ok(());
    }
    let snapshot = super::snapshot::of(tx.db(), run).await?;
    if early_events::is_heard(&snapshot, name) {
        early_events::keep(tx, run, records.iter().copied(), name).await
    } else {
        Ok(())
    }
}

/// Notes on steps that a worker holds that they were interrupted: what they bring is kept, and they are not tried again.
async fn mark(tx: &Tx, held: &[step::Model], why: &ReasonText) -> Result<()> {
    step::Entity::update_many()
        .col_expr(step::Column::Error, Expr::value(why.text.clone()))
        .col_expr(step::Column::Reason, Expr::value(why.code.to_value()))
        .filter(any_of(tx.dialect(), step::COLUMN.id, held.iter().map(|step| step.id)))
        .filter(step::COLUMN.status.eq(StepStatus::InProgress))
        .filter(step::COLUMN.lease_owner.is_not_null())
        .exec(tx.db())
        .await?;
    Ok(())
}

/// Steps that were interrupted while a worker held them have settled without a result: what they had to send is called off,
/// and their places follow.
pub(crate) async fn settled<'a>(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    steps: impl Iterator<Item = &'a step::Model>,
) -> Result<()> {
    let mut by_event: BTreeMap<&str, Vec<RunRecordId>> = BTreeMap::new();
    for step in steps {
        if step.status == StepStatus::Skipped && step.reason == Some(StepReason::Interrupted) {
            let told = step.error.as_deref().unwrap_or_default();
            by_event.entry(told.strip_prefix(early_events::BY).unwrap_or(told)).or_default().extend(step.run_record_id);
        }
    }
    for (name, places) in by_event {
        crate::domain::message::communication::drop_of_places(tx, viewer, run, &places, name).await?;
        close::interrupted(tx, &places, name).await?;
    }
    Ok(())
}

/// Wakes the steps that wait for an event: those of a fan-out are made for each place that has none yet, single ones are
/// fired. The tasks that listen come back.
async fn wake(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    tasks: &[task::Model],
    places: &[RunRecordId],
    made: &[step::Model],
    name: &str,
) -> Result<HashSet<TaskId>> {
    let trigger = Trigger::Event(name.to_owned());
    let made: HashSet<(Option<RunRecordId>, TaskId)> =
        made.iter().map(|step| (step.run_record_id, step.task_id)).collect();
    let mut listening = HashSet::new();
    let begun = tasks.iter().filter(|task| task.fan_out_begun && task.left_out.is_none());
    for task in begun {
        let Some(declared) = snapshot.task(&task.key) else { continue };
        if !declared.steps.iter().any(|step| step.trigger == trigger) {
            continue;
        }
        listening.insert(task.id);
        if declared.fan_out {
            let fresh = places.iter().copied().filter(|place| !made.contains(&(Some(*place), task.id)));
            let rows = run_record::Entity::find()
                .filter(any_of(tx.dialect(), run_record::COLUMN.id, fresh))
                .all(tx.db())
                .await?;
            let rows: Vec<_> = rows.into_iter().map(|row| (row.id, row.record_id)).collect();
            let mut rest = rows.as_slice();
            while !rest.is_empty() {
                let made = sweep::fan_out::make(tx, run, snapshot, task, declared, rest).await?;
                rest = &rest[made..];
            }
        } else {
            let waiting = step::Entity::find()
                .filter(step::COLUMN.task_id.eq(task.id))
                .filter(step::COLUMN.status.eq(StepStatus::Pending))
                .filter(step::COLUMN.trigger.eq(trigger.to_string()))
                .all(tx.db())
                .await?;
            super::dependents::enqueue(tx, run, snapshot, waiting, tx.now()).await?;
        }
    }
    Ok(listening)
}

/// An event that somebody raises, about records or about a run as a whole. It stands in the log under its own name, wakes
/// what waits for it, and interrupts what it interrupts. Errors: NOT_FOUND; BAD_USER_INPUT for a name that is not
/// `noun.what_happened`, or is one of ours.
pub async fn raise(
    db: &Db,
    viewer: &Viewer,
    name: &str,
    run: Option<RunId>,
    records: &[RecordId],
    payload: Value,
) -> Result<()> {
    let name = check_name(name)?;
    if records.len() > limits::NODES {
        return Err(Refusal::too_much("recordIds", format!("at most {}", limits::NODES)).into());
    }
    if run.is_none() && records.is_empty() {
        return Err(Refusal::input("recordIds", "say which records, or which run, it is about").into());
    }
    crate::domain::audience::record::check_attributes("payload", &payload)?;
    transact!(db, |tx| {
        if let Some(id) = crate::domain::audience::record::missing(tx.db(), viewer, records).await?.first() {
            return Err(Refusal::not_found("record", id).into());
        }
        if let Some(id) = run {
            let run = super::must_lock(tx, viewer, id, None).await?;
            if records.is_empty() {
                let event = Event::raised(viewer.org_id, name.clone(), &viewer.actor()).run(&run);
                event::append(tx, event.payload(payload.clone()));
            }
            let mut places = run_record::Entity::find().filter(run_record::COLUMN.run_id.eq(id));
            places = places.filter(any_of(tx.dialect(), run_record::COLUMN.record_id, records.iter().copied()));
            let places: Vec<RunRecordId> = places.all(tx.db()).await?.into_iter().map(|place| place.id).collect();
            before_places(tx, &run, records, &name).await?;
            interrupt(tx, run, &places, &name).await?;
        }
        for id in records {
            let event = Event::raised(viewer.org_id, name.clone(), &viewer.actor()).record(Some(*id));
            event::append(tx, event.payload(payload.clone()));
        }
        if run.is_none() {
            interrupt_records(tx, viewer, records, &name).await?;
        }
        match (run, records.first()) {
            (Some(id), _) => tx.set_result(id),
            (None, Some(id)) => tx.set_result(*id),
            (None, None) => {}
        }
        Ok(())
    })
}

fn check_name(name: &str) -> Result<String> {
    let word = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    match name.split_once('.') {
        Some((noun, _)) if kinds::is_ours(name) => {
            let told = format!("events of a {noun} are raised by what happens to it; take a noun of your own");
            Err(Refusal::input("name", told).into())
        }
        Some((noun, what)) if name.len() <= limits::EVENT_NAME_BYTES && word(noun) && word(what) => Ok(name.to_owned()),
        _ => {
            let most = limits::EVENT_NAME_BYTES;
            let told =
                format!("a noun and what happened, like `payment.received`: a-z, 0-9 and _, at most {most} in all");
            Err(Refusal::input("name", told).into())
        }
    }
}

/// The runs in which something may be open for some records: also where something has come of their place already, for a
/// step may still wait.
fn at_work_on(tx: &Tx, records: &[RecordId], addresses: &[String]) -> Condition {
    let mut theirs = Query::select();
    theirs.column(run_record::Column::RunId).from(run_record::Entity).and_where(any_of(
        tx.dialect(),
        run_record::COLUMN.record_id,
        records.iter().copied(),
    ));
    // Whose audience is being taken in may have them yet.
    let mut on = Condition::any().add(run::COLUMN.id.in_subquery(theirs)).add(run::COLUMN.audience_done.eq(false));
    if !addresses.is_empty() {
        // Asked of each run at work, which are few: the index of places is by run and address.
        let mut there = Query::select();
        there
            .expr(Expr::val(1))
            .from(run_record::Entity)
            .and_where(
                Expr::col((run_record::Entity, run_record::Column::RunId)).equals((run::Entity, run::Column::Id)),
            )
            .and_where(any_of(tx.dialect(), run_record::Column::AddressKey, addresses.iter().cloned()));
        on = on.add(Expr::exists(there));
    }
    // Nothing waits for events in guided work.
    Condition::all().add(on).add(run::COLUMN.status.is_in(AT_WORK)).add(run::COLUMN.run_type.ne(RunType::Guided))
}

/// Locks the runs in which something may be open for some records, and the run of a step; all in the order of their ids, in
/// one statement.
pub(crate) async fn lock_runs_of(
    tx: &Tx,
    viewer: &Viewer,
    records: &[RecordId],
    step: Option<StepId>,
) -> Result<Vec<run::Model>> {
    lock_runs(tx, viewer, at_work_on(tx, records, &[]), step).await
}

async fn lock_runs(tx: &Tx, viewer: &Viewer, at_work: Condition, step: Option<StepId>) -> Result<Vec<run::Model>> {
    use sea_orm::{QueryOrder, QuerySelect};
    let mut which = Condition::any().add(at_work);
    if let Some(id) = step {
        let mut of = Query::select();
        of.column(step::Column::RunId).from(step::Entity).and_where(step::COLUMN.id.eq(id));
        which = which.add(run::COLUMN.id.in_subquery(of));
    }
    Ok(run::Entity::find()
        .filter(run::COLUMN.org_id.eq(viewer.org_id))
        .filter(which)
        .order_by_asc(run::COLUMN.id)
        .lock_exclusive()
        .all(tx.db())
        .await?)
}

/// The same event about records, in every run that is at work on them; their rows are changed by the caller.
pub(crate) async fn interrupt_records(tx: &Tx, viewer: &Viewer, records: &[RecordId], name: &str) -> Result<()> {
    for run in lock_runs_of(tx, viewer, records, None).await? {
        let places = run_record::Entity::find()
            .filter(run_record::COLUMN.run_id.eq(run.id))
            .filter(any_of(tx.dialect(), run_record::COLUMN.record_id, records.iter().copied()))
            .all(tx.db())
            .await?;
        let places: Vec<RunRecordId> = places.into_iter().map(|place| place.id).collect();
        before_places(tx, &run, records, name).await?;
        interrupt(tx, run, &places, name).await?;
    }
    Ok(())
}

/// Records opt out, and with them every record that has one of their addresses: in every run at work what waits for them is
/// closed as suppressed, and the event interrupts what it interrupts. The records' rows are changed by the caller.
pub(crate) async fn opted_out(tx: &Tx, viewer: &Viewer, records: &[record::Model]) -> Result<()> {
    let (ids, keys): (Vec<RecordId>, _) =
        (records.iter().map(|record| record.id).collect(), crate::domain::audience::record::keys(records));
    for run in lock_runs(tx, viewer, at_work_on(tx, &ids, &keys), None).await? {
        let theirs = Condition::any()
            .add(any_of(tx.dialect(), run_record::COLUMN.record_id, ids.iter().copied()))
            .add(any_of(tx.dialect(), run_record::Column::AddressKey, keys.iter().cloned()));
        let places = run_record::Entity::find().filter(run_record::COLUMN.run_id.eq(run.id)).filter(theirs);
        let places: Vec<RunRecordId> = places.all(tx.db()).await?.into_iter().map(|place| place.id).collect();
        // Who is on the telephone stays there: what came of that call is told by the person who makes it.
        let calling = calling(tx, &places).await?;
        let places: Vec<RunRecordId> = places.into_iter().filter(|place| !calling.contains(place)).collect();
        if run.run_type != RunType::TestRun {
            suppress(tx, &run, &places).await?;
        }
        interrupt(tx, run, &places, "record.unsubscribed").await?;
    }
    Ok(())
}

/// Returns the places that a person calls at this moment.
async fn calling(tx: &Tx, places: &[RunRecordId]) -> Result<Vec<RunRecordId>> {
    let found: Vec<Option<RunRecordId>> = step::Entity::find()
        .select_only()
        .column(step::Column::RunRecordId)
        .filter(any_of(tx.dialect(), step::COLUMN.run_record_id, places.iter().copied()))
        .filter(step::Column::Kind.eq(crate::domain::plan::run_template::CALL))
        .filter(step::COLUMN.status.eq(StepStatus::InProgress))
        .into_tuple()
        .all(tx.db())
        .await?;
    Ok(found.into_iter().flatten().collect())
}

/// Closes what waits to be sent to some places whose addresses were opted out, and the places with it.
async fn suppress(tx: &Tx, run: &run::Model, places: &[RunRecordId]) -> Result<()> {
    let engine = Viewer::engine(run.org_id);
    let closed = crate::domain::message::communication::suppress_of_places(tx, &engine, run, places).await?;
    run_record::Entity::update_many()
        .col_expr(run_record::Column::Outcome, Expr::value(Outcome::Suppressed.to_value()))
        .col_expr(run_record::Column::Reason, Expr::value(crate::domain::audience::suppression::UNSUBSCRIBED))
        .filter(any_of(tx.dialect(), run_record::COLUMN.id, closed))
        .filter(run_record::COLUMN.outcome.is_null())
        .filter(close::nothing_went())
        .exec(tx.db())
        .await?;
    Ok(())
}

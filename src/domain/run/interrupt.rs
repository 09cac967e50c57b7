//! An event about records stops what is open for them in an interruptible phase, and wakes the steps that wait for it.

mod raise;
mod wake;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use entity::definition::Trigger;
use entity::id::*;
use entity::run_record::{self, Outcome};
use entity::step::{self, StepReason, StepStatus};
use entity::{PhaseStatus, RunStatus, RunType, record, run, task};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ActiveEnum, ColumnTrait, Condition, EntityTrait, QueryFilter, QuerySelect};

pub use raise::raise;

use super::snapshot::RunSnapshot;
use super::step::ReasonText;
use super::sweep::close;
use super::{advance, early_events, sweep};
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// The statuses of runs that hear events.
const AT_WORK: [RunStatus; 2] = [RunStatus::InProgress, RunStatus::Paused];

/// An event about some places of a run's audience: first wakes the steps that wait for it, then stops what is open for
/// the places in the phase at work, where the event interrupts it, sparing those. A run that has failed hears of it when it
/// is tried again. The run is locked.
pub(crate) async fn interrupt(tx: &Tx, run: run::Model, places: &[RunRecordId], name: &str) -> Result<()> {
    // In one that is held, it stops and wakes at once, too; what is woken begins when the run goes on.
    let failed = run.status == RunStatus::Failed && run.started_at.is_some();
    if !failed && !AT_WORK.contains(&run.status) {
        return Ok(());
    }
    let snapshot = super::snapshot::of(tx.db(), &run).await?;
    if !early_events::is_heard(&snapshot, name) {
        return Ok(());
    }
    early_events::keep(tx, &run, records_of(tx, places).await?, name).await?;
    if places.is_empty() {
        early_events::keep_of_run(tx, &run, name).await?;
    }
    if !failed && emit(tx, &run, &snapshot, places, name, true).await? {
        advance::advance(tx, &Viewer::engine(run.org_id), run).await?;
    }
    Ok(())
}

/// Tells a run that goes on after it had failed what came meanwhile. Replies have become follow-ups by then, and only stop.
pub(super) async fn tell_since(tx: &Tx, run: &run::Model, failed_at: DateTime<Utc>) -> Result<()> {
    let snapshot = super::snapshot::of(tx.db(), run).await?;
    for (name, records) in early_events::since(tx, run, failed_at).await? {
        let places: Vec<RunRecordId> = run_record::Entity::find()
            .select_only()
            .column(run_record::Column::Id)
            .filter(run_record::COLUMN.run_id.eq(run.id))
            .filter(any_of(tx.dialect(), run_record::COLUMN.record_id, records.iter().copied()))
            .into_tuple()
            .all(tx.db())
            .await?;
        if places.is_empty() == records.is_empty() {
            emit(tx, run, &snapshot, &places, &name, name != early_events::SEEN).await?;
        }
    }
    Ok(())
}

/// Stops steps of a task that are tried again, for records about which an event came since they had failed.
pub(super) async fn stop_again(tx: &Tx, run: &run::Model, task: TaskId, steps: &[step::Model]) -> Result<()> {
    let snapshot = super::snapshot::of(tx.db(), run).await?;
    let task = task::Entity::find_by_id(task).one(tx.db()).await?;
    let Some(declared) = task.as_ref().and_then(|task| snapshot.task(&task.key)) else { return Ok(()) };
    let records: Vec<RecordId> = steps.iter().filter_map(|step| step.record_id).collect();
    let events = early_events::stopping(tx, run, &snapshot, declared, &records).await?;
    let mut by_event: BTreeMap<&str, Vec<RunRecordId>> = BTreeMap::new();
    for step in steps {
        if let Some((name, at)) = step.record_id.and_then(|id| events.get(&id))
            && step.completed_at.is_none_or(|failed| failed <= *at)
        {
            by_event.entry(name).or_default().extend(step.run_record_id);
        }
    }
    for (name, places) in by_event {
        emit(tx, run, &snapshot, &places, name, false).await?;
    }
    Ok(())
}

/// Wakes and stops in the phase at work; without `wakes` it only stops. Says whether the run may have moved.
async fn emit(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    places: &[RunRecordId],
    name: &str,
    wakes: bool,
) -> Result<bool> {
    let engine = Viewer::engine(run.org_id);
    let phases = super::phase::of_runs(tx.db(), &engine, &[run.id]).await?;
    let Some(phase) = phases.into_iter().find(|phase| phase.status == PhaseStatus::Active) else { return Ok(false) };
    let interrupts = phase.interrupt_events.0.iter().any(|event| event == name);
    if !interrupts && !(wakes && snapshot.graph.events.contains(name)) {
        return Ok(false);
    }
    let mine = step::Entity::find()
        .filter(any_of(tx.dialect(), step::COLUMN.run_record_id, places.iter().copied()))
        .filter(step::COLUMN.phase_id.eq(phase.id))
        .all(tx.db())
        .await?;
    let tasks = super::task::of_runs(tx.db(), &engine, &[run.id]).await?;
    let tasks = tasks.into_iter().filter(|task| task.phase_id == phase.id);
    let listening: Vec<task::Model> = tasks.filter(|task| wake::listens(snapshot, task, name)).collect();
    if wakes {
        wake::wake(tx, run, snapshot, &listening, places, &mine, name).await?;
    }
    let waiting = Trigger::Event(name.to_owned()).to_string();
    let (held, open): (Vec<step::Model>, Vec<step::Model>) = mine
        .into_iter()
        .filter(|step| StepStatus::OPEN.contains(&step.status) && step.trigger != waiting)
        .filter(|step| interrupts && !listening.iter().any(|task| task.id == step.task_id))
        // Whether that message went out is for a person to say.
        .filter(|step| step.status != StepStatus::AwaitingApproval)
        .partition(|step| step.lease_owner.is_some());
    let places = |steps: &[step::Model]| steps.iter().filter_map(|step| step.run_record_id).collect::<Vec<_>>();
    let (stopped, in_hand) = (places(&open), places(&held));
    let why = early_events::why(name);
    if !held.is_empty() {
        mark(tx, &held, &why).await?;
        crate::domain::message::communication::drop_of_places(tx, &engine, run, &in_hand, name).await?;
    }
    if !open.is_empty() {
        crate::domain::message::communication::drop_of_places(tx, &engine, run, &stopped, name).await?;
        close::interrupted(tx, &stopped, name).await?;
        sweep::skip(tx, &engine, run, open, &why).await?;
    }
    Ok(true)
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
    let mut on =
        Condition::any().add(run::COLUMN.id.in_subquery(theirs.clone())).add(run::COLUMN.audience_done.eq(false));
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
    let at_work = Condition::all().add(on).add(run::COLUMN.status.is_in(AT_WORK));
    // One that has failed may be tried again.
    let failed = run::COLUMN.status.eq(RunStatus::Failed).and(run::COLUMN.started_at.is_not_null());
    let failed = Condition::all().add(failed).add(run::COLUMN.id.in_subquery(theirs));
    // Nothing waits for events in guided work.
    let heard = Condition::any().add(at_work).add(failed);
    Condition::all().add(heard).add(run::COLUMN.run_type.ne(RunType::Guided))
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
        // It may be about nobody there yet.
        if !places.is_empty() {
            interrupt(tx, run, &places, name).await?;
        }
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
        if places.is_empty() {
            continue;
        }
        // Who is on the telephone stays there: what came of that call is told by the person who makes it.
        let calling = calling(tx, &places).await?;
        let places: Vec<RunRecordId> = places.into_iter().filter(|place| !calling.contains(place)).collect();
        if run.run_type != RunType::TestRun && AT_WORK.contains(&run.status) {
            suppress(tx, &run, &places).await?;
        }
        if !places.is_empty() {
            interrupt(tx, run, &places, "record.unsubscribed").await?;
        }
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

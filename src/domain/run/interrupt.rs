//! Interrupts: an event about records stops their open steps in an interruptible phase, and wakes
//! the steps that wait for it.

mod raise;
mod wake;

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use entity::definition::Trigger;
use entity::id::*;
use entity::run_record::{self, Outcome};
use entity::step::{self, Executor, StepReason, StepStatus};
use entity::{PhaseStatus, RunStatus, RunType, record, run, task};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ActiveEnum, ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

pub use raise::raise;

use super::snapshot::RunSnapshot;
use super::step::ReasonText;
use super::sweep::close;
use super::{advance, early_events, skip};
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Statuses of runs that react to events.
pub(super) const AT_WORK: [RunStatus; 2] = [RunStatus::InProgress, RunStatus::Paused];

/// Applies an event about some recipients of a run: first wakes the steps that wait for it, then
/// stops the recipients' open steps in the active phase, if the event interrupts it, except those
/// just woken. A run that has failed or completed applies it when it is retried. Requires the run's
/// lock.
pub(crate) async fn interrupt(tx: &Tx, run: run::Model, recipients: &[RunRecordId], name: &str) -> Result<()> {
    // Takes effect in a paused run at once, too; woken steps begin when the run is resumed.
    let ended = matches!(run.status, RunStatus::Failed | RunStatus::Completed) && run.started_at.is_some();
    if !ended && !AT_WORK.contains(&run.status) {
        return Ok(());
    }
    let snapshot = super::snapshot::of(tx.db(), &run).await?;
    if !early_events::affects_run(&snapshot, name) {
        return Ok(());
    }
    early_events::store(tx, &run, records_of(tx, recipients).await?, name).await?;
    if recipients.is_empty() {
        early_events::store_for_run(tx, &run, name).await?;
    }
    if !ended && apply_event(tx, &run, &snapshot, recipients, name, true).await? {
        advance::advance(tx, &Viewer::engine(run.org_id), run).await?;
    }
    Ok(())
}

/// Applies to a retried run the events that arrived after it had failed, one after the other in
/// their order. Replies have become follow-ups by then, and only stop steps.
pub(super) async fn apply_missed_events(tx: &Tx, run: &run::Model, failed_at: DateTime<Utc>) -> Result<()> {
    let snapshot = super::snapshot::of(tx.db(), run).await?;
    for (name, records) in early_events::since(tx, run, failed_at).await? {
        let recipients: Vec<RunRecordId> = run_record::Entity::find()
            .select_only()
            .column(run_record::Column::Id)
            .filter(run_record::COLUMN.run_id.eq(run.id))
            .filter(any_of(tx.dialect(), run_record::COLUMN.record_id, records.iter().copied()))
            .into_tuple()
            .all(tx.db())
            .await?;
        if recipients.is_empty() == records.is_empty() {
            apply_event(tx, run, &snapshot, &recipients, &name, name != early_events::REPLY_RECEIVED).await?;
        }
    }
    Ok(())
}

/// Stops retried steps of a task for records about which an event arrived since the attempt that
/// failed had begun: it may have come while a message was in hand, or before a person reported that
/// the message was not sent.
pub(in crate::domain::run) async fn stop_again(
    tx: &Tx,
    run: &run::Model,
    task: TaskId,
    steps: &[step::Model],
) -> Result<()> {
    let snapshot = super::snapshot::of(tx.db(), run).await?;
    let task = task::Entity::find_by_id(task).one(tx.db()).await?;
    let Some(declared) = task.as_ref().and_then(|task| snapshot.task(&task.key)) else { return Ok(()) };
    let records: Vec<RecordId> = steps.iter().filter_map(|step| step.record_id).collect();
    let events = early_events::stopping(tx, run, &snapshot, declared, &records).await?;
    let mut by_event: BTreeMap<&str, Vec<RunRecordId>> = BTreeMap::new();
    for step in steps {
        let tried_at = step.started_at.or(step.completed_at);
        if let Some(name) = events.since(step.record_id, &step.key, tried_at) {
            by_event.entry(name).or_default().extend(step.run_record_id);
        }
    }
    for (name, recipients) in by_event {
        apply_event(tx, run, &snapshot, &recipients, name, false).await?;
    }
    Ok(())
}

/// Wakes and stops steps in the active phase; without `wakes` it only stops. Returns true if the
/// run may have changed.
async fn apply_event(
    tx: &Tx,
    run: &run::Model,
    snapshot: &RunSnapshot,
    recipients: &[RunRecordId],
    name: &str,
    wakes: bool,
) -> Result<bool> {
    let engine = Viewer::engine(run.org_id);
    let phases = super::phase::of_runs(tx.db(), &engine, &[run.id]).await?;
    let Some(phase) = phases.into_iter().find(|phase| phase.status == PhaseStatus::Active) else { return Ok(false) };
    let interrupts = phase.interrupt_events.0.iter().any(|event| event == name);
    let wakes = wakes && snapshot.graph.events.contains(name);
    if !interrupts && !wakes {
        return Ok(false);
    }
    let steps = step::Entity::find()
        .filter(any_of(tx.dialect(), step::COLUMN.run_record_id, recipients.iter().copied()))
        .filter(step::COLUMN.phase_id.eq(phase.id))
        .all(tx.db())
        .await?;
    let tasks = super::task::of_runs(tx.db(), &engine, &[run.id]).await?;
    let tasks = tasks.into_iter().filter(|task| task.phase_id == phase.id);
    let listening: Vec<task::Model> = tasks.filter(|task| wake::listens(snapshot, task, name)).collect();
    if wakes {
        wake::wake(tx, run, snapshot, &listening, recipients, &steps, name).await?;
    }
    let waiting = Trigger::Event(name.to_owned()).to_string();
    let declared = snapshot.definition.phases.iter().flat_map(|phase| &phase.tasks);
    let spared: HashSet<&str> = declared.flat_map(|task| early_events::spared(task, name)).collect();
    let (leased, open): (Vec<step::Model>, Vec<step::Model>) = steps
        .into_iter()
        .filter(|step| StepStatus::OPEN.contains(&step.status) && step.trigger != waiting)
        .filter(|step| interrupts && !spared.contains(step.key.as_str()))
        // A person resolves a message with an unknown outcome.
        .filter(|step| step.status != StepStatus::AwaitingApproval || !is_of_engine(step))
        .partition(|step| step.lease_owner.is_some());
    if !leased.is_empty() {
        mark_interrupted(tx, &leased, &early_events::interrupted_by(name)).await?;
        let in_hand: Vec<RunRecordId> = leased.iter().filter_map(|step| step.run_record_id).collect();
        crate::domain::message::communication::cancel_unsent(tx, &engine, run, &in_hand, name).await?;
    }
    if !open.is_empty() {
        skip::interrupted(tx, run, open, name).await?;
    }
    Ok(true)
}

/// True if the engine does the step: its approval is the report of a message's outcome.
pub(super) fn is_of_engine(step: &step::Model) -> bool {
    step.assigned_to == Executor::Workflow && !step.outside
}

/// Records of some recipients.
async fn records_of(tx: &Tx, recipients: &[RunRecordId]) -> Result<Vec<RecordId>> {
    let found: Vec<Option<RecordId>> = run_record::Entity::find()
        .select_only()
        .column(run_record::Column::RecordId)
        .filter(any_of(tx.dialect(), run_record::COLUMN.id, recipients.iter().copied()))
        .into_tuple()
        .all(tx.db())
        .await?;
    Ok(found.into_iter().flatten().collect())
}

/// Stores an event about records that may not have been added as recipients yet.
async fn store_early(tx: &Tx, run: &run::Model, records: &[RecordId], name: &str) -> Result<()> {
    let adds_later = AT_WORK.contains(&run.status) || (run.status == RunStatus::Failed && run.started_at.is_some());
    if run.audience_done || !adds_later {
        return Ok(());
    }
    let snapshot = super::snapshot::of(tx.db(), run).await?;
    if early_events::affects_run(&snapshot, name) {
        early_events::store(tx, run, records.iter().copied(), name).await
    } else {
        Ok(())
    }
}

/// Marks steps with a lease as interrupted: their results are kept, and they are not retried.
pub(super) async fn mark_interrupted(tx: &Tx, held: &[step::Model], why: &ReasonText) -> Result<()> {
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

/// Handles steps that were interrupted during their lease and settled without a result: cancels
/// their messages and updates their recipients.
pub(crate) async fn settled<'a>(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    steps: impl Iterator<Item = &'a step::Model>,
) -> Result<()> {
    let mut by_event: BTreeMap<&str, Vec<RunRecordId>> = BTreeMap::new();
    for step in steps {
        if step.status == StepStatus::Skipped && step.reason == Some(StepReason::Interrupted) {
            let reason = step.error.as_deref().unwrap_or_default();
            by_event
                .entry(reason.strip_prefix(early_events::INTERRUPTED_BY).unwrap_or(reason))
                .or_default()
                .extend(step.run_record_id);
        }
    }
    for (name, recipients) in by_event {
        crate::domain::message::communication::cancel_unsent(tx, viewer, run, &recipients, name).await?;
        close::interrupted(tx, &recipients, name).await?;
    }
    Ok(())
}

/// Condition for runs that may have open steps for some records, also if the recipient has an
/// outcome, as a step may still wait.
fn open_runs(tx: &Tx, records: &[RecordId], addresses: &[String]) -> Condition {
    let mut run_ids = Query::select();
    run_ids.column(run_record::Column::RunId).from(run_record::Entity).and_where(any_of(
        tx.dialect(),
        run_record::COLUMN.record_id,
        records.iter().copied(),
    ));
    // A run whose audience is still being added may get them yet.
    let mut concerned =
        Condition::any().add(run::COLUMN.id.in_subquery(run_ids.clone())).add(run::COLUMN.audience_done.eq(false));
    if !addresses.is_empty() {
        // Checked per open run, of which there are few: the index of recipients is on run and
        // address.
        let mut has_address = Query::select();
        has_address
            .expr(Expr::val(1))
            .from(run_record::Entity)
            .and_where(
                Expr::col((run_record::Entity, run_record::Column::RunId)).equals((run::Entity, run::Column::Id)),
            )
            .and_where(any_of(tx.dialect(), run_record::Column::AddressKey, addresses.iter().cloned()));
        concerned = concerned.add(Expr::exists(has_address));
    }
    let at_work = Condition::all().add(concerned).add(run::COLUMN.status.is_in(AT_WORK));
    // A failed run may be retried.
    let failed = run::COLUMN.status.eq(RunStatus::Failed).and(run::COLUMN.started_at.is_not_null());
    let failed =
        Condition::all().add(failed).add(run::COLUMN.id.in_subquery(run_ids).or(run::COLUMN.audience_done.eq(false)));
    // Guided work has no steps that wait for events.
    let heard = Condition::any().add(at_work).add(failed);
    Condition::all().add(heard).add(run::COLUMN.run_type.ne(RunType::Guided))
}

/// Maximum number of snapshots that are read at once.
const SNAPSHOTS: usize = 100;

/// Returns the runs that may have open steps for some records and in which one of these events has an
/// effect. Others need no lock: what a run reacts to never changes once it has begun.
pub(super) async fn reacting(tx: &Tx, viewer: &Viewer, records: &[RecordId], names: &[&str]) -> Result<Vec<RunId>> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let mut reacting = Vec::new();
    for part in ids(tx, viewer, open_runs(tx, records, &[])).await?.chunks(SNAPSHOTS) {
        let snapshots = super::snapshot::of_begun(tx.db(), viewer, part).await?;
        let reacts = |snapshot: &RunSnapshot| names.iter().any(|name| early_events::affects_run(snapshot, name));
        reacting.extend(snapshots.into_iter().filter(|(_, snapshot)| reacts(snapshot)).map(|(run, _)| run));
    }
    Ok(reacting)
}

/// Returns the runs that may have open steps for some records or for their addresses.
pub(super) async fn open_for_opt_out(tx: &Tx, viewer: &Viewer, records: &[record::Model]) -> Result<Vec<RunId>> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let (records, keys) = records_and_keys(records);
    ids(tx, viewer, open_runs(tx, &records, &keys)).await
}

fn records_and_keys(records: &[record::Model]) -> (Vec<RecordId>, Vec<String>) {
    (records.iter().map(|record| record.id).collect(), crate::domain::audience::suppression::keys(records))
}

async fn ids(tx: &Tx, viewer: &Viewer, condition: Condition) -> Result<Vec<RunId>> {
    let runs = run::Entity::find().select_only().column(run::Column::Id).filter(run::COLUMN.org_id.eq(viewer.org_id));
    Ok(runs.filter(condition).into_tuple().all(tx.db()).await?)
}

/// Locks runs in one statement, in the order of their ids.
pub(super) async fn lock_in_order(tx: &Tx, viewer: &Viewer, runs: Vec<RunId>) -> Result<Vec<run::Model>> {
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    lock(tx, viewer, Condition::all().add(any_of(tx.dialect(), run::COLUMN.id, runs))).await
}

async fn lock(tx: &Tx, viewer: &Viewer, condition: Condition) -> Result<Vec<run::Model>> {
    Ok(run::Entity::find()
        .filter(run::COLUMN.org_id.eq(viewer.org_id))
        .filter(condition)
        .order_by_asc(run::COLUMN.id)
        .lock_exclusive()
        .all(tx.db())
        .await?)
}

/// Applies an event about records to every run that is working on them, except the one whose step
/// caused it; the caller changes the records' rows.
pub(crate) async fn interrupt_records(
    tx: &Tx,
    viewer: &Viewer,
    records: &[RecordId],
    name: &str,
    except: Option<RunId>,
) -> Result<()> {
    let runs = reacting(tx, viewer, records, &[name]).await?.into_iter().filter(|run| Some(*run) != except);
    for run in lock_in_order(tx, viewer, runs.collect()).await? {
        let recipients = run_record::Entity::find()
            .filter(run_record::COLUMN.run_id.eq(run.id))
            .filter(any_of(tx.dialect(), run_record::COLUMN.record_id, records.iter().copied()))
            .all(tx.db())
            .await?;
        let recipients: Vec<RunRecordId> = recipients.into_iter().map(|recipient| recipient.id).collect();
        store_early(tx, &run, records, name).await?;
        // None of the records may be a recipient yet.
        if !recipients.is_empty() {
            interrupt(tx, run, &recipients, name).await?;
        }
    }
    Ok(())
}

/// Applies opt-outs of records, and of every record with one of their addresses: in every open run,
/// their unsent messages are suppressed, and the event interrupts. The caller changes the records'
/// rows.
pub(crate) async fn opted_out(tx: &Tx, viewer: &Viewer, records: &[record::Model]) -> Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let (ids, keys) = records_and_keys(records);
    for run in lock(tx, viewer, open_runs(tx, &ids, &keys)).await? {
        let affected = Condition::any()
            .add(any_of(tx.dialect(), run_record::COLUMN.record_id, ids.iter().copied()))
            .add(any_of(tx.dialect(), run_record::Column::AddressKey, keys.iter().cloned()));
        let recipients = run_record::Entity::find().filter(run_record::COLUMN.run_id.eq(run.id)).filter(affected);
        let recipients: Vec<RunRecordId> =
            recipients.all(tx.db()).await?.into_iter().map(|recipient| recipient.id).collect();
        if recipients.is_empty() {
            continue;
        }
        // A call in progress continues: the caller reports its outcome.
        let calling = calling(tx, &recipients).await?;
        let recipients: Vec<RunRecordId> =
            recipients.into_iter().filter(|recipient| !calling.contains(recipient)).collect();
        if run.run_type != RunType::TestRun && AT_WORK.contains(&run.status) {
            suppress(tx, &run, &recipients).await?;
        }
        if !recipients.is_empty() {
            interrupt(tx, run, &recipients, "record.unsubscribed").await?;
        }
    }
    Ok(())
}

/// Returns the recipients that a person is calling now.
async fn calling(tx: &Tx, recipients: &[RunRecordId]) -> Result<Vec<RunRecordId>> {
    let found: Vec<Option<RunRecordId>> = step::Entity::find()
        .select_only()
        .column(step::Column::RunRecordId)
        .filter(any_of(tx.dialect(), step::COLUMN.run_record_id, recipients.iter().copied()))
        .filter(step::Column::Kind.eq(crate::domain::plan::run_template::CALL))
        .filter(step::COLUMN.status.eq(StepStatus::InProgress))
        .into_tuple()
        .all(tx.db())
        .await?;
    Ok(found.into_iter().flatten().collect())
}

/// Suppresses the unsent messages of recipients that opted out, and the recipients with them.
async fn suppress(tx: &Tx, run: &run::Model, recipients: &[RunRecordId]) -> Result<()> {
    let engine = Viewer::engine(run.org_id);
    let closed = crate::domain::message::communication::suppress_unsent(tx, &engine, run, recipients).await?;
    run_record::Entity::update_many()
        .col_expr(run_record::Column::Outcome, Expr::value(Outcome::Suppressed.to_value()))
        .col_expr(run_record::Column::Reason, Expr::value(crate::domain::audience::suppression::UNSUBSCRIBED))
        .filter(any_of(tx.dialect(), run_record::COLUMN.id, closed))
        .filter(run_record::COLUMN.outcome.is_null())
        .filter(close::nothing_sent())
        .exec(tx.db())
        .await?;
    Ok(())
}

//! An event about records stops what is open for them in an interruptible phase, and wakes the steps that wait for it.

use std::collections::{HashMap, HashSet};

use entity::definition::Trigger;
use entity::id::*;
use entity::run_record::{self, Outcome};
use entity::step::{self, StepStatus};
use entity::{Actor, PhaseStatus, RunStatus, run};
use sea_orm::sea_query::{Expr, Query};
use sea_orm::{ActiveEnum, ColumnTrait, EntityTrait, QueryFilter};

use super::{advance, begin, sweep};
use crate::db::Tx;
use crate::error::Result;
use crate::viewer::Viewer;

/// An event about some places of a run's audience: first wakes the steps that wait for it, then stops what is open for
/// the places in the phase at work, where the event interrupts it, sparing those. The run is locked.
pub(crate) async fn interrupt(tx: &Tx, run: run::Model, places: &[RunRecordId], name: &str) -> Result<()> {
    let engine = Viewer::engine(run.org_id);
    if run.status != RunStatus::InProgress {
        return Ok(());
    }
    let phases = super::phase::of_runs(tx.db(), &engine, &[run.id]).await?;
    let Some(phase) = phases.into_iter().find(|phase| phase.status == PhaseStatus::Active) else { return Ok(()) };
    if !phase.interrupt_events.0.iter().any(|event| event == name) {
        return Ok(());
    }
    let mine = step::Entity::find()
        .filter(step::COLUMN.run_record_id.is_in(places.iter().copied()))
        .filter(step::COLUMN.phase_id.eq(phase.id))
        .all(tx.db())
        .await?;
    let woken = woken(tx, &engine, &run, phase.id, places, &mine, name).await?;
    let waiting = Trigger::Event(name.to_owned()).to_string();
    let open: Vec<step::Model> = mine
        .into_iter()
        .filter(|step| StepStatus::OPEN.contains(&step.status) && step.lease_owner.is_none() && step.trigger != waiting)
        // Whether that message went out is for a person to say.
        .filter(|step| step.status != StepStatus::AwaitingApproval)
        .collect();
    let stopped: Vec<RunRecordId> = open.iter().filter_map(|step| step.run_record_id).collect();
    if !open.is_empty() {
        crate::communication::drop_of_places(tx, &engine, &run, &stopped, name).await?;
        run_record::Entity::update_many()
            .col_expr(run_record::Column::Outcome, Expr::value(Outcome::Skipped.to_value()))
            .col_expr(run_record::Column::Reason, Expr::value(format!("INTERRUPTED: {name}")))
            .filter(run_record::COLUMN.id.is_in(stopped))
            .exec(tx.db())
            .await?;
        sweep::skip(tx, &engine, &run, open, Some(format!("interrupted by {name}"))).await?;
    }
    begin::insert(tx, &run, &Actor::engine(), woken).await?;
    advance::advance(tx, &engine, run).await?;
    Ok(())
}

/// The steps that the event makes: those of the phase that wait for it, for each place that has none yet.
async fn woken(
    tx: &Tx,
    engine: &Viewer,
    run: &run::Model,
    phase: PhaseId,
    places: &[RunRecordId],
    made: &[step::Model],
    name: &str,
) -> Result<Vec<step::Model>> {
    let trigger = Trigger::Event(name.to_owned());
    let made: HashSet<(Option<RunRecordId>, TaskId, &str)> =
        made.iter().map(|step| (step.run_record_id, step.task_id, step.key.as_str())).collect();
    let tasks = super::task::of_runs(tx.db(), engine, &[run.id]).await?;
    let brief = super::brief::of(tx.db(), run).await?;
    let mut records: Option<HashMap<RunRecordId, Option<RecordId>>> = None;
    let mut woken = Vec::new();
    for task in tasks.iter().filter(|task| task.phase_id == phase) {
        let steps = brief.task(&task.key).into_iter().flat_map(|declared| &declared.steps).enumerate();
        for (i, declared) in steps.filter(|(_, declared)| declared.trigger == trigger) {
            if records.is_none() {
                let rows = run_record::Entity::find().filter(run_record::COLUMN.id.is_in(places.iter().copied()));
                records = Some(rows.all(tx.db()).await?.into_iter().map(|row| (row.id, row.record_id)).collect());
            }
            for (place, record) in records.iter().flatten() {
                if !made.contains(&(Some(*place), task.id, declared.key.as_str())) {
                    woken.push(begin::blank(tx, run, task, declared, i, Some((*place, *record))));
                }
            }
        }
    }
    Ok(woken)
}

/// Runs in which something may be open for some records, in the order in which they are locked.
pub(crate) async fn runs_of(tx: &Tx, records: &[RecordId]) -> Result<Vec<RunId>> {
    use sea_orm::{QueryOrder, QuerySelect};
    let mut theirs = Query::select();
    theirs
        .column(run_record::Column::RunId)
        .from(run_record::Entity)
        .and_where(run_record::COLUMN.record_id.is_in(records.iter().copied()))
        .and_where(run_record::COLUMN.outcome.is_null());
    Ok(run::Entity::find()
        .select_only()
        .column(run::Column::Id)
        .filter(run::COLUMN.id.in_subquery(theirs))
        .filter(run::COLUMN.status.eq(RunStatus::InProgress))
        .order_by_asc(run::COLUMN.id)
        .into_tuple()
        .all(tx.db())
        .await?)
}

/// The same event about records, in every run that is at work on them; their rows are changed by the caller.
pub(crate) async fn interrupt_records(tx: &Tx, viewer: &Viewer, records: &[RecordId], name: &str) -> Result<()> {
    for id in runs_of(tx, records).await? {
        let run = super::must_lock(tx, viewer, id, None).await?;
        let places = run_record::Entity::find()
            .filter(run_record::COLUMN.run_id.eq(id))
            .filter(run_record::COLUMN.record_id.is_in(records.iter().copied()))
            .all(tx.db())
            .await?;
        let places: Vec<RunRecordId> = places.into_iter().map(|place| place.id).collect();
        interrupt(tx, run, &places, name).await?;
    }
    Ok(())
}

//! Steps whose holder did not come back in time go back into the queue; too often, and they fail with LEASE_LOST.

use std::collections::BTreeMap;

use entity::RunStatus;
use entity::id::*;
use entity::step::{self, StepAct, StepStatus};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Set};

use super::{Gear, Wake};
use crate::error::Result;
use crate::run::step::Change;
use crate::run::{self as runs, advance};
use crate::viewer::Viewer;
use crate::{limits, transact};

/// Looks for lapsed leases, for ever.
pub(super) async fn run(gear: Gear, mut wake: Wake) {
    loop {
        wake.look();
        if let Err(err) = tick(&gear).await {
            tracing::error!(error = %err, "lapsed leases could not be taken back");
        }
        if !wake.wait().await {
            return;
        }
    }
}

/// Takes back what has lapsed. Says how many.
pub async fn tick(gear: &Gear) -> Result<usize> {
    let lapsed = step::Entity::find()
        .filter(super::perform::lapsed(gear.db.now()))
        .order_by_asc(step::COLUMN.id)
        .limit(limits::CHUNK)
        .all(gear.db.read())
        .await?;
    let mut by_run: BTreeMap<(OrgId, RunId), Vec<StepId>> = BTreeMap::new();
    for step in &lapsed {
        by_run.entry((step.org_id, step.run_id)).or_default().push(step.id);
    }
    let count = lapsed.len();
    for ((org_id, run_id), ids) in by_run {
        let engine = Viewer::engine(org_id);
        transact!(gear.db, |tx| {
            let run = runs::must_lock(tx, &engine, run_id, None).await?;
            let found = step::Entity::find()
                .filter(super::perform::lapsed(tx.now()))
                .filter(step::COLUMN.id.is_in(ids.iter().copied()))
                .all(tx.db())
                .await?;
            let mut changes = Vec::new();
            for step in found {
                let again = step.lapse_count + 1 < limits::LAPSES;
                let cancelled = run.status == RunStatus::Cancelled;
                let (act, kind, why) = match (cancelled, again) {
                    (true, _) => (StepAct::Skip, "step.skipped", "the run was cancelled"),
                    (false, true) => (StepAct::Lapse { again }, "step.retried", "its lease lapsed"),
                    (false, false) => {
                        (StepAct::Lapse { again }, "step.failed", "LEASE_LOST: its lease lapsed too often")
                    }
                };
                changes.push(lapse(tx, step, act, kind, why).await?);
            }
            runs::step::note(tx, &run, &engine.actor(), &changes).await?;
            close_places(tx, &engine, &run, &changes).await?;
            advance::advance(tx, &engine, run).await?;
            Ok(())
        })?;
    }
    Ok(count)
}

async fn lapse(tx: &crate::db::Tx, step: step::Model, act: StepAct, kind: &'static str, why: &str) -> Result<Change> {
    use entity::Law;
    let (lapses, revision) = (step.lapse_count, step.revision);
    let to = StepStatus::InProgress.next(act).unwrap_or(StepStatus::Failed);
    let mut row = step.into_active_model();
    row.status = Set(to);
    row.lease_owner = Set(None);
    row.lease_expires_at = Set(None);
    row.lapse_count = Set(lapses + 1);
    row.available_at = Set(tx.now());
    row.error = Set(Some(why.to_owned()));
    row.completed_at = Set((to != StepStatus::Queued).then(|| tx.now()));
    row.revision = Set(revision + 1);
    let step = row.update(tx.db()).await?;
    Ok(Change { step, from: Some(StepStatus::InProgress), kind, reason: Some(why.to_owned()) })
}

/// What came of the places whose steps are closed with this: unknown where a hand-over was cut short.
async fn close_places(tx: &crate::db::Tx, engine: &Viewer, run: &entity::run::Model, changes: &[Change]) -> Result<()> {
    use entity::run_record::Outcome as Fate;
    let closed: Vec<&step::Model> =
        changes.iter().map(|change| &change.step).filter(|step| step.status != StepStatus::Queued).collect();
    let places: Vec<RunRecordId> = closed.iter().filter_map(|step| step.run_record_id).collect();
    if places.is_empty() {
        return Ok(());
    }
    let lost = crate::communication::lose_of_places(tx, engine, run, &places).await?;
    crate::communication::drop_of_places(tx, engine, run, &places, "its step was given up").await?;
    let fates: Vec<_> = closed
        .into_iter()
        .map(|step| {
            let unknown = step.run_record_id.is_some_and(|place| lost.contains(&place));
            let fate = match step.status {
                _ if unknown => Fate::Unknown,
                StepStatus::Failed => Fate::Failed,
                _ => Fate::Skipped,
            };
            (step, Some(fate), step.error.clone())
        })
        .collect();
    crate::work::fates(tx, &fates).await
}

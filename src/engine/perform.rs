//! Claim, perform, settle: two short transactions with nothing held between them, for a batch of steps at once.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use entity::id::*;
use entity::step::{self, StepStatus};
use entity::{Actor, RunStatus};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, Statement};
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};
use tracing::Instrument;

use super::Gear;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::run::step::Change;
use crate::run::step::hold::{self, Holder};
use crate::run::{self as runs, advance};
use crate::viewer::Viewer;
use crate::work::{Claimed, Outcome, Work};
use crate::{failpoint, limits, transact};

/// Takes what there is to do, up to a batch, and does it. Says how many.
pub async fn tick<W: Work>(gear: &Gear, work: &W) -> Result<usize> {
    tick_in_turn(gear, work, &Mutex::new(())).await
}

/// The same, for one of several that do the same work: they claim one after the other, since they would find the same steps.
pub(super) async fn tick_in_turn<W: Work>(gear: &Gear, work: &W, claiming: &Mutex<()>) -> Result<usize> {
    let mine = claiming.lock().await;
    let room = work.room(&gear.db).await?;
    if room == 0 {
        return Ok(0);
    }
    let candidates = candidates(&gear.db, W::KIND, room).await?;
    if candidates.is_empty() {
        return Ok(0);
    }
    let span = tracing::info_span!("work", kind = W::KIND, steps = tracing::field::Empty);
    turn(gear, work, &candidates, mine).instrument(span).await
}

/// One batch, from claim to settle; others may claim once this one has.
async fn turn<W: Work>(
    gear: &Gear,
    work: &W,
    candidates: &[(StepId, RunId)],
    claiming: MutexGuard<'_, ()>,
) -> Result<usize> {
    let begun = std::time::Instant::now();
    let claimed = claim(gear, candidates).instrument(tracing::info_span!("claim")).await?;
    drop(claiming);
    if claimed.is_empty() {
        return Ok(0);
    }
    tracing::Span::current().record("steps", claimed.len());
    metrics::counter!("sortie_steps_claimed_total", "kind" => W::KIND).increment(claimed.len() as u64);
    failpoint::reach("claimed");
    let outcomes = perform(gear, work, &claimed).instrument(tracing::info_span!("perform")).await;
    keep(gear, work, &claimed, &outcomes).instrument(tracing::info_span!("settle")).await?;
    failpoint::reach("settled");
    metrics::histogram!("sortie_work_seconds", "kind" => W::KIND).record(begun.elapsed());
    Ok(claimed.len())
}

/// Claims steps of a kind: one guarded update writes lease and attempt.
async fn claim(gear: &Gear, candidates: &[(StepId, RunId)]) -> Result<Vec<Claimed>> {
    transact!(gear.db, |tx| {
        let holder = Holder {
            owner: gear.worker.clone(),
            token: None,
            until: tx.now() + chrono::Duration::from_std(gear.lease).map_err(Error::ours)?,
            actor: Actor::engine(),
        };
        let claimed = hold::claim(tx, candidates, &holder).await?;
        Ok(claimed.into_iter().map(|(step, run)| Claimed { step, run }).collect())
    })
}

/// Steps that look claimable; the claim itself judges again. Without a write, so that idling costs none.
async fn candidates(db: &Db, kind: &str, most: u64) -> Result<Vec<(StepId, RunId)>> {
    let sql = "SELECT s.id, s.run_id FROM step s JOIN run r ON r.id = s.run_id LEFT JOIN campaign c ON c.id = r.campaign_id \
               JOIN phase p ON p.id = s.phase_id WHERE s.status = 'QUEUED' AND s.kind = $1 AND s.available_at <= $2 \
               AND s.assigned_to = 'WORKFLOW' AND r.status = 'IN_PROGRESS' AND (c.id IS NULL OR c.status <> 'PAUSED') \
               AND p.status = 'ACTIVE' ORDER BY s.available_at, s.id LIMIT $3";
    let most = i64::try_from(most).map_err(Error::ours)?;
    let values = [kind.into(), db.now().into(), most.into()];
    let rows =
        db.read().query_all_raw(Statement::from_sql_and_values(db.read().get_database_backend(), sql, values)).await?;
    rows.iter().map(|row| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?))).collect()
}

/// Performs, and keeps the leases alive meanwhile. A failure of ours is a failure of each step, which may succeed again.
async fn perform<W: Work>(gear: &Gear, work: &W, claimed: &[Claimed]) -> Vec<Outcome<W::Note>> {
    let renewing = async {
        let mut beat = tokio::time::interval(gear.lease / 3);
        beat.tick().await;
        loop {
            beat.tick().await;
            if let Err(err) = renew(gear, claimed).await {
                tracing::warn!(error = %err, "leases could not be renewed");
            }
        }
    };
    // Side by side: work that stands still while its leases are renewed may hold the very connection that renewing needs.
    let outcome = tokio::select! {
        outcome = work.perform(&gear.db, claimed) => outcome,
        () = renewing => return Vec::new(),
    };
    match outcome {
        Ok(outcomes) => outcomes,
        Err(err) => {
            tracing::error!(kind = W::KIND, error = %err, "performing failed");
            let failed = |_: &Claimed| Outcome::Failed {
                why: "an error of ours; see the log".into(),
                again: true,
                after: None,
                note: None,
            };
            claimed.iter().map(failed).collect()
        }
    }
}

async fn renew(gear: &Gear, claimed: &[Claimed]) -> Result<()> {
    transact!(gear.db, |tx| {
        let expires = tx.now() + chrono::Duration::from_std(gear.lease).map_err(Error::ours)?;
        step::Entity::update_many()
            .col_expr(step::Column::LeaseExpiresAt, Expr::value(expires))
            .filter(step::COLUMN.id.is_in(claimed.iter().map(|claim| claim.step.id)))
            .filter(step::COLUMN.lease_owner.eq(gear.worker.clone()))
            .filter(step::COLUMN.status.eq(StepStatus::InProgress))
            .exec(tx.db())
            .await?;
        Ok(())
    })
}

/// Settles, and tries again while the database is away: what was done is done, and nobody else knows. Who comes too late
/// for that finds no row.
async fn keep<W: Work>(gear: &Gear, work: &W, claimed: &[Claimed], outcomes: &[Outcome<W::Note>]) -> Result<()> {
    let begun = tokio::time::Instant::now();
    let mut pause = std::time::Duration::from_millis(50);
    loop {
        match settle(gear, work, claimed, outcomes).await {
            Err(err) if err.db().is_some() && begun.elapsed() < limits::KEEP => {
                tracing::warn!(kind = W::KIND, error = %err, "work could not be settled; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(limits::POLL);
                // Whether that works or not is for the settle to find out.
                let _ = renew(gear, claimed).await;
            }
            outcome => return outcome,
        }
    }
}

/// Settles each run's steps in one transaction: results, events, counters, what follows. Who comes late finds no row.
async fn settle<W: Work>(gear: &Gear, work: &W, claimed: &[Claimed], outcomes: &[Outcome<W::Note>]) -> Result<()> {
    let mut by_run: BTreeMap<RunId, Vec<_>> = BTreeMap::new();
    for (claim, outcome) in claimed.iter().zip(outcomes) {
        by_run.entry(claim.run.id).or_default().push((&claim.step, outcome));
    }
    for (run_id, performed) in by_run {
        let engine = Viewer::engine(performed[0].0.org_id);
        transact!(gear.db, |tx| {
            let run = runs::must_lock(tx, &engine, run_id, None).await?;
            let brief = runs::brief::of(tx.db(), &run).await?;
            let how = |step: &step::Model| brief.step(&step.key).and_then(|(_, declared)| declared.retry);
            let actor = Actor::engine();
            let rows =
                performed.iter().map(|(step, outcome)| hold::row(tx, &run, step, outcome.ended(), how(step), &actor));
            let rows: Vec<Value> = rows.collect();
            let steps = hold::update(tx, &gear.worker, rows).await?;
            let changes: Vec<Change> = steps.iter().map(hold::settled).collect();
            let settled: Vec<(step::Model, &Outcome<W::Note>)> = steps
                .into_iter()
                .filter_map(|step| {
                    let (_, outcome) = performed.iter().find(|(before, _)| before.id == step.id)?;
                    Some((step, *outcome))
                })
                .collect();
            work.record(tx, &run, &settled).await?;
            if run.status == RunStatus::Cancelled {
                let places: Vec<RunRecordId> = settled.iter().filter_map(|(step, _)| step.run_record_id).collect();
                runs::sweep::cancel::settled(tx, &engine, &run, &places).await?;
            }
            runs::step::note(tx, &run, &engine.actor(), &changes).await?;
            runs::follow::follow(tx, &run, &brief, &changes).await?;
            advance::advance(tx, &engine, run).await?;
            failpoint::reach("settling");
            Ok(())
        })?;
        for (_, outcome) in &performed {
            let outcome = match outcome {
                Outcome::Done { .. } => "done",
                Outcome::Later { .. } => "later",
                Outcome::Skipped { .. } => "skipped",
                Outcome::Unknown { .. } => "unknown",
                Outcome::Failed { again: true, .. } => "retried",
                Outcome::Failed { again: false, .. } => "failed",
            };
            metrics::counter!("sortie_steps_settled_total", "kind" => W::KIND, "outcome" => outcome).increment(1);
        }
    }
    Ok(())
}

/// Leases that have run out by this time are free for others.
pub(super) fn lapsed(at: DateTime<Utc>) -> sea_orm::Condition {
    sea_orm::Condition::all()
        .add(step::COLUMN.status.eq(StepStatus::InProgress))
        .add(step::COLUMN.lease_owner.is_not_null())
        .add(step::COLUMN.lease_expires_at.lt(at))
}

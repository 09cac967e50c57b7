//! Settles a batch of performed steps, each run's in one transaction. If that fails, settles them
//! in halves: the one step that can't be settled fails with the reason, and the others are settled.

use std::collections::BTreeMap;
use std::time::Duration;

use entity::id::*;
use entity::step;
use entity::{Actor, RunStatus};
use serde_json::Value;
use tokio::time::Instant;

use super::EngineContext;
use super::failed_work::{FailedWork, guarded};
use crate::domain::run::step::Change;
use crate::domain::run::step::lease::{self, Settler};
use crate::domain::run::{self as runs, advance};
use crate::kernel::error::Result;
use crate::kernel::stuck::{StuckWork, WorkItem};
use crate::kernel::viewer::Viewer;
use crate::kernel::{failpoint, limits};
use crate::step_kind::{Claimed, Outcome, Work};
use crate::transact;

/// A step and its outcome.
type Performed<'a, N> = (&'a step::Model, &'a Outcome<N>);

/// Settles steps of a batch, given by their index in it. Retries while the database is unavailable:
/// the steps' effects have happened, and only this process knows their outcomes. A step whose lease
/// was lost meanwhile matches no row and is ignored.
pub(super) async fn settle_batch<W: Work>(
    context: &EngineContext,
    work: &W,
    claimed: &[Claimed],
    outcomes: &[(usize, Outcome<W::Outcome>)],
) -> Result<()> {
    let begun = Instant::now();
    let mut by_run: BTreeMap<(RunId, OrgId), Vec<Performed<'_, W::Outcome>>> = BTreeMap::new();
    for (number, outcome) in outcomes {
        let Some(claim) = claimed.get(*number) else { continue };
        by_run.entry((claim.run.id, claim.run.org_id)).or_default().push((&claim.step, outcome));
    }
    let failed_work = FailedWork::read(context, &[StuckWork::Settle, StuckWork::Claim]).await.unwrap_or_default();
    for ((run_id, org_id), performed) in by_run {
        // The steps were claimed, so that an earlier failure to claim is over.
        failed_work.record(context, WorkItem::of_run(StuckWork::Claim, org_id, run_id), Ok(())).await;
        let mut outcome = Ok(());
        let mut open: Vec<&[Performed<'_, W::Outcome>]> = vec![&performed];
        while let Some(part) = open.pop() {
            match with_retries(context, work, claimed, run_id, part, begun).await {
                Err(err) if err.is_transient() => return Err(err),
                Err(err) if part.len() > 1 => {
                    log_failure!(warn, err, kind = W::KIND, steps = part.len(), "a settle failed; trying halves");
                    let (first, second) = part.split_at(part.len() / 2);
                    open.extend([second, first]);
                }
                Err(err) => {
                    log_failure!(error, err, kind = W::KIND, step = %part[0].0.id, "a step could not be settled");
                    // The outcome can't be stored, so that the step fails with that reason. If that
                    // can't be stored either, the run is set aside.
                    let unstorable = work.unstorable(part[0].1, &format!("UNSTORABLE: {}", err.public_message()));
                    let part = [(part[0].0, &unstorable)];
                    outcome = outcome.and(with_retries(context, work, claimed, run_id, &part, begun).await);
                }
                Ok(()) => {}
            }
        }
        // The run's settle has failed if any of its steps' did.
        failed_work.record(context, WorkItem::of_run(StuckWork::Settle, org_id, run_id), outcome).await;
    }
    Ok(())
}

/// Settles steps of a run, with retries while the database is unavailable.
async fn with_retries<W: Work>(
    context: &EngineContext,
    work: &W,
    claimed: &[Claimed],
    run_id: RunId,
    part: &[Performed<'_, W::Outcome>],
    begun: Instant,
) -> Result<()> {
    let mut pause = Duration::from_millis(50);
    loop {
        match guarded(settle(context, work, run_id, part)).await {
            Err(err) if err.is_transient() && begun.elapsed() < limits::SETTLE_RETRY_TIME => {
                log_failure!(warn, err, kind = W::KIND, "work could not be settled; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(limits::POLL);
                // A failure is ignored here: the settle finds lost leases itself.
                let _ = super::lease::renew(context, claimed).await;
            }
            outcome => return outcome,
        }
    }
}

/// Settles steps of a run in one transaction: results, events, counters, dependents. A step whose
/// lease was lost matches no row.
async fn settle<W: Work>(
    context: &EngineContext,
    work: &W,
    run_id: RunId,
    performed: &[Performed<'_, W::Outcome>],
) -> Result<()> {
    let Some((first, _)) = performed.first() else { return Ok(()) };
    let engine = Viewer::engine(first.org_id);
    let records = work.changed_records(performed);
    transact!(context.db, |tx| {
        if !records.is_empty() {
            runs::record_change::lock_runs(tx, &engine, &records, &[], Some(run_id)).await?;
        }
        let run = runs::must_lock(tx, &engine, run_id, None).await?;
        let snapshot = runs::snapshot::of(tx.db(), &run).await?;
        let declared = |step: &step::Model| snapshot.step(&step.key).map(|(_, declared)| declared);
        let settler = Settler { actor: Actor::engine(), member_id: None };
        let rows = performed
            .iter()
            .map(|(step, outcome)| lease::row(tx, &run, step, outcome.ended(), declared(step), &settler));
        let rows: Vec<Value> = rows.collect();
        let steps = lease::update(tx, &context.worker, rows).await?;
        let changes: Vec<Change> = steps.iter().map(lease::settled).collect();
        let settled: Vec<(step::Model, &Outcome<W::Outcome>)> = steps
            .into_iter()
            .filter_map(|step| {
                let (_, outcome) = performed.iter().find(|(before, _)| before.id == step.id)?;
                Some((step, *outcome))
            })
            .collect();
        work.record(tx, &run, &settled).await?;
        runs::step_messages::cancel_unapproved(tx, &run, &snapshot, settled.iter().map(|(step, _)| step)).await?;
        runs::interrupt::settled(tx, &engine, &run, settled.iter().map(|(step, _)| step)).await?;
        if run.status == RunStatus::Cancelled {
            let recipients: Vec<RunRecordId> = settled.iter().filter_map(|(step, _)| step.run_record_id).collect();
            runs::sweep::cancel::settled(tx, &engine, &run, &recipients).await?;
        }
        runs::step::record_changes(tx, &run, &engine.actor(), &changes).await?;
        runs::dependents::advance(tx, &run, &snapshot, &changes).await?;
        advance::advance(tx, &engine, run).await?;
        failpoint::reach("settling");
        Ok(())
    })?;
    for (_, outcome) in performed {
        let outcome = match outcome {
            Outcome::Done { .. } => "done",
            Outcome::Later { .. } => "later",
            Outcome::Skipped { .. } => "skipped",
            Outcome::Unknown { .. } => "unknown",
            Outcome::Failed { retryable: true, .. } => "retried",
            Outcome::Failed { retryable: false, .. } => "failed",
        };
        metrics::counter!("sortie_steps_settled_total", "kind" => W::KIND, "outcome" => outcome).increment(1);
    }
    Ok(())
}

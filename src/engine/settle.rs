//! The settle of a batch: each run's steps in one transaction; where that fails, in halves, so that one bad step stays
//! alone and is given up with the reason, and the others are settled.

use std::collections::BTreeMap;
use std::time::Duration;

use entity::id::*;
use entity::step;
use entity::{Actor, RunStatus};
use serde_json::Value;
use tokio::time::Instant;

use super::EngineContext;
use super::failed_work::{FailedWork, guarded};
use super::perform::renew;
use crate::domain::run::step::Change;
use crate::domain::run::step::lease;
use crate::domain::run::{self as runs, advance};
use crate::kernel::error::Result;
use crate::kernel::stuck::{StuckWork, WorkItem};
use crate::kernel::viewer::Viewer;
use crate::kernel::{failpoint, limits};
use crate::step_kind::{Claimed, Outcome, Work};
use crate::transact;

/// A step and what came of it.
type Came<'a, N> = (&'a step::Model, &'a Outcome<N>);

/// Settles steps of a batch, by their number in it, and tries again while the database is away: what was done is done, and nobody else knows. Who comes too late
/// for that finds no row.
pub(super) async fn keep<W: Work>(
    context: &EngineContext,
    work: &W,
    claimed: &[Claimed],
    outcomes: &[(usize, Outcome<W::Outcome>)],
) -> Result<()> {
    let begun = Instant::now();
    let mut by_run: BTreeMap<(RunId, OrgId), Vec<Came<'_, W::Outcome>>> = BTreeMap::new();
    for (number, outcome) in outcomes {
        let Some(claim) = claimed.get(*number) else { continue };
        by_run.entry((claim.run.id, claim.run.org_id)).or_default().push((&claim.step, outcome));
    }
    let aside = FailedWork::of(context, &[StuckWork::Settle, StuckWork::Claim]).await.unwrap_or_default();
    for ((run_id, org_id), came) in by_run {
        // They were claimed, so that this is past.
        aside.keep(context, WorkItem::of_run(StuckWork::Claim, org_id, run_id), Ok(())).await;
        let mut outcome = Ok(());
        let mut open: Vec<&[Came<'_, W::Outcome>]> = vec![&came];
        while let Some(part) = open.pop() {
            match with_retries(context, work, claimed, run_id, part, begun).await {
                Err(err) if err.passes() => return Err(err),
                Err(err) if part.len() > 1 => {
                    log_failure!(warn, err, kind = W::KIND, steps = part.len(), "a settle failed; trying halves");
                    let (first, second) = part.split_at(part.len() / 2);
                    open.extend([second, first]);
                }
                Err(err) => {
                    log_failure!(error, err, kind = W::KIND, step = %part[0].0.id, "a step could not be settled");
                    // What it brought can't be kept: that is what is kept of it. Where not even that can be, it is the run
                    // that can't go on.
                    let unkept = work.unkept(part[0].1, &format!("UNSTORABLE: {}", err.told()));
                    let part = [(part[0].0, &unkept)];
                    outcome = outcome.and(with_retries(context, work, claimed, run_id, &part, begun).await);
                }
                Ok(()) => {}
            }
        }
        // Failed, where any of its steps did: the others' success is not its.
        aside.keep(context, WorkItem::of_run(StuckWork::Settle, org_id, run_id), outcome).await;
    }
    Ok(())
}

/// Settles steps of a run, again and again while the database is away.
async fn with_retries<W: Work>(
    context: &EngineContext,
    work: &W,
    claimed: &[Claimed],
    run_id: RunId,
    part: &[Came<'_, W::Outcome>],
    begun: Instant,
) -> Result<()> {
    let mut pause = Duration::from_millis(50);
    loop {
        match guarded(settle(context, work, run_id, part)).await {
            Err(err) if err.passes() && begun.elapsed() < limits::KEEP => {
                log_failure!(warn, err, kind = W::KIND, "work could not be settled; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(limits::POLL);
                // Whether that works or not is for the settle to find out.
                let _ = renew(context, claimed).await;
            }
            outcome => return outcome,
        }
    }
}

/// Settles steps of a run in one transaction: results, events, counters, what follows. Who comes late finds no row.
async fn settle<W: Work>(
    context: &EngineContext,
    work: &W,
    run_id: RunId,
    came: &[Came<'_, W::Outcome>],
) -> Result<()> {
    let Some((first, _)) = came.first() else { return Ok(()) };
    let engine = Viewer::engine(first.org_id);
    transact!(context.db, |tx| {
        let run = runs::must_lock(tx, &engine, run_id, None).await?;
        let snapshot = runs::snapshot::of(tx.db(), &run).await?;
        let how = |step: &step::Model| snapshot.step(&step.key).and_then(|(_, declared)| declared.retry);
        let actor = Actor::engine();
        let rows = came.iter().map(|(step, outcome)| lease::row(tx, &run, step, outcome.ended(), how(step), &actor));
        let rows: Vec<Value> = rows.collect();
        let steps = lease::update(tx, &context.worker, rows).await?;
        let changes: Vec<Change> = steps.iter().map(lease::settled).collect();
        let settled: Vec<(step::Model, &Outcome<W::Outcome>)> = steps
            .into_iter()
            .filter_map(|step| {
                let (_, outcome) = came.iter().find(|(before, _)| before.id == step.id)?;
                Some((step, *outcome))
            })
            .collect();
        work.record(tx, &run, &settled).await?;
        runs::interrupt::settled(tx, &engine, &run, settled.iter().map(|(step, _)| step)).await?;
        if run.status == RunStatus::Cancelled {
            let places: Vec<RunRecordId> = settled.iter().filter_map(|(step, _)| step.run_record_id).collect();
            runs::sweep::cancel::settled(tx, &engine, &run, &places).await?;
        }
        runs::step::note(tx, &run, &engine.actor(), &changes).await?;
        runs::dependents::advance(tx, &run, &snapshot, &changes).await?;
        advance::advance(tx, &engine, run).await?;
        failpoint::reach("settling");
        Ok(())
    })?;
    for (_, outcome) in came {
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
    Ok(())
}

//! Claim, perform, settle: two short transactions with nothing held between them, for a batch of steps at once.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use entity::id::*;
use entity::step::{self, StepStatus};
use entity::{Actor, run};
use futures_util::FutureExt;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
use tokio::sync::Mutex;
use tracing::Instrument;

use super::failed_work::{FailedWork, guarded};
use super::slots::{OrgSlots, QueueWorker, SlotGuard};
use super::{EngineContext, settle, slots};
use crate::domain::run::step::lease::{self, LeaseHolder};
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, fair};
use crate::kernel::error::{Error, Result};
use crate::kernel::stuck::{StuckWork, WorkItem};
use crate::kernel::{failpoint, limits, storable};
use crate::step_kind::{Answer, Claimed, Outcome, Work};
use crate::transact;

/// Takes what there is to do, up to a batch, and does it. Says how many.
pub async fn tick<W: Work>(context: &EngineContext, work: &W) -> Result<usize> {
    tick_in_turn(context, work, &Mutex::new(())).await
}

/// The same, for one of several that do the same work: they claim one after the other, since they would find the same steps.
pub(super) async fn tick_in_turn<W: Work>(context: &EngineContext, work: &W, claiming: &Mutex<()>) -> Result<usize> {
    let claimed = {
        let _mine = claiming.lock().await;
        take(context, work, u64::MAX, None).await?
    };
    if claimed.is_empty() {
        return Ok(0);
    }
    turn(context, work, &claimed, SlotGuard::default()).await?;
    Ok(claimed.len())
}

/// Steps that hand something over to an outside, which may let some of them wait.
#[derive(Debug)]
pub(super) struct Steps<W> {
    /// What every loop needs.
    pub(super) context: EngineContext,
    /// The work.
    pub(super) work: W,
}

impl<W: Work> QueueWorker for Steps<W> {
    type Taken = Claimed;
    const NAME: &'static str = W::KIND;

    fn slots(&self) -> u64 {
        self.work.batch()
    }

    fn is_shared(&self) -> bool {
        self.work.is_shared()
    }

    fn org(taken: &Claimed) -> OrgId {
        taken.run.org_id
    }

    async fn take(&self, most: u64, shares: Option<&OrgSlots>) -> Result<Vec<Claimed>> {
        take(&self.context, &self.work, most, shares).await
    }

    async fn finish(&self, taken: Vec<Claimed>, held: SlotGuard) -> Result<()> {
        turn(&self.context, &self.work, &taken, held).await
    }
}

/// Claims what there is to do, up to a batch, and up to so many.
async fn take<W: Work>(
    context: &EngineContext,
    work: &W,
    most: u64,
    shares: Option<&OrgSlots>,
) -> Result<Vec<Claimed>> {
    // First whether there is anything: what room there is has to be looked up, too.
    let mut candidates = due(&context.db, work, work.batch().min(most), false, shares).await?;
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let room = work.room(&context.db).await?;
    let count = room.count.min(most);
    if room.latest_first && count > 0 {
        candidates = due(&context.db, work, count, true, shares).await?;
    }
    candidates.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let claimed = claim(context, &candidates).instrument(tracing::info_span!("claim", kind = W::KIND)).await?;
    if !claimed.is_empty() {
        metrics::counter!("sortie_steps_claimed_total", "kind" => W::KIND).increment(claimed.len() as u64);
        failpoint::reach("claimed");
    }
    Ok(claimed)
}

/// One batch, from claim to settle: each step is settled as soon as it is answered.
async fn turn<W: Work>(context: &EngineContext, work: &W, claimed: &[Claimed], held: SlotGuard) -> Result<()> {
    let begun = std::time::Instant::now();
    let renewing = async {
        let mut beat = tokio::time::interval(context.lease / 3);
        beat.tick().await;
        loop {
            beat.tick().await;
            if let Err(err) = renew(context, claimed).await {
                log_failure!(warn, err, "leases could not be renewed");
            }
        }
    };
    let working = async {
        let answers = each(context, work, claimed).instrument(tracing::info_span!("perform")).await;
        let answers =
            answers.into_iter().zip(claimed).map(|(answer, claim)| catch_panic(context, work, claim, answer).boxed());
        slots::answered(answers.collect(), held, move |came: Vec<(usize, Outcome<W::Outcome>)>| {
            let settling = async move { settle::keep(context, work, claimed, &came).await };
            settling.instrument(tracing::info_span!("settle"))
        })
        .await
    };
    let span = tracing::info_span!("work", kind = W::KIND, steps = claimed.len());
    // Side by side: work that stands still while its leases are renewed may hold the very connection that renewing needs.
    let outcome = async {
        tokio::select! {
            outcome = working => outcome,
            () = renewing => Ok(()),
        }
    };
    outcome.instrument(span).await?;
    failpoint::reach("settled");
    metrics::histogram!("sortie_work_seconds", "kind" => W::KIND).record(begun.elapsed());
    Ok(())
}

/// An answer, whatever happens on the way to it. After a panic the step is taken up once more: what it had handed over is
/// found then, and not handed over again.
async fn catch_panic<'a, W: Work>(
    context: &'a EngineContext,
    work: &'a W,
    claim: &'a Claimed,
    answer: Answer<'a, W::Outcome>,
) -> Outcome<W::Outcome> {
    let err = match guarded(answer.map(Ok)).await {
        Ok(outcome) => return outcome,
        Err(err) => err,
    };
    log_failure!(error, err, kind = W::KIND, step = %claim.step.id, "performing failed");
    match each(context, work, std::slice::from_ref(claim)).await.pop() {
        Some(answer) => guarded(answer.map(Ok)).await.unwrap_or_else(|_| failed("an error of ours; see the log")),
        None => failed("an error of ours; see the log"),
    }
}

/// Claims steps; those of a run that can't be claimed from are set aside, and the others are claimed alone.
async fn claim(context: &EngineContext, candidates: &[(StepId, RunId)]) -> Result<Vec<Claimed>> {
    let err = match claim_all(context, candidates).await {
        Err(err) if !err.passes() => err,
        outcome => return outcome,
    };
    log_failure!(warn, err, "steps could not be claimed together; trying each run's alone");
    let aside = FailedWork::of(context, &[StuckWork::Claim]).await?;
    let mut by_run: BTreeMap<RunId, Vec<(StepId, RunId)>> = BTreeMap::new();
    for one in candidates {
        by_run.entry(one.1).or_default().push(*one);
    }
    let mut claimed = Vec::new();
    for (run_id, mine) in by_run {
        let of = run::Entity::find_by_id(run_id).select_only().column(run::Column::OrgId);
        let Some(org_id) = of.into_tuple::<OrgId>().one(context.db.read()).await? else { continue };
        let outcome = claim_all(context, &mine).await;
        claimed.extend(
            aside.keep(context, WorkItem::of_run(StuckWork::Claim, org_id, run_id), outcome).await.unwrap_or_default(),
        );
    }
    Ok(claimed)
}

/// Claims steps: one guarded update writes lease and attempt.
async fn claim_all(context: &EngineContext, candidates: &[(StepId, RunId)]) -> Result<Vec<Claimed>> {
    transact!(context.db, |tx| {
        let holder = LeaseHolder {
            owner: context.worker.clone(),
            token: None,
            until: tx.now() + chrono::Duration::from_std(context.lease).map_err(Error::ours)?,
            actor: Actor::engine(),
        };
        let claimed = lease::claim(tx, candidates, &holder).await?;
        Ok(claimed.into_iter().map(|(step, run)| Claimed { step, run }).collect())
    })
}

/// Steps that look claimable; the claim itself judges again. Without a write, so that idling costs none.
///
/// Orgs take turns: one with very much that is due leaves the others theirs. A step over which processes have ended is taken up alone: if it ends this one, no other is set aside with it.
async fn due<W: Work>(
    db: &Db,
    work: &W,
    most: u64,
    latest_first: bool,
    shares: Option<&OrgSlots>,
) -> Result<Vec<(StepId, RunId)>> {
    let mut shares = shares.cloned();
    let full = shares.as_ref().map(OrgSlots::full).unwrap_or_default();
    let order = if latest_first { "DESC" } else { "ASC" };
    let of = work.of_runs();
    let rows = format!(
        "SELECT s.id, s.run_id, s.lapse_count, s.org_id FROM step s JOIN run r ON r.id = s.run_id LEFT JOIN campaign c ON c.id = r.campaign_id \
         JOIN phase p ON p.id = s.phase_id WHERE s.status = 'QUEUED' AND s.kind = $1 AND s.available_at <= $2 \
         AND s.assigned_to = 'WORKFLOW' AND r.status = 'IN_PROGRESS' AND (c.id IS NULL OR c.status <> 'PAUSED') \
         AND p.status = 'ACTIVE' AND s.run_id NOT IN (SELECT subject FROM stuck WHERE next_try_at > $2 \
         AND work IN ('CLAIM', 'RESCUE', 'SETTLE')) {of}"
    );
    let queue = fair::Queue {
        table: "step",
        queued: "status = 'QUEUED' AND kind = $1",
        queued_values: vec![W::KIND.into()],
        rows: &rows,
        org: "s.org_id",
        order: &format!("s.available_at {order}, s.id"),
        values: vec![W::KIND.into(), db.now().into()],
    };
    let rows = queue.take(db.read(), most, &full).await?;
    let each = rows.iter().map(|row| {
        let of: (StepId, RunId) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        Ok((of, row.try_get_by_index::<i32>(2)?, row.try_get_by_index::<OrgId>(3)?))
    });
    let rows = fair::by_turns(each.collect::<Result<Vec<_>>>()?, most, |row| row.2);
    let mut found = Vec::with_capacity(rows.len());
    for (of, lapses, org) in rows {
        let alone = lapses >= limits::DEATHS_IN_COMPANY;
        if alone && found.is_empty() {
            return Ok(vec![of]);
        }
        if !alone && shares.as_mut().is_none_or(|shares| shares.take(org)) {
            found.push(of);
        }
    }
    Ok(found)
}

/// Performs all together; where that fails, in halves, so that what makes it fail stays alone. As in a settle, nothing has
/// been handed over by work that fails as a whole.
async fn each<'a, W: Work>(
    context: &'a EngineContext,
    work: &'a W,
    claimed: &'a [Claimed],
) -> Vec<Answer<'a, W::Outcome>> {
    let at_once = |outcome| std::future::ready(outcome).boxed();
    let (mut all, mut open) = (Vec::with_capacity(claimed.len()), vec![claimed]);
    while let Some(part) = open.pop() {
        match guarded(work.begin(&context.db, part)).await {
            Ok(answers) if answers.len() == part.len() => {
                all.extend(answers.into_iter().map(|answer| answer.map(storable).boxed()));
            }
            Ok(_) => all.extend(part.iter().map(|_| at_once(failed("an error of ours: its work said nothing")))),
            Err(err) if err.passes() => {
                log_failure!(warn, err, kind = W::KIND, "performing failed; it is tried again");
                let at = context.db.now() + limits::AWAY;
                let later = |_| at_once(Outcome::Later { at, why: "the database was away".into(), note: None });
                all.extend(part.iter().map(later));
            }
            Err(err) if part.len() > 1 => {
                log_failure!(warn, err, kind = W::KIND, steps = part.len(), "performing failed; trying halves");
                let (first, second) = part.split_at(part.len() / 2);
                open.extend([second, first]);
            }
            Err(err) => {
                log_failure!(error, err, kind = W::KIND, step = %part[0].step.id, "performing failed");
                all.push(at_once(failed("an error of ours; see the log")));
            }
        }
    }
    all
}

fn failed<N>(why: &str) -> Outcome<N> {
    Outcome::Failed { why: why.into(), again: true, after: None, note: None }
}

/// What a step brought passes the gate before it is settled: what can't be kept fails the step, once, and whatever it did
/// outside is not done again.
fn storable<N>(outcome: Outcome<N>) -> Outcome<N> {
    match outcome {
        Outcome::Done { result, note } => match storable::json(&result) {
            Ok(()) => Outcome::Done { result, note },
            Err(unfit) => Outcome::Failed { why: lease::unkept(&unfit), again: false, after: None, note: Some(note) },
        },
        other => other,
    }
}

pub(super) async fn renew(context: &EngineContext, claimed: &[Claimed]) -> Result<()> {
    transact!(context.db, |tx| {
        let expires = tx.now() + chrono::Duration::from_std(context.lease).map_err(Error::ours)?;
        step::Entity::update_many()
            .col_expr(step::Column::LeaseExpiresAt, Expr::value(expires))
            .filter(any_of(tx.dialect(), step::COLUMN.id, claimed.iter().map(|claim| claim.step.id)))
            .filter(step::COLUMN.lease_owner.eq(context.worker.clone()))
            .filter(step::COLUMN.status.eq(StepStatus::InProgress))
            .exec(tx.db())
            .await?;
        Ok(())
    })
}

/// Leases that have run out by this time are free for others.
pub(super) fn lapsed(at: DateTime<Utc>) -> sea_orm::Condition {
    sea_orm::Condition::all()
        .add(step::COLUMN.status.eq(StepStatus::InProgress))
        .add(step::COLUMN.lease_owner.is_not_null())
        .add(step::COLUMN.lease_expires_at.lt(at))
}

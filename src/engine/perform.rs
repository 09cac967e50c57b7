//! Claim, perform, settle: two short transactions with nothing held between them, for a batch of steps at once.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use entity::id::*;
use entity::step::{self, StepStatus};
use entity::{Actor, run};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect, Statement};
use tokio::sync::{Mutex, MutexGuard};
use tracing::Instrument;

use super::aside::{Aside, guarded};
use super::{Gear, settle};
use crate::db::Db;
use crate::db::batch::any_of;
use crate::error::{Error, Result};
use crate::run::step::hold::{self, Holder};
use crate::stuck::{Piece, StuckWork};
use crate::work::{Claimed, Outcome, Work};
use crate::{failpoint, gate, limits, transact};

/// Takes what there is to do, up to a batch, and does it. Says how many.
pub async fn tick<W: Work>(gear: &Gear, work: &W) -> Result<usize> {
    tick_in_turn(gear, work, &Mutex::new(())).await
}

/// The same, for one of several that do the same work: they claim one after the other, since they would find the same steps.
pub(super) async fn tick_in_turn<W: Work>(gear: &Gear, work: &W, claiming: &Mutex<()>) -> Result<usize> {
    let mine = claiming.lock().await;
    // First whether there is anything: what room there is has to be looked up, too.
    let mut candidates = due(&gear.db, W::KIND, work.batch(), false).await?;
    if candidates.is_empty() {
        return Ok(0);
    }
    let room = work.room(&gear.db).await?;
    if room.latest_first && room.count > 0 {
        candidates = due(&gear.db, W::KIND, room.count, true).await?;
    }
    candidates.truncate(usize::try_from(room.count).unwrap_or(usize::MAX));
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
    settle::keep(gear, work, &claimed, &outcomes).instrument(tracing::info_span!("settle")).await?;
    failpoint::reach("settled");
    metrics::histogram!("sortie_work_seconds", "kind" => W::KIND).record(begun.elapsed());
    Ok(claimed.len())
}

/// Claims steps; those of a run that can't be claimed from are set aside, and the others are claimed alone.
async fn claim(gear: &Gear, candidates: &[(StepId, RunId)]) -> Result<Vec<Claimed>> {
    let err = match claim_all(gear, candidates).await {
        Err(err) if !err.passes() => err,
        outcome => return outcome,
    };
    tracing::warn!(error = %err, "steps could not be claimed together; trying each run's alone");
    let aside = Aside::of(gear, &[StuckWork::Claim]).await?;
    let mut by_run: BTreeMap<RunId, Vec<(StepId, RunId)>> = BTreeMap::new();
    for one in candidates {
        by_run.entry(one.1).or_default().push(*one);
    }
    let mut claimed = Vec::new();
    for (run_id, mine) in by_run {
        let of = run::Entity::find_by_id(run_id).select_only().column(run::Column::OrgId);
        let Some(org_id) = of.into_tuple::<OrgId>().one(gear.db.read()).await? else { continue };
        let outcome = claim_all(gear, &mine).await;
        claimed.extend(
            aside.keep(gear, Piece::of_run(StuckWork::Claim, org_id, run_id), outcome).await.unwrap_or_default(),
        );
    }
    Ok(claimed)
}

/// Claims steps: one guarded update writes lease and attempt.
async fn claim_all(gear: &Gear, candidates: &[(StepId, RunId)]) -> Result<Vec<Claimed>> {
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
///
/// A step over which processes have ended is taken up alone: if it ends this one, no other is set aside with it.
async fn due(db: &Db, kind: &str, most: u64, latest_first: bool) -> Result<Vec<(StepId, RunId)>> {
    let order = if latest_first { "DESC" } else { "ASC" };
    let sql = format!(
        "SELECT s.id, s.run_id, s.lapse_count FROM step s JOIN run r ON r.id = s.run_id LEFT JOIN campaign c ON c.id = r.campaign_id \
         JOIN phase p ON p.id = s.phase_id WHERE s.status = 'QUEUED' AND s.kind = $1 AND s.available_at <= $2 \
         AND s.assigned_to = 'WORKFLOW' AND r.status = 'IN_PROGRESS' AND (c.id IS NULL OR c.status <> 'PAUSED') \
         AND p.status = 'ACTIVE' AND s.run_id NOT IN (SELECT subject FROM stuck WHERE next_try_at > $2 \
         AND work IN ('CLAIM', 'RESCUE', 'SETTLE')) ORDER BY s.available_at {order}, s.id LIMIT $3"
    );
    let most = i64::try_from(most).map_err(Error::ours)?;
    let values = [kind.into(), db.now().into(), most.into()];
    let rows =
        db.read().query_all_raw(Statement::from_sql_and_values(db.read().get_database_backend(), sql, values)).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let alone = row.try_get_by_index::<i32>(2)? >= limits::DEATHS_IN_COMPANY;
        if alone && found.is_empty() {
            return Ok(vec![(row.try_get_by_index(0)?, row.try_get_by_index(1)?)]);
        }
        if !alone {
            found.push((row.try_get_by_index(0)?, row.try_get_by_index(1)?));
        }
    }
    Ok(found)
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
    tokio::select! {
        outcomes = each(gear, work, claimed) => outcomes,
        () = renewing => Vec::new(),
    }
}

/// Performs all together; where that fails, in halves, so that what makes it fail stays alone. As in a settle, nothing has
/// been handed over by work that fails as a whole.
async fn each<W: Work>(gear: &Gear, work: &W, claimed: &[Claimed]) -> Vec<Outcome<W::Note>> {
    let (mut all, mut open) = (Vec::with_capacity(claimed.len()), vec![claimed]);
    while let Some(part) = open.pop() {
        match guarded(work.perform(&gear.db, part)).await {
            Ok(outcomes) if outcomes.len() == part.len() => all.extend(outcomes.into_iter().map(storable)),
            Ok(_) => all.extend(part.iter().map(|_| failed("an error of ours: its work said nothing"))),
            Err(err) if err.passes() => {
                tracing::warn!(kind = W::KIND, error = %err, "performing failed; it is tried again");
                let at = gear.db.now() + limits::AWAY;
                let later = |_| Outcome::Later { at, why: "the database was away".into(), note: None };
                all.extend(part.iter().map(later));
            }
            Err(err) if part.len() > 1 => {
                tracing::warn!(kind = W::KIND, error = %err, steps = part.len(), "performing failed; trying halves");
                let (first, second) = part.split_at(part.len() / 2);
                open.extend([second, first]);
            }
            Err(err) => {
                tracing::error!(kind = W::KIND, step = %part[0].step.id, error = %err, "performing failed");
                all.push(failed("an error of ours; see the log"));
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
        Outcome::Done { result, note } => match gate::json(&result) {
            Ok(()) => Outcome::Done { result, note },
            Err(unfit) => Outcome::Failed { why: hold::unkept(&unfit), again: false, after: None, note: Some(note) },
        },
        other => other,
    }
}

pub(super) async fn renew(gear: &Gear, claimed: &[Claimed]) -> Result<()> {
    transact!(gear.db, |tx| {
        let expires = tx.now() + chrono::Duration::from_std(gear.lease).map_err(Error::ours)?;
        step::Entity::update_many()
            .col_expr(step::Column::LeaseExpiresAt, Expr::value(expires))
            .filter(any_of(tx.dialect(), step::COLUMN.id, claimed.iter().map(|claim| claim.step.id)))
            .filter(step::COLUMN.lease_owner.eq(gear.worker.clone()))
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

//! Leases of the steps that this process performs: claims them, and renews them beside the work.
//!
//! An expired lease is taken back by `rescue`; external workers renew theirs through `domain/worker`.

use std::collections::BTreeMap;

use entity::id::*;
use entity::{Actor, run};
use sea_orm::{EntityTrait, QuerySelect};

use super::EngineContext;
use super::failed_work::FailedWork;
use crate::domain::run::step::lease::{self as step_lease, LeaseHolder};
use crate::kernel::error::{Error, Result};
use crate::kernel::stuck::{StuckWork, WorkItem};
use crate::step_kind::Claimed;
use crate::transact;

/// Claims steps, all together if possible. If that fails, claims each run's steps alone and sets
/// the runs aside whose claim fails.
pub(super) async fn claim(context: &EngineContext, candidates: &[(StepId, RunId)]) -> Result<Vec<Claimed>> {
    let err = match claim_all(context, candidates).await {
        Err(err) if !err.is_transient() => err,
        outcome => return outcome,
    };
    log_failure!(warn, err, "steps could not be claimed together; claiming each run's alone");
    let failed_work = FailedWork::read(context, &[StuckWork::Claim]).await?;
    let mut by_run: BTreeMap<RunId, Vec<(StepId, RunId)>> = BTreeMap::new();
    for candidate in candidates {
        by_run.entry(candidate.1).or_default().push(*candidate);
    }
    let mut claimed = Vec::new();
    for (run_id, steps) in by_run {
        let query = run::Entity::find_by_id(run_id).select_only().column(run::Column::OrgId);
        let Some(org_id) = query.into_tuple::<OrgId>().one(context.db.read()).await? else { continue };
        let outcome = claim_all(context, &steps).await;
        claimed.extend(
            failed_work
                .record(context, WorkItem::of_run(StuckWork::Claim, org_id, run_id), outcome)
                .await
                .unwrap_or_default(),
        );
    }
    Ok(claimed)
}

/// Claims steps: one conditional update writes lease and attempt.
async fn claim_all(context: &EngineContext, candidates: &[(StepId, RunId)]) -> Result<Vec<Claimed>> {
    transact!(context.db, |tx| {
        let holder = LeaseHolder {
            owner: context.worker.clone(),
            token: None,
            until: tx.now() + chrono::Duration::from_std(context.lease).map_err(Error::internal)?,
            actor: Actor::engine(),
        };
        let claimed = step_lease::claim(tx, candidates, &holder).await?;
        Ok(claimed.into_iter().map(|(step, run)| Claimed { step, run }).collect())
    })
}

/// Extends the leases of claimed steps that this process still holds.
pub(super) async fn renew(context: &EngineContext, claimed: &[Claimed]) -> Result<()> {
    transact!(context.db, |tx| {
        let until = tx.now() + chrono::Duration::from_std(context.lease).map_err(Error::internal)?;
        step_lease::renew(tx, claimed.iter().map(|claim| claim.step.id), &context.worker, until).await
    })
}

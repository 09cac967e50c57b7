//! Works on bulk actions, in a loop of its own: in each turn a limited number of targets of one bulk
//! action per org, so that a large one holds up neither other work nor other orgs.

use super::EngineContext;
use super::failed_work::guarded;
use super::wake::Wake;
use crate::domain::bulk_action::apply::{self, BulkLease};
use crate::kernel::error::{Error, Result};
use entity::id::{BulkActionId, OrgId};

/// Runs turns until the engine stops.
pub(super) async fn run(context: EngineContext, mut wake: Wake) {
    loop {
        wake.mark_seen();
        let worked = match guarded(turn(&context, &|| wake.stopping())).await {
            Ok(count) => count > 0,
            Err(err) => {
                log_failure!(error, err, "an iteration of the loop of bulk actions failed");
                false
            }
        };
        if wake.stopping() || (!worked && !wake.wait().await) {
            return;
        }
    }
}

/// Takes one turn and returns the number of bulk actions that went on in it.
pub async fn tick(context: &EngineContext) -> Result<usize> {
    turn(context, &|| false).await
}

async fn turn(context: &EngineContext, stopping: &(dyn Fn() -> bool + Sync)) -> Result<usize> {
    let mut done = 0;
    for (org_id, id) in apply::open(&context.db).await? {
        if stopping() {
            break;
        }
        match chunk(context, org_id, id, stopping).await {
            Ok(worked) => done += usize::from(worked),
            // Its lease stays: it is taken up again when that has expired, and the others go on.
            Err(err) => {
                metrics::counter!("sortie_failed_ticks_total", "work" => "bulk_action").increment(1);
                log_failure!(error, err, bulk_action = %id, "a bulk action was interrupted and will be continued");
            }
        }
    }
    Ok(done)
}

/// Deals with the next targets of a bulk action. Returns false if another process has it.
async fn chunk(
    context: &EngineContext,
    org_id: OrgId,
    id: BulkActionId,
    stopping: &(dyn Fn() -> bool + Sync),
) -> Result<bool> {
    let (db, duration) = (&context.db, chrono::Duration::from_std(context.lease).map_err(Error::internal)?);
    let lease = BulkLease { owner: &context.worker, duration };
    let Some(taken) = apply::take(db, org_id, id, lease).await? else { return Ok(false) };
    let mut settled = 0;
    for target in &taken.targets {
        if stopping() {
            break;
        }
        let outcome = guarded(apply::apply(db, &taken.action, target, lease)).await;
        if !apply::settle(db, &taken.action, target, lease, outcome).await? {
            return Ok(true);
        }
        settled += 1;
    }
    apply::give_back(db, &taken.action, lease, settled).await?;
    Ok(true)
}

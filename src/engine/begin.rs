//! Fires due schedules, starts queued runs, continues open sweeps, ends phases whose time for
//! events is over, and reports overdue steps and follow-ups.

use std::collections::BTreeMap;

use entity::id::*;
use entity::{RunStatus, run};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::EngineContext;
use super::failed_work::{FailedWork, found, guarded};
use super::wake::Wake;
use crate::domain::follow_up;
use crate::domain::run::{self as runs, begin, fire_schedule, overdue, sweep};
use crate::kernel::db::fair;
use crate::kernel::error::Result;
use crate::kernel::stuck::{self, StuckWork, WorkItem};
use crate::kernel::viewer::Viewer;
use crate::transact;

/// Runs `tick` until the engine stops.
pub(super) async fn run(context: EngineContext, mut wake: Wake) {
    loop {
        wake.mark_seen();
        let worked = match guarded(tick(&context)).await {
            Ok(count) => count > 0,
            Err(err) => {
                log_failure!(error, err, "an iteration of the loop of runs failed");
                false
            }
        };
        if wake.stopping() || (!worked && !wake.wait().await) {
            return;
        }
    }
}

/// Does the pending work once and returns the number of items done. An item that fails is set
/// aside, and a query that fails is logged: neither holds up the rest.
pub async fn tick(context: &EngineContext) -> Result<usize> {
    const WORKS: [StuckWork; 5] =
        [StuckWork::Fire, StuckWork::Begin, StuckWork::Sweep, StuckWork::Close, StuckWork::Tell];
    let db = &context.db;
    let failed_work = FailedWork::read(context, &WORKS).await?;
    let mut done = 0;
    for (org_id, id) in found("fire", fire_schedule::due(db).await) {
        let outcome = guarded(fire_schedule::fire(db, &Viewer::engine(org_id), id)).await;
        // A failure is reported on the run that waits to be fired.
        let run_id = if outcome.is_err() { found("fire", waiting_of(context, id).await) } else { None };
        let item = WorkItem { work: StuckWork::Fire, subject: id.0, org_id, run_id };
        // Counts only work done: otherwise the loop would read the same again at once.
        done += usize::from(failed_work.record(context, item, outcome).await == Some(true));
    }
    for (org_id, id) in found("begin", queued(context).await) {
        let outcome = guarded(begin_one(context, &Viewer::engine(org_id), id)).await;
        done += usize::from(
            failed_work.record(context, WorkItem::of_run(StuckWork::Begin, org_id, id), outcome).await.is_some(),
        );
    }
    for open in found("sweep", sweep::open(db).await) {
        let (work, subject) = (StuckWork::Sweep, open.id.0);
        let item = WorkItem { work, subject, org_id: open.org_id, run_id: open.run_id };
        let outcome = guarded(sweep::chunk(db, &open)).await;
        done += usize::from(failed_work.record(context, item, outcome).await.is_some());
    }
    for (org_id, id, phase_id) in found("close", overdue::expired_phases(db).await) {
        let outcome = guarded(overdue::close(db, org_id, id, phase_id)).await;
        let moved = failed_work.record(context, WorkItem::of_run(StuckWork::Close, org_id, id), outcome).await;
        done += usize::from(moved == Some(true));
    }
    let mut late: BTreeMap<(OrgId, RunId), (Vec<StepId>, Vec<FollowUpId>)> = BTreeMap::new();
    for (run_key, steps) in found("tell", overdue::late(db).await) {
        late.entry(run_key).or_default().0 = steps;
    }
    for (run_key, follow_ups) in found("tell", follow_up::overdue(db).await) {
        late.entry(run_key).or_default().1 = follow_ups;
    }
    for ((org_id, id), (steps, follow_ups)) in late {
        // Both are one work item, which has failed if either did.
        let mut outcome = Ok(());
        if !steps.is_empty() {
            outcome = guarded(overdue::emit(db, org_id, id, &steps)).await;
        }
        if !follow_ups.is_empty() {
            let emitted = guarded(follow_up::emit_overdue(db, org_id, id, &follow_ups)).await;
            outcome = outcome.and(emitted);
        }
        let emitted = failed_work.record(context, WorkItem::of_run(StuckWork::Tell, org_id, id), outcome).await;
        done += emitted.map_or(0, |()| steps.len() + follow_ups.len());
    }
    Ok(done)
}

/// The run that waits to be fired by a schedule, if any.
async fn waiting_of(context: &EngineContext, id: ScheduleId) -> Result<Option<RunId>> {
    Ok(run::Entity::find()
        .select_only()
        .column(run::Column::Id)
        .filter(run::COLUMN.schedule_id.eq(id))
        .filter(run::COLUMN.status.eq(RunStatus::Scheduled))
        .order_by_asc(run::COLUMN.scheduled_for)
        .into_tuple()
        .one(context.db.read())
        .await?)
}

async fn begin_one(context: &EngineContext, engine: &Viewer, id: RunId) -> Result<()> {
    transact!(context.db, |tx| {
        let run = runs::must_lock(tx, engine, id, None).await?;
        if run.status == RunStatus::Queued {
            begin::begin(tx, engine, run).await?;
        }
        Ok(())
    })
}

/// Queued runs to start: a few of each org, in the order in which they were queued.
async fn queued(context: &EngineContext) -> Result<Vec<(OrgId, RunId)>> {
    let queued = run::Entity::find()
        // A literal, so that the partial index on queued runs is used.
        .filter(Expr::cust("run.status = 'QUEUED'"))
        .filter(runs::campaign_is_not_paused())
        .filter(stuck::is_free(Expr::col((run::Entity, run::Column::Id)), &[StuckWork::Begin], context.db.now()));
    fair::in_turn(context.db.read(), queued, &["id"], 100).await
}

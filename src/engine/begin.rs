//! Runs whose time has come, runs that are queued, and sweeps that are under way.

use entity::id::*;
use entity::{RunStatus, run};
use sea_orm::sea_query::Expr;
use sea_orm::{EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{Gear, Wake};
use crate::error::Result;
use crate::run::{self as runs, begin, fire, overdue, sweep};
use crate::transact;
use crate::viewer::Viewer;

/// Fires, begins and sweeps, for ever.
pub(super) async fn run(gear: Gear, mut wake: Wake) {
    loop {
        wake.look();
        let worked = match tick(&gear).await {
            Ok(count) => count > 0,
            Err(err) => {
                tracing::error!(error = %err, "runs could not be begun");
                false
            }
        };
        if wake.stopping() || (!worked && !wake.wait().await) {
            return;
        }
    }
}

/// Does what there is to do. Says how much of it was done: one run that can't go on does not hold up the others.
pub async fn tick(gear: &Gear) -> Result<usize> {
    let mut done = 0;
    let mut note = |what: &str, id: String, outcome: Result<()>| match outcome {
        Ok(()) => done += 1,
        Err(err) => tracing::error!(id, error = %err, "could not {what}"),
    };
    for (org_id, id) in fire::due(&gear.db).await? {
        match fire::fire(&gear.db, &Viewer::engine(org_id), id).await {
            // Nothing was done: looking again at once would find the same.
            Ok(false) => {}
            outcome => note("fire", id.to_string(), outcome.map(|_| ())),
        }
    }
    for (org_id, id) in queued(gear).await? {
        note("begin", id.to_string(), begin_one(gear, &Viewer::engine(org_id), id).await);
    }
    for open in sweep::open(&gear.db).await? {
        note("sweep", open.id.to_string(), sweep::chunk(&gear.db, &open).await);
    }
    done += overdue::close(&gear.db).await?;
    done += overdue::tell(&gear.db).await?;
    done += crate::follow_up::overdue(&gear.db).await?;
    Ok(done)
}

async fn begin_one(gear: &Gear, engine: &Viewer, id: RunId) -> Result<()> {
    transact!(gear.db, |tx| {
        let run = runs::must_lock(tx, engine, id, None).await?;
        if run.status == RunStatus::Queued {
            begin::begin(tx, engine, run).await?;
        }
        Ok(())
    })
}

async fn queued(gear: &Gear) -> Result<Vec<(OrgId, RunId)>> {
    Ok(run::Entity::find()
        .select_only()
        .column(run::Column::OrgId)
        .column(run::Column::Id)
        // As a literal: their index is of them alone.
        .filter(Expr::cust("run.status = 'QUEUED'"))
        .filter(runs::not_held())
        .order_by_asc(run::COLUMN.id)
        .limit(100)
        .into_tuple()
        .all(gear.db.read())
        .await?)
}

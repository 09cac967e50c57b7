//! Sweeps: apply a large change to many rows in chunks, one transaction each, resuming after a
//! crash. The ruling row (run, task or record) is changed first, so the change is in effect before
//! the sweep has reached every row.

pub(in crate::domain::run) mod audience;
pub(crate) mod cancel;
pub(crate) mod close;
pub(in crate::domain::run) mod fan_out;

use std::collections::HashSet;

use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::step::{self, StepReason, StepStatus, StepTransition};
use entity::sweep::{COLUMN, Column, Entity, Model, SweepKind};
use entity::{RunStatus, run};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ActiveEnum, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::step::SetTransition;
use super::{advance, dependents, erasure, record_change, retry, step_messages, sweep_queue};
use crate::domain::audience::record::kept;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, Tx, WriteContext, fair};
use crate::kernel::error::{Error, Result};
use crate::kernel::stuck::{self, StuckWork};
use crate::kernel::viewer::Viewer;
use crate::kernel::{failpoint, limits};
use crate::transact;

/// Sweeps that can proceed, oldest first: of each run one that cancels and one other, and all those
/// over records. In a paused run only the one that cancels proceeds, in a failed run none.
pub async fn open(db: &Db) -> Result<Vec<Model>> {
    // Checked per sweep: there may be many paused runs, but there are few sweeps.
    let mut paused = Query::select();
    paused
        .expr(Expr::val(1))
        .from(run::Entity)
        .and_where(Expr::col((run::Entity, run::Column::Id)).eq(Expr::col((Entity, Column::RunId))))
        .and_where(run::COLUMN.status.eq(RunStatus::Paused));
    let candidates = Entity::find()
        // A literal, so that the partial index on sweeps that are not held is used.
        .filter(Expr::cust("NOT sweep.held"))
        .filter(COLUMN.kind.eq(SweepKind::Cancel).or(COLUMN.run_id.is_null()).or(Expr::exists(paused).not()))
        .filter(stuck::is_free(Expr::col((Entity, Column::Id)), &[StuckWork::Sweep], db.now()));
    let mut sweeps = Entity::find()
        .filter(COLUMN.id.in_subquery(fair::ids(candidates, &["id"], 1_000)))
        .order_by_asc(COLUMN.id)
        .all(db.read())
        .await?;
    let mut runs = HashSet::new();
    sweeps.retain(|sweep| sweep.run_id.is_none_or(|id| runs.insert((id, sweep.kind == SweepKind::Cancel))));
    Ok(sweeps)
}

/// Processes one chunk. A concurrent worker finds the sweep gone or advanced, and does nothing.
pub async fn chunk(db: &WriteContext, sweep: &Model) -> Result<()> {
    let viewer = &Viewer { actor: sweep.actor.clone(), ..Viewer::engine(sweep.org_id) };
    let Some(run_id) = sweep.run_id else {
        return match sweep.kind {
            SweepKind::Erase => erasure::chunk(db, viewer, sweep).await,
            _ => record_change::unsubscribe_chunk(db, viewer, sweep).await,
        };
    };
    transact!(db, |tx| {
        let run = super::must_lock(tx, viewer, run_id, None).await?;
        let Some(fresh) = sweep_queue::lock_unmoved(tx, sweep).await? else { return Ok(()) };
        let is_stopped = run.status != RunStatus::InProgress && sweep.kind != SweepKind::Cancel;
        let last = match sweep.kind {
            // It continues when the run is resumed or retried.
            _ if is_stopped && run.status == RunStatus::Paused => return Ok(()),
            _ if is_stopped && run.status == RunStatus::Failed => {
                return sweep_queue::set_held(tx, run.id, true).await;
            }
            // The run has ended for good.
            _ if is_stopped => None,
            SweepKind::Audience => audience::chunk(db, tx, viewer, &run, sweep).await?,
            SweepKind::FanOut => fan_out::chunk(tx, &run, sweep).await?,
            SweepKind::Approve => approve(tx, viewer, &run, sweep).await?,
            SweepKind::Redraft => redraft(tx, viewer, &run, sweep).await?,
            SweepKind::Cancel => cancel::chunk(tx, viewer, &run, sweep).await?,
            SweepKind::Retry => retry::chunk(tx, viewer, &run, sweep).await?,
            SweepKind::Follow => dependents::follow::chunk(tx, &run, sweep).await?,
            SweepKind::Close => {
                let open = close::open(tx, &run, sweep).await?;
                step_messages::cancel_leftovers(tx, &run, &open).await?;
                close::chunk(tx, &open).await?
            }
            SweepKind::Unsubscribe | SweepKind::Erase => {
                return Err(Error::internal("a sweep over records has no run"));
            }
        };
        failpoint::reach("sweeping");
        if sweep_queue::save_position(tx, fresh, last).await? {
            return Ok(());
        }
        // A cancelled run may be repeated for those whom it had not added.
        if sweep.kind == SweepKind::Audience && !is_stopped {
            kept::forget(tx, run.id.0).await?;
        }
        match (sweep.task_id, sweep.kind) {
            (Some(task_id), SweepKind::Retry) => super::task::retrying(tx, task_id, false).await?,
            (Some(task_id), _) if sweep_queue::is_open_on(tx, run.id, task_id).await? => {}
            (Some(task_id), _) => super::task::fan_out_done(tx, task_id, true).await?,
            (None, _) => {}
        }
        let run = super::must_find(tx.db(), viewer, run.id).await?;
        advance::advance(tx, &Viewer::engine(run.org_id), run).await?;
        Ok(())
    })
}

/// Approves the drafts of an approved review.
async fn approve(tx: &Tx, viewer: &Viewer, run: &run::Model, sweep: &Model) -> Result<Option<uuid::Uuid>> {
    let drafts = drafts(tx, run, sweep).await?;
    let last = drafts.last().map(|row| row.id.0);
    let ids: Vec<CommunicationId> = drafts.iter().map(|row| row.id).collect();
    crate::domain::message::communication::release(tx, viewer, run, &ids).await?;
    Ok(last)
}

/// Enqueues the draft steps of a rejected review again.
async fn redraft(tx: &Tx, viewer: &Viewer, run: &run::Model, sweep: &Model) -> Result<Option<uuid::Uuid>> {
    let drafts = drafts(tx, run, sweep).await?;
    let last = drafts.last().map(|row| row.id.0);
    // Two transitions in one write: reset and enqueued.
    let again = SetTransition::new(StepStatus::Completed, &[StepTransition::Reset, StepTransition::Fire]);
    let updated = again
        .update()?
        .col_expr(step::Column::AvailableAt, Expr::value(tx.now()))
        .col_expr(step::Column::CompletedAt, Expr::value(Option::<chrono::DateTime<chrono::Utc>>::None))
        .col_expr(step::Column::CompletedBy, Expr::value(Option::<serde_json::Value>::None))
        .col_expr(step::Column::Reason, Expr::value(StepReason::ReviewRejected.to_value()))
        .filter(any_of(tx.dialect(), step::COLUMN.id, drafts.iter().map(|row| row.step_id)))
        .exec_with_returning(tx.db())
        .await?;
    let snapshot = super::snapshot::of(tx.db(), run).await?;
    super::dependents::restore(tx, run, &snapshot, &updated).await?;
    let changes = again.changes(updated, |_| sweep.reason.clone())?;
    super::step::record_changes(tx, run, &viewer.actor(), &changes).await?;
    Ok(last)
}

async fn drafts(tx: &Tx, run: &run::Model, sweep: &Model) -> Result<Vec<communication::Model>> {
    let mut select = communication::Entity::find()
        .filter(communication::COLUMN.run_id.eq(run.id))
        .filter(communication::COLUMN.status.eq(CommunicationStatus::Draft));
    if let Some(key) = sweep.last_key {
        select = select.filter(communication::COLUMN.id.gt(CommunicationId(key)));
    }
    Ok(select.order_by_asc(communication::COLUMN.id).limit(limits::CHUNK).all(tx.db()).await?)
}

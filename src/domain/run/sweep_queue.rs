//! The queue of sweeps: large changes are inserted in the transaction that makes them; `sweep`
//! applies them. Those of a failed run are held, with their positions, until the run is retried: they
//! are marked, so that runs which are never retried are passed over by an index.

use entity::id::*;
use entity::sweep::{ActiveModel, COLUMN, Column, Entity, Model, SweepKind};
use entity::{RunStatus, run};
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, ModelTrait, QueryFilter, QuerySelect, Set};

use crate::kernel::db::Tx;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Inserts a sweep in the transaction that makes the change.
pub(crate) async fn begin(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    task_id: Option<TaskId>,
    kind: SweepKind,
    reason: Option<String>,
) -> Result<()> {
    let row = ActiveModel {
        id: Set(SweepId::new()),
        org_id: Set(run.org_id),
        run_id: Set(Some(run.id)),
        task_id: Set(task_id),
        kind: Set(kind),
        last_key: Set(None),
        actor: Set(viewer.actor()),
        reason: Set(reason),
        detail: Set(None),
        created_at: Set(tx.now()),
        // A step that a worker held when the run failed may still complete.
        held: Set(run.status == RunStatus::Failed),
    };
    row.insert(tx.db()).await?;
    tx.wake_engine();
    Ok(())
}

/// Same, unless the run already has a sweep of this kind.
pub(crate) async fn begin_once(tx: &Tx, viewer: &Viewer, run: &run::Model, kind: SweepKind) -> Result<()> {
    if !is_open(tx, run.id, kind).await? {
        begin(tx, viewer, run, None, kind, None).await?;
    }
    Ok(())
}

/// Begins the retry of a task's failed steps, in place of one that is still in progress: steps behind
/// its position may have failed again.
pub(crate) async fn begin_retry(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    task_id: TaskId,
    reason: Option<String>,
) -> Result<()> {
    let earlier = Entity::delete_many().filter(COLUMN.run_id.eq(run.id)).filter(COLUMN.task_id.eq(task_id));
    earlier.filter(COLUMN.kind.eq(SweepKind::Retry)).exec(tx.db()).await?;
    begin(tx, viewer, run, Some(task_id), SweepKind::Retry, reason).await
}

/// Holds the sweeps of a run that has failed, or lets them continue when it is retried.
pub(crate) async fn set_held(tx: &Tx, run: RunId, held: bool) -> Result<()> {
    let of_run = Entity::update_many().col_expr(Column::Held, Expr::value(held)).filter(COLUMN.run_id.eq(run));
    of_run.exec(tx.db()).await?;
    Ok(())
}

/// True if a sweep that creates or changes a task's steps is still in progress; a retry has a mark of
/// its own.
pub(crate) async fn is_open_on(tx: &Tx, run: RunId, task: TaskId) -> Result<bool> {
    let open = Entity::find().filter(COLUMN.run_id.eq(run)).filter(COLUMN.task_id.eq(task));
    Ok(open.filter(COLUMN.kind.ne(SweepKind::Retry)).one(tx.db()).await?.is_some())
}

/// True if a sweep of this kind is still in progress on the run.
pub(crate) async fn is_open(tx: &Tx, run: RunId, kind: SweepKind) -> Result<bool> {
    let open = Entity::find().filter(COLUMN.run_id.eq(run)).filter(COLUMN.kind.eq(kind)).one(tx.db()).await?;
    Ok(open.is_some())
}

/// Reloads and locks the sweep; none if another worker has advanced it.
pub(crate) async fn lock_unmoved(tx: &Tx, sweep: &Model) -> Result<Option<Model>> {
    let fresh = Entity::find_by_id(sweep.id).lock_exclusive().one(tx.db()).await?;
    Ok(fresh.filter(|fresh| fresh.last_key == sweep.last_key))
}

/// Stores the sweep's position, or deletes it at its end. Returns true if it continues.
pub(crate) async fn save_position(tx: &Tx, sweep: Model, last: Option<uuid::Uuid>) -> Result<bool> {
    let Some(key) = last else {
        sweep.delete(tx.db()).await?;
        return Ok(false);
    };
    let mut row = sweep.into_active_model();
    row.last_key = Set(Some(key));
    row.update(tx.db()).await?;
    Ok(true)
}

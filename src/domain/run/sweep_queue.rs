//! The queue of sweeps: large changes are inserted in the transaction that makes them; `sweep`
//! applies them.

use entity::id::*;
use entity::run;
use entity::sweep::{ActiveModel, COLUMN, Entity, Model, SweepKind};
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
    };
    row.insert(tx.db()).await?;
    Ok(())
}

/// Same, unless the run already has a sweep of this kind.
pub(crate) async fn begin_once(tx: &Tx, viewer: &Viewer, run: &run::Model, kind: SweepKind) -> Result<()> {
    if !is_open(tx, run.id, kind).await? {
        begin(tx, viewer, run, None, kind, None).await?;
    }
    Ok(())
}

/// True if a sweep that creates or changes a task's steps is still in progress; a retry has a mark of
/// its own.
pub(crate) async fn is_open_on(tx: &Tx, task: TaskId) -> Result<bool> {
    let open = Entity::find().filter(COLUMN.task_id.eq(task)).filter(COLUMN.kind.ne(SweepKind::Retry));
    Ok(open.one(tx.db()).await?.is_some())
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

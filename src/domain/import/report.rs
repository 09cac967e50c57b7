//! Import reports: find, page, list the problems of each line, and fail abandoned imports.

use chrono::{DateTime, Utc};
use entity::id::ImportId;
use entity::import::{self, ImportStatus};
use entity::import_problem::{COLUMN, Entity, Model};
use entity::import_seen;
use sea_orm::sea_query::ExprTrait;
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Set};

use crate::kernel::db::{Db, Tx, WriteContext};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::transact;

scoped!(import, ImportId, "import");
paged!(import);

/// Locks a running import's report, before the rows that the import writes. Errors: CONFLICT for an
/// import that was taken for abandoned: it never continues, as its position in the file is forgotten.
pub(super) async fn lock_running(tx: &Tx, report: &import::Model) -> Result<()> {
    let found = import::Entity::find_by_id(report.id).lock_exclusive().one(tx.db()).await?;
    let found = found.ok_or_else(|| Refusal::not_found("import", report.id))?;
    if found.status == ImportStatus::Running {
        return Ok(());
    }
    let why = found.failure.unwrap_or_else(|| format!("it is {}", found.status));
    Err(Refusal::conflict(format!("the import {} has ended: {why}", found.id)).into())
}

/// Marks running imports as failed if their last sign of life is earlier than `last_seen`: their
/// process has ended, or their file has stopped arriving.
pub(crate) async fn fail_abandoned(db: &WriteContext, last_seen: DateTime<Utc>) -> Result<()> {
    let silent = || {
        let seen = import::COLUMN.alive_at.lt(last_seen).or(import::COLUMN.alive_at.is_null());
        import::Entity::find().filter(import::COLUMN.status.eq(ImportStatus::Running)).filter(seen)
    };
    if silent().limit(1).all(db.read()).await?.is_empty() {
        return Ok(());
    }
    transact!(db, |tx| {
        // The lock waits for a chunk in progress, which is a sign of life.
        for found in silent().order_by_asc(import::COLUMN.id).lock_exclusive().all(tx.db()).await? {
            tracing::warn!(import = %found.id, rows = found.rows, "import interrupted: nothing was heard of it");
            let seen = import_seen::Entity::delete_many().filter(import_seen::COLUMN.import_id.eq(found.id));
            seen.exec(tx.db()).await?;
            let mut row = found.into_active_model();
            row.status = Set(ImportStatus::Failed);
            row.failure = Set(Some(CUT_OFF.to_owned()));
            row.ended_at = Set(Some(tx.now()));
            row.update(tx.db()).await?;
        }
        Ok(())
    })
}

const CUT_OFF: &str = "interrupted because its process ended, or no rows came for too long: rows imported before that are kept; \
                       import the file again";

/// Returns an import's problems with a number greater than `after`, in file order.
pub async fn problems(db: &Db, viewer: &Viewer, id: ImportId, after: i64, most: u64) -> Result<Vec<Model>> {
    Ok(Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(COLUMN.import_id.eq(id))
        .filter(COLUMN.number.gt(after))
        .order_by_asc(COLUMN.number)
        .limit(most)
        .all(db.read())
        .await?)
}

//! External ids: a record's id in its source system, unique within its kind.

use crate::kernel::db::{Tx, dialect};
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Takes the lock for creating records of a kind with external ids, until the transaction ends. An
/// id that is absent now is created by this transaction or not at all, and records that another
/// transaction created are visible. Lock order: runs come before it.
pub(crate) async fn lock(tx: &Tx, viewer: &Viewer, kind: &str) -> Result<()> {
    dialect::lock_name(tx, &format!("external ids of {} in {}", kind, viewer.org_id)).await
}

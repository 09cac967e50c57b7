//! External ids: by which a record is known where it came from, unique among those of its kind.

use crate::kernel::db::{Tx, dialect};
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Keeps others from making records of a kind with external ids until the transaction ends: what is not there now is made
/// by this transaction or by nobody, and what another one makes is seen. Runs are locked before it.
pub(crate) async fn hold(tx: &Tx, viewer: &Viewer, kind: &str) -> Result<()> {
    dialect::hold(tx, &format!("external ids of {} in {}", kind, viewer.org_id)).await
}

//! External ids: by which a record is known where it came from, unique among those of its kind.

use sea_orm::{ConnectionTrait, Statement};

use crate::db::Tx;
use crate::db::dialect::Dialect;
use crate::error::Result;
use crate::viewer::Viewer;

/// Keeps others from making records of a kind with external ids until the transaction ends: what is not there now is made
/// by this transaction or by nobody, and what another one makes is seen. Runs are locked before it.
pub(crate) async fn hold(tx: &Tx, viewer: &Viewer, kind: &str) -> Result<()> {
    if tx.dialect() == Dialect::Sqlite {
        // There is one writer.
        return Ok(());
    }
    let of = format!("external ids of {} in {}", kind, viewer.org_id);
    let sql = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
    tx.db().execute_raw(Statement::from_sql_and_values(tx.db().get_database_backend(), sql, [of.into()])).await?;
    Ok(())
}

//! Deletes expired rows, ends abandoned imports, continues erasures, writes counted rejections to the audit log, refreshes
//! the database's statistics and reads its clock, at an interval.

use chrono::{DateTime, Utc};

use super::EngineContext;
use super::wake::Wake;
use crate::domain::bulk_action;
use crate::domain::import::report;
use crate::domain::run::erasure;
use crate::kernel::db::dialect::Dialect;
use crate::kernel::{audit, idempotency, limits, stuck};

/// Runs `tick` every `limits::HOUSEKEEPING_INTERVAL` until the engine stops.
pub(super) async fn run(context: EngineContext, mut wake: Wake) {
    // Only one process at a time has an SQLite file open, so that imports of an earlier process
    // have certainly ended.
    let mut started_at = (context.db.dialect() == Dialect::Sqlite).then(|| context.db.now());
    loop {
        tick(&context, started_at.take()).await;
        if !wake.pause(limits::HOUSEKEEPING_INTERVAL).await {
            return;
        }
    }
}

/// Does all housekeeping once. Ends imports that were last active before `last_seen`; without it,
/// those that were inactive for `limits::IMPORT_SILENT`.
pub async fn tick(context: &EngineContext, last_seen: Option<DateTime<Utc>>) {
    let last_seen = last_seen.unwrap_or_else(|| context.db.now() - limits::IMPORT_SILENT);
    if let Err(err) = report::fail_abandoned(&context.db, last_seen).await {
        log_failure!(error, err, "abandoned imports could not be ended");
    }
    if let Err(err) = context.db.keep_time().await {
        log_failure!(warn, err, "the database's clock could not be read");
    }
    if let Err(err) = context.db.keep_statistics().await {
        log_failure!(warn, err, "the database's statistics could not be refreshed");
    }
    if let Err(err) = idempotency::expiry::delete_expired(&context.db).await {
        log_failure!(error, err, "expired idempotency keys could not be deleted");
    }
    if let Err(err) = audit::write_counted(&context.db).await {
        log_failure!(error, err, "counted rejections could not be written to the audit log");
    }
    if let Err(err) = audit::delete_expired(&context.db).await {
        log_failure!(error, err, "expired audit entries could not be deleted");
    }
    if let Err(err) = erasure::resume(&context.db).await {
        log_failure!(error, err, "erasures that wait for work in hand could not be continued");
    }
    if let Err(err) = bulk_action::expiry::delete_expired(&context.db).await {
        log_failure!(error, err, "expired bulk actions could not be deleted");
    }
    if let Err(err) = stuck::delete_expired(&context.db).await {
        log_failure!(error, err, "abandoned stuck work could not be deleted");
    }
}

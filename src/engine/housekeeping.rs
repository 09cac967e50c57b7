//! Housekeeping: what is kept for a time only goes when its time is over.

use chrono::{DateTime, Utc};

use super::{EngineContext, Wake};
use crate::domain::audience::record::report;
use crate::kernel::db::dialect::Dialect;
use crate::kernel::{audit, idempotency, limits, stuck};

/// Looks now and then, for ever.
pub(super) async fn run(context: EngineContext, mut wake: Wake) {
    // One process at a time has an SQLite file: what was at work on it before this one began is not any more.
    let mut nobody_else = (context.db.dialect() == Dialect::Sqlite).then(|| context.db.now());
    loop {
        tick(&context, nobody_else.take()).await;
        if !wake.pause(limits::FORGET_EVERY).await {
            return;
        }
    }
}

/// Looks once. Imports that were last seen before a time are ended; none: those that were silent for too long.
pub async fn tick(context: &EngineContext, last_seen: Option<DateTime<Utc>>) {
    let last_seen = last_seen.unwrap_or_else(|| context.db.now() - limits::IMPORT_SILENT);
    if let Err(err) = report::give_up(&context.db, last_seen).await {
        log_failure!(error, err, "imports that nobody is at work on could not be ended");
    }
    if let Err(err) = context.db.keep_time().await {
        log_failure!(warn, err, "the database's clock could not be read");
    }
    if let Err(err) = idempotency::delete_expired(&context.db).await {
        log_failure!(error, err, "old idempotency keys could not be let go");
    }
    if let Err(err) = audit::write_counted(&context.db).await {
        log_failure!(error, err, "refusals that were counted could not be written");
    }
    if let Err(err) = audit::delete_expired(&context.db).await {
        log_failure!(error, err, "old entries of the audit could not be let go");
    }
    if let Err(err) = stuck::delete_expired(&context.db).await {
        log_failure!(error, err, "work that nobody tries any more could not be let go");
    }
}

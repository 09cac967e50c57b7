//! Commands that take more than a few lines, and the audit that all writing commands share.

pub mod apply;
pub mod import;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use entity::AuditOutcome;
use serde_json::Value;

use crate::kernel::audit::{self, Entry};
use crate::kernel::db::{Db, WriteContext};
use crate::kernel::error::{Error, Result};
use crate::kernel::storable::{self, Unstorable};
use crate::kernel::viewer::Viewer;

/// Address in audit entries written by the command line.
pub const COMMAND_LINE: &str = "command line";

/// Runs a command and writes an audit entry for it, as for a request's mutation, also if it was
/// rejected.
pub async fn audited<T>(
    db: &Db,
    viewer: &Viewer,
    mutation: &str,
    input: &Value,
    act: impl AsyncFnOnce(WriteContext) -> Result<T>,
) -> Result<T> {
    let entry = Arc::new(Entry::new(viewer, COMMAND_LINE.into(), "", mutation, input));
    let done = act(db.write().with_audit_entry(Some(entry.clone()))).await;
    if let Err(err) = &done
        && !entry.is_committed()
    {
        let (outcome, code) = match err {
            Error::Refused(refusal) => (AuditOutcome::Refused, Some(refusal.code.as_str())),
            Error::Internal(_) => (AuditOutcome::Failed, None),
        };
        audit::record(db, &entry, outcome, code).await?;
    }
    done
}

/// Time at which something expires that lasts this long (`--expires`).
pub fn expiry(now: DateTime<Utc>, lasts: std::time::Duration) -> Result<DateTime<Utc>> {
    let lasts = chrono::Duration::from_std(lasts).ok();
    let at = lasts.and_then(|lasts| now.checked_add_signed(lasts)).ok_or(Unstorable::Time);
    at.and_then(storable::time).map_err(|unstorable| unstorable.of("--expires").into())
}

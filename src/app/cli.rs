//! The commands that are more than a few lines, and what all of those that write share.

pub mod apply;
pub mod import;

use std::sync::Arc;

use entity::AuditOutcome;
use serde_json::Value;

use crate::kernel::audit::{self, Entry};
use crate::kernel::db::Db;
use crate::kernel::error::{Error, Result};
use crate::kernel::viewer::Viewer;

/// The address of the audit's entries that the command line makes.
pub const COMMAND_LINE: &str = "command line";

/// Does what a command asks for. The audit names it as it names a request's mutation, also where it was refused.
pub async fn noted<T>(
    db: &Db,
    viewer: &Viewer,
    mutation: &str,
    input: &Value,
    act: impl AsyncFnOnce(Db) -> Result<T>,
) -> Result<T> {
    let entry = Arc::new(Entry::new(viewer, COMMAND_LINE.into(), "", mutation, input));
    let done = act(db.noted(Some(entry.clone()))).await;
    if let Err(err) = &done
        && !entry.is_noted()
    {
        let (outcome, code) = match err {
            Error::Refused(refusal) => (AuditOutcome::Refused, Some(refusal.code.as_str())),
            Error::Ours(_) => (AuditOutcome::Failed, None),
        };
        audit::note(db, &entry, outcome, code).await?;
    }
    done
}

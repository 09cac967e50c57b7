//! The limit of open files: connections get as many as it allows, minus a reserve for the database,
//! the outbox and outgoing calls.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::kernel::limits;

/// Raises the soft limit to the hard limit; returns the limit then in force, none if unlimited.
fn raise() -> Option<u64> {
    let found = getrlimit(Resource::Nofile);
    let wanted = found.maximum.unwrap_or(limits::FILES_MOST);
    match found.current {
        Some(current) if current < wanted => {
            let raised = Rlimit { current: Some(wanted), maximum: found.maximum };
            match setrlimit(Resource::Nofile, raised) {
                Ok(()) => Some(wanted),
                Err(err) => {
                    tracing::warn!(error = %err, current, "raising the limit of open files failed");
                    Some(current)
                }
            }
        }
        current => current,
    }
}

/// Returns the maximum number of connections: the configured number, or fewer if the limit of open
/// files is too low.
pub(super) fn connections(wanted: usize) -> usize {
    let Some(files) = raise() else { return wanted };
    let available = fit(files);
    if available >= wanted {
        return wanted;
    }
    tracing::warn!(
        files,
        wanted,
        connections = available,
        "the limit of open files allows fewer connections than configured: raise the hard limit (`ulimit -Hn`, `LimitNOFILE=`)"
    );
    available
}

/// Number of connections that fit under a limit of open files; at least one.
fn fit(files: u64) -> usize {
    let reserve = limits::FILES_RESERVED.min(files / 2);
    usize::try_from(files - reserve).unwrap_or(usize::MAX).max(1)
}

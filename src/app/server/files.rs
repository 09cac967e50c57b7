//! Open files: the process may have as many as the system lets it, and some are kept back from connections for the
//! database, the outbox and calls to the outside.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::kernel::limits;

/// Raises the soft limit to the hard one; the limit that is then in force, none where there is none.
fn raise() -> Option<u64> {
    let found = getrlimit(Resource::Nofile);
    let wanted = found.maximum.unwrap_or(limits::FILES_MOST);
    match found.current {
        Some(current) if current < wanted => {
            let raised = Rlimit { current: Some(wanted), maximum: found.maximum };
            match setrlimit(Resource::Nofile, raised) {
                Ok(()) => Some(wanted),
                Err(err) => {
                    tracing::warn!(error = %err, current, "the limit of open files could not be raised");
                    Some(current)
                }
            }
        }
        current => current,
    }
}

/// The connections that there may be: as many as are wanted, or as many as fit beside what else has files open.
pub(super) fn connections(wanted: usize) -> usize {
    let Some(files) = raise() else { return wanted };
    let room = fit(files);
    if room >= wanted {
        return wanted;
    }
    tracing::warn!(
        files,
        wanted,
        connections = room,
        "there can't be as many connections as are set: raise the hard limit of open files (`ulimit -Hn`, `LimitNOFILE=`)"
    );
    room
}

/// The connections that fit under a limit of open files; at least one.
fn fit(files: u64) -> usize {
    let back = limits::FILES_KEPT_BACK.min(files / 2);
    usize::try_from(files - back).unwrap_or(usize::MAX).max(1)
}

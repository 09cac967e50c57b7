//! Outages of a database in the log: one line when one begins and one when it ends.
//!
//! Meanwhile, failures for lack of a connection are not logged one by one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sea_orm::DbErr;

use crate::kernel::db::error_codes;
use crate::kernel::error::Error;

/// Set once the databases of this process are probed.
static PROBED: AtomicBool = AtomicBool::new(false);
/// Number of unreachable databases.
static AWAY: AtomicUsize = AtomicUsize::new(0);

/// Records that a database is probed, so that its outages are logged.
pub(crate) fn probed() {
    PROBED.store(true, Ordering::Relaxed);
}

/// Records that a database is unreachable, or reachable again.
pub(crate) fn note(away: bool) {
    match away {
        true => AWAY.fetch_add(1, Ordering::Relaxed),
        false => AWAY.fetch_sub(1, Ordering::Relaxed),
    };
}

/// An error that may have a database error as its cause.
pub(crate) trait Failure {
    /// The underlying database error, if there is one.
    fn below(&self) -> Option<&DbErr>;
}

impl Failure for Error {
    fn below(&self) -> Option<&DbErr> {
        self.db()
    }
}

impl Failure for DbErr {
    fn below(&self) -> Option<&DbErr> {
        Some(self)
    }
}

impl<F: Failure> Failure for &F {
    fn below(&self) -> Option<&DbErr> {
        (**self).below()
    }
}

/// True for a failure that the line about an outage covers. A timeout of the pool is one only
/// during an outage: otherwise, other requests may hold all connections.
pub(crate) fn explains(failure: &impl Failure) -> bool {
    let away = AWAY.load(Ordering::Relaxed) > 0;
    PROBED.load(Ordering::Relaxed)
        && failure
            .below()
            .is_some_and(|err| error_codes::is_unreachable(err) && (away || !error_codes::is_acquire_timeout(err)))
}

/// `log_failure!(warn, err, field = value, "message")`: logs a failure; at `debug` only if an
/// outage explains it. It is a macro because `tracing` fixes an event's fields where it is written.
macro_rules! log_failure {
    ($level:ident, $err:expr, $($rest:tt)*) => {
        if $crate::kernel::outage::explains(&$err) {
            tracing::debug!(error = %$err, $($rest)*)
        } else {
            tracing::$level!(error = %$err, $($rest)*)
        }
    };
}

//! Outages of a database, as the log tells them: one line when one begins and one when it is over. While it lasts, what
//! fails for want of a connection has no line of its own.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sea_orm::DbErr;

use crate::kernel::db::dialect;
use crate::kernel::error::Error;

/// True once the databases of this process are probed.
static PROBED: AtomicBool = AtomicBool::new(false);
/// Databases that are away.
static AWAY: AtomicUsize = AtomicUsize::new(0);

/// Notes that a database is probed: its outages have their lines.
pub(crate) fn probed() {
    PROBED.store(true, Ordering::Relaxed);
}

/// Notes that a database is away, or is back.
pub(crate) fn note(away: bool) {
    match away {
        true => AWAY.fetch_add(1, Ordering::Relaxed),
        false => AWAY.fetch_sub(1, Ordering::Relaxed),
    };
}

/// A failure that may be one of the database's.
pub(crate) trait Failure {
    /// The database's error below, if that is what it is.
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

/// Returns true for a failure that the line about an outage stands for. A connection that was not free in time is one only
/// while there is an outage: others may have had them all.
pub(crate) fn explains(failure: &impl Failure) -> bool {
    let away = AWAY.load(Ordering::Relaxed) > 0;
    PROBED.load(Ordering::Relaxed)
        && failure.below().is_some_and(|err| dialect::is_away(err) && (away || !dialect::waited(err)))
}

/// `log_failure!(warn, err, field = value, "message")`: a line in the log, but for what an outage explains, which is told
/// at `debug` only.
macro_rules! log_failure {
    ($level:ident, $err:expr, $($rest:tt)*) => {
        if $crate::kernel::outage::explains(&$err) {
            tracing::debug!(error = %$err, $($rest)*)
        } else {
            tracing::$level!(error = %$err, $($rest)*)
        }
    };
}

//! Housekeeping: what is kept for a time only goes when its time is over.

use super::{Gear, Wake};
use crate::{idempotency, limits, stuck};

/// Looks now and then, for ever.
pub(super) async fn run(gear: Gear, mut wake: Wake) {
    loop {
        if let Err(err) = gear.db.keep_time().await {
            tracing::warn!(error = %err, "the database's clock could not be read");
        }
        if let Err(err) = idempotency::forget(&gear.db).await {
            tracing::error!(error = %err, "old idempotency keys could not be let go");
        }
        if let Err(err) = stuck::forget(&gear.db).await {
            tracing::error!(error = %err, "work that nobody tries any more could not be let go");
        }
        if !wake.pause(limits::FORGET_EVERY).await {
            return;
        }
    }
}

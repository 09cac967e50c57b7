//! A run's audience, place by place.

use async_graphql::{Context, Object, Result};
use entity::run_record::{Outcome, RecipientReason};

use crate::graphql::loader::load;
use crate::graphql::record::Record;

/// One place of a run's audience.
pub struct RunRecord(pub entity::run_record::Model);

/// One place of a run's audience.
#[Object]
impl RunRecord {
    /// The record; null for a test recipient without a sample.
    async fn record(&self, ctx: &Context<'_>) -> Result<Option<Record>> {
        Ok(load(ctx, self.0.record_id).await?.map(Record))
    }

    /// Its address at launch; null where it had none.
    async fn address(&self) -> Option<&str> {
        self.0.address.as_deref()
    }

    /// What came of it; null while it is open.
    async fn outcome(&self) -> Option<Outcome> {
        self.0.outcome
    }

    /// Why it was skipped or failed: NO_ADDRESS, UNSUBSCRIBED, DUPLICATE_ADDRESS, REJECTED, RUN_CANCELLED … with what
    /// was said; null where it was not.
    async fn reason(&self) -> Option<&str> {
        self.0.reason.as_deref()
    }

    /// The code alone, for programs; null where there is no reason.
    async fn reason_code(&self) -> Option<RecipientReason> {
        self.0.reason.as_deref().map(RecipientReason::of)
    }
}

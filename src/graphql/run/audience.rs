//! A run's audience: one entry per recipient.

use async_graphql::{Context, Object, Result};
use entity::run_record::{Outcome, RecipientReason};

use crate::graphql::loader::load;
use crate::graphql::record::Record;

/// A recipient: one record's entry in a run's audience.
pub struct RunRecord(pub entity::run_record::Model);

/// A recipient: one record's entry in a run's audience.
#[Object]
impl RunRecord {
    /// The record; null for a test recipient without a sample.
    async fn record(&self, ctx: &Context<'_>) -> Result<Option<Record>> {
        Ok(load(ctx, self.0.record_id).await?.map(Record))
    }

    /// Address at the launch; null if it had none.
    async fn address(&self) -> Option<&str> {
        self.0.address.as_deref()
    }

    /// Outcome for the recipient; null while it is open.
    async fn outcome(&self) -> Option<Outcome> {
        self.0.outcome
    }

    /// Reason for a skip or failure: NO_ADDRESS, UNSUBSCRIBED, DUPLICATE_ADDRESS, REJECTED,
    /// RUN_CANCELLED …, followed by details; null for other outcomes.
    async fn reason(&self) -> Option<&str> {
        self.0.reason.as_deref()
    }

    /// Code of the reason, for programs; null if there is no reason.
    async fn reason_code(&self) -> Option<RecipientReason> {
        self.0.reason.as_deref().map(RecipientReason::of)
    }
}

//! A run's audience: one entry per recipient.

use async_graphql::{Context, Object, Result};
use entity::run_record::{Outcome, RecipientReason};

use crate::graphql::loader::load;
use crate::graphql::record::Record;
use crate::graphql::selection::{Row, RowFields};

/// A recipient: one record's entry in a run's audience.
pub struct RunRecord(pub entity::run_record::Model);

impl RowFields for RunRecord {}

/// A recipient: one record's entry in a run's audience.
#[Object]
impl RunRecord {
    /// The record; null for a test recipient without a sample.
    async fn record(&self, ctx: &Context<'_>) -> Result<Option<Row<Record>>> {
        Ok(load(ctx, self.0.record_id).await?.map(Record).map(Row))
    }

    /// Address that its messages go to: the record's address at launch, or its current one if that
    /// changed before anything was sent. Null if it had none, and in runs that send nothing.
    async fn address(&self) -> Option<&str> {
        self.0.address.as_deref()
    }

    /// Outcome for the recipient; null while it is open.
    async fn outcome(&self) -> Option<Outcome> {
        self.0.outcome
    }

    /// Reason of the outcome SKIPPED, FAILED, SUPPRESSED or UNKNOWN: NO_ADDRESS, UNSUBSCRIBED,
    /// DUPLICATE_ADDRESS, REJECTED, RUN_CANCELLED …, in some cases followed by details. Null for
    /// other outcomes, and while it is open.
    async fn reason(&self) -> Option<&str> {
        self.0.reason.as_deref()
    }

    /// Code of the reason, for programs; null if there is no reason.
    async fn reason_code(&self) -> Option<RecipientReason> {
        self.0.reason.as_deref().map(RecipientReason::of)
    }
}

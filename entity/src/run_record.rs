//! A run's audience: one place per record (or test recipient), with its address at launch and what came of it.

use sea_orm::entity::prelude::*;

use crate::id::*;

words! {
    /// What came of one place of the audience.
    pub enum Outcome {
        /// Its message went out (or its call was made).
        Sent,
        /// It could not be done.
        Failed,
        /// Its address is on the list of those that are never written to.
        Suppressed,
        /// Left out, with the reason.
        Skipped,
        /// Its work is done; there was nothing to send.
        Done,
        /// Whether the message went out could not be learned.
        Unknown,
    }
}

/// One place.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "run_record")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RunRecordId,
    /// The tenant.
    pub org_id: OrgId,
    /// The run.
    pub run_id: RunId,
    /// The record; none for a test recipient without a sample.
    pub record_id: Option<RecordId>,
    /// The address at launch, as it is written to; none: unreachable.
    pub address: Option<String>,
    /// The address, normalised: one message per run and address. None for test runs and places left out.
    pub address_key: Option<String>,
    /// What came of it; none as long as it is open.
    pub outcome: Option<Outcome>,
    /// Why, for skipped and failed ones.
    pub reason: Option<String>,
    /// Whether guided work was begun with it; the others came in by what was done there.
    pub linked: bool,
}

impl ActiveModelBehavior for ActiveModel {}

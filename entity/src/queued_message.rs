//! The send queue: messages that a person's action approved, until their outcome is known.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;

/// One queued message; deleted when the outcome of its message is known.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "posting")]
pub struct Model {
    /// The message.
    #[sea_orm(primary_key, auto_increment = false)]
    pub communication_id: CommunicationId,
    /// The tenant.
    pub org_id: OrgId,
    /// The run.
    pub run_id: RunId,
    /// The step.
    pub step_id: StepId,
    /// The actor that approved it.
    pub actor: Actor,
    /// Time before which it is not claimed.
    pub available_at: DateTimeUtc,
    /// Attempt number, incremented by each claim; a worker with an older attempt can't settle it.
    pub attempt: i32,
    /// Number of temporary refusals.
    pub failures: i32,
    /// The worker that holds the lease.
    pub lease_owner: Option<String>,
    /// Expiry of the lease.
    pub lease_expires_at: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}

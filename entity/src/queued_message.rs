//! A message that a person's action let out and that is on its way: the queue that the engine sends from.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;

/// One of them; it goes when the fate of its message is known.
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
    /// Who let it out.
    pub actor: Actor,
    /// Not to be taken before.
    pub available_at: DateTimeUtc,
    /// Rises each time it is taken, and fences out the late.
    pub attempt: i32,
    /// How often it was refused so that it may go later.
    pub failures: i32,
    /// Who has it in hand.
    pub lease_owner: Option<String>,
    /// Until when.
    pub lease_expires_at: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}

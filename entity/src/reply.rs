//! What came back, tied to its communication, run and record.

use sea_orm::entity::prelude::*;

use crate::Channel;
use crate::actor::Actor;
use crate::id::*;

/// One reply.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "reply")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ReplyId,
    /// The tenant.
    pub org_id: OrgId,
    /// What it answers.
    pub communication_id: CommunicationId,
    /// The plan; none of guided work.
    pub campaign_id: Option<CampaignId>,
    /// The run.
    pub run_id: RunId,
    /// Whose reply.
    pub record_id: Option<RecordId>,
    /// The way it came.
    pub channel: Channel,
    /// Its id where it came from; the same one is recorded once.
    pub external_id: Option<String>,
    /// Its subject, if any.
    pub subject: Option<String>,
    /// Its text.
    pub body: String,
    /// When it came.
    pub received_at: DateTimeUtc,
    /// Who recorded it.
    pub recorded_by: Actor,
    /// When it was recorded.
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}

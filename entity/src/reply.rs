//! Replies, linked to their communication, run and record.

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
    /// The message that it answers.
    pub communication_id: CommunicationId,
    /// The campaign; null for guided work.
    pub campaign_id: Option<CampaignId>,
    /// The run.
    pub run_id: RunId,
    /// The record that replied.
    pub record_id: Option<RecordId>,
    /// The channel.
    pub channel: Channel,
    /// Id in the external system; a reply with the same id is recorded once.
    pub external_id: Option<String>,
    /// Subject, if any.
    pub subject: Option<String>,
    /// Body.
    pub body: String,
    /// Time of receipt.
    pub received_at: DateTimeUtc,
    /// The actor that recorded it.
    pub recorded_by: Actor,
    /// Time at which it was recorded.
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}

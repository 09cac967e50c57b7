//! Approvals of campaigns: one row per approval, with the approved content.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;

/// One approval.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "campaign_approval")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: CampaignApprovalId,
    /// The tenant.
    pub org_id: OrgId,
    /// The campaign.
    pub campaign_id: CampaignId,
    /// The campaign's version.
    pub version: i32,
    /// The approved content: each part that the approval covers, by its name.
    pub approved: Json,
    /// The person who approved it.
    pub actor: Actor,
    /// The time of the approval.
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}

//! The plan as it was approved: one row per approval.

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
    /// The plan.
    pub campaign_id: CampaignId,
    /// The plan's version.
    pub version: i32,
    /// What was approved: each thing that matters, by its name.
    pub approved: Json,
    /// The person who approved it.
    pub actor: Actor,
    /// The time of the approval.
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}

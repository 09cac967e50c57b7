//! Tags of campaigns.

use sea_orm::entity::prelude::*;

use crate::id::*;

/// One tag of a campaign.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "campaign_tag")]
pub struct Model {
    /// The campaign.
    #[sea_orm(primary_key, auto_increment = false)]
    pub campaign_id: CampaignId,
    /// The tag, as it was given.
    #[sea_orm(primary_key, auto_increment = false)]
    pub tag: String,
    /// The tenant.
    pub org_id: OrgId,
}

impl ActiveModelBehavior for ActiveModel {}

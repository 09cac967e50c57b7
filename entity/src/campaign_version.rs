//! Versions of campaigns: one row per edit.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;

/// One version of a campaign.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "campaign_version")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: CampaignVersionId,
    /// The tenant.
    pub org_id: OrgId,
    /// The campaign.
    pub campaign_id: CampaignId,
    /// Version number, from 1.
    pub version: i32,
    /// The changes, as a list of `{field, from, to}`.
    pub changes: Json,
    /// The actor that made the change.
    pub actor: Actor,
    /// Time of the edit.
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}

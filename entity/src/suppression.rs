//! An address that is never written to.

use sea_orm::entity::prelude::*;

use crate::Channel;
use crate::actor::Actor;
use crate::id::*;

/// One address. Unique per org, channel and normalised address.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "suppression")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SuppressionId,
    /// The tenant.
    pub org_id: OrgId,
    /// The way it would be written to.
    pub channel: Channel,
    /// The address as it was given.
    pub address: String,
    /// The address, normalised.
    pub address_key: String,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub created_by: Actor,
    /// When.
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}

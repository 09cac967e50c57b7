//! An address that is never written to.

use sea_orm::entity::prelude::*;

use crate::Channel;
use crate::actor::Actor;
use crate::id::*;

/// One address. Unique per org, channel and normalised address where somebody listed it; per org, address and record where
/// an opt-out did, which rules every channel of that address.
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
    /// The record whose opt-out put it here; none where somebody did. No foreign key: the list outlives the record.
    pub record_id: Option<RecordId>,
    /// Who said so.
    pub created_by: Actor,
    /// When.
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}

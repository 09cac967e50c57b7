//! Suppressed addresses: a listed one receives nothing on its channel, that of an opt-out nothing
//! on any channel.

use sea_orm::entity::prelude::*;

use crate::Channel;
use crate::actor::Actor;
use crate::id::*;

/// One address. Unique per org, channel and normalised address if a person listed it; per org,
/// address and record if an opt-out did, which covers every channel of that address.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "suppression")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SuppressionId,
    /// The tenant.
    pub org_id: OrgId,
    /// The channel.
    pub channel: Channel,
    /// The address as it was given.
    pub address: String,
    /// The normalised address.
    pub address_key: String,
    /// The reason.
    pub reason: String,
    /// The record whose opt-out caused the entry; null if a person added it. No foreign key: the
    /// list outlives the record.
    pub record_id: Option<RecordId>,
    /// The actor that added it.
    pub created_by: Actor,
    /// Creation time.
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
